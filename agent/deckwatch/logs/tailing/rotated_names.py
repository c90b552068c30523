"""The names that rotation gives to the files of a path, and the files that have such names.

For `app.log`: `app.log.1`, `app.log-20260302`, `app-20260302.log`, `app.log.2026-03-02_10-30`,
`app.2026-03-02_10-30-00_123456.log`, `app.log.old` (logrotate with and without dateext and extension, Python's
handlers, loguru, kubelet).
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.logs.tailing.discovery import is_compressed

if TYPE_CHECKING:
    from collections.abc import Iterator

# Numbers and dates: what a rotation adds to a name, and `.bak` is not.
_COUNTED = re.compile(r"[-._:T\d+Z]*\d[-._:T\d+Z]*|old")
_SEPARATORS = ("-", ".", "_")
# A rename in progress can hide a file from a listing, so it is repeated until two results agree.
_TRIES = 10


class RotatedFile(NamedTuple):
    """A file in a path's folder with the name of a rotated file.

    If it is `own`, it can be a copy of the path's file. A successor that was not known before is `numbered`, too.
    """

    path: str
    status: os.stat_result
    is_numbered: bool  # its name differs by a number, a date or `old` only
    is_own: bool = True

    @property
    def inode(self) -> tuple[int, int]:
        return self.status.st_dev, self.status.st_ino


def live_names(name: str) -> Iterator[str]:
    """The names that a file of this name can have been rotated away from, by adding a number or date."""
    suffix = PurePath(name).suffix
    for index, character in enumerate(name):
        if index and character in _SEPARATORS:
            if _COUNTED.fullmatch(name, index + 1):
                yield name[:index]
            if suffix and _COUNTED.fullmatch(name, index + 1, len(name) - len(suffix)):
                yield name[:index] + suffix


def find_rotated_files(path: str) -> list[RotatedFile]:
    """The rotated files of `path` in its folder (links followed), oldest first.

    Raises OSError when the folder cannot be listed; one that is not there has none.
    """
    real = os.path.realpath(path)
    folder, name = os.path.split(real)
    found: dict[tuple[int, int], RotatedFile] = {}
    before: dict[str, tuple[int, int]] | None = None
    for _ in range(_TRIES):
        listed = _list(folder, name)
        found.update((file.inode, file) for file in listed)
        seen = {file.path: file.inode for file in listed}
        if seen == before:
            break
        before = seen
    return sorted(found.values(), key=lambda file: file.status.st_mtime_ns)


def _list(folder: str, name: str) -> list[RotatedFile]:
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    origins = list(live_names(name))
    found = []
    for other in names:
        if other == name or is_compressed(other):
            continue
        added = _added(name, other)
        if added is None and all(_added(origin, other) is None for origin in origins):
            continue
        path = os.path.join(folder, other)
        try:
            status = os.stat(path)
        except OSError:
            continue  # renamed once more, or a link to nowhere
        if stat.S_ISREG(status.st_mode):
            is_numbered = bool(_COUNTED.fullmatch(added or ""))
            # `app.access.log` can be `app.log` under another name, but more likely is a neighbor.
            is_own = is_numbered or (added is not None and other.startswith(name))
            found.append(RotatedFile(path, status, is_numbered, is_own))
    return found


def _added(name: str, other: str) -> str | None:
    """Return what rotation added to `name` to form `other`; None if `other` is not a rotated name of it."""
    if len(other) <= len(name):
        return None
    if other.startswith(name) and other[len(name)] in _SEPARATORS:
        return other[len(name) + 1 :]
    stem, dot, extension = name.rpartition(".")
    if stem and other.startswith(stem) and other[len(stem)] in _SEPARATORS:
        suffix = dot + extension
        if other.endswith(suffix):
            return other[len(stem) + 1 : -len(suffix)]
    return None
