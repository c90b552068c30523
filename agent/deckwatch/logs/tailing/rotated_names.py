"""The names that rotation gives to the files of a path, and the files that have such names.

For `app.log`: `app.log.1`, `app.log.2026-03-02`, `app-20260302.log`, `app.2026-03-02.log` (logrotate with and without
dateext and extension, Python's handlers, kubelet).
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
_COUNTED = re.compile(r"[-._:T\d+Z]*\d[-._:T\d+Z]*")
# A rename in progress can hide a file from a listing, so it is repeated until two results agree.
_TRIES = 10


class RotatedFile(NamedTuple):
    """A file in a path's folder with the name of a rotated file.

    It was rotated away from that path if it is `own`, otherwise from the path that both were rotated away from.
    """

    path: str
    status: os.stat_result
    is_numbered: bool  # its name differs by a number or date only
    is_own: bool = True

    @property
    def inode(self) -> tuple[int, int]:
        return self.status.st_dev, self.status.st_ino


def live_names(name: str) -> Iterator[str]:
    """The names that a file of this name can have been rotated away from, by adding a number or date."""
    suffix = PurePath(name).suffix
    for index, character in enumerate(name):
        if index and character in "-.":
            if character == "." and _COUNTED.fullmatch(name, index + 1):
                yield name[:index]
            if _COUNTED.fullmatch(name, index + 1, len(name) - len(suffix)):
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
            found.append(RotatedFile(path, status, bool(_COUNTED.fullmatch(added or "")), added is not None))
    return found


def _added(name: str, other: str) -> str | None:
    """Return what rotation added to `name` to form `other`; None if `other` is not a rotated name of it."""
    if other.startswith(name + "."):
        return other[len(name) + 1 :]
    stem, dot, extension = name.rpartition(".")
    if stem and len(other) > len(name) and other.startswith((stem + "-", stem + ".")):
        suffix = dot + extension
        if other.endswith(suffix):
            return other[len(stem) + 1 : -len(suffix)]
    return None
