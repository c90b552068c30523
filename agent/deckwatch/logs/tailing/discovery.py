"""Finds the files that match a pattern: `*`, `?`, `[...]` in one part of a path, `**` for any number of folders,
`{a,b}` for alternatives.

As in a shell, names that begin with a dot need a pattern that does. `**` does not follow links to folders, so that a
link to its own folder cannot lead in circles.
"""

from __future__ import annotations

import glob
import os
import re
import time
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# Seconds between two walks of folders that match a wildcard. A fixed folder is checked each time.
_WALK_EVERY = 10.0
# A file created in the same tick of the file system's clock as the last listing does not change the folder's mtime.
_TICK_SECONDS = 0.1
_BRACES = re.compile(r"\{([^{}]*,[^{}]*)\}")  # the innermost ones
_MAX_ALTERNATIVES = 1000
_COMPRESSED = (".gz", ".zst", ".bz2", ".xz", ".lz4", ".zip", ".Z")


def is_compressed(name: str) -> bool:
    """Return whether a file name has the extension of a compressed file."""
    return name.endswith(_COMPRESSED)


class Discovery:
    """Finds paths that match `pattern` and none of `exclude` (whole paths, or file names if without `/`)."""

    def __init__(self, pattern: str, exclude: Sequence[str], problem: Callable[[str, str], None]) -> None:
        self._patterns = [_split(one) for one in _alternatives(pattern)]
        self._exclude = [(_split(one), "/" in one) for each in exclude for one in _alternatives(each)]
        self._problem = problem
        self._folder_mtime = -1
        self._listed_at = 0.0  # wall clock, as the mtime is
        self._walked: float | None = None
        folders = {_join(root, parts[:-1]) for root, parts in self._patterns}
        folder = folders.pop()
        self._fixed_folder = None if folders or glob.has_magic(folder) else folder

    def matches(self, path: str) -> bool:
        """Return whether the path matches the pattern. The file need not exist."""
        root, names = _split(path)
        if is_compressed(path) or not any(root == own and _parts_match(parts, names) for own, parts in self._patterns):
            return False
        return not self.excludes(path)

    def excludes(self, path: str) -> bool:
        """Return whether `exclude` names the path, which need not match the pattern."""
        root, names = _split(path)
        for (exclude_root, exclude_parts), whole in self._exclude:
            if whole and exclude_root == root and _parts_match(exclude_parts, names):
                return True
            if not whole and fnmatchcase(names[-1], exclude_parts[-1]):
                return True
        return False

    def find(self, now: float) -> list[str] | None:
        """Return the matching paths, sorted; None if nothing can have changed since the last call.

        `now` is in seconds of a monotonic clock.
        """
        if self._fixed_folder is not None and not self._folder_changed(self._fixed_folder, now):
            return None
        if self._fixed_folder is None and self._walked is not None and now - self._walked < _WALK_EVERY:
            return None
        self._walked = now
        found = {path for root, parts in self._patterns for path in self._walk(root, parts, "**" in parts)}
        return sorted(path for path in found if self.matches(path))

    def _folder_changed(self, folder: str, now: float) -> bool:
        try:
            mtime = os.stat(folder or ".").st_mtime_ns
        except OSError:
            mtime = 0
        wall = time.time()
        unsure = abs(self._listed_at - self._folder_mtime / 1e9) < _TICK_SECONDS
        if mtime == self._folder_mtime and not unsure and self._walked is not None and now - self._walked < _WALK_EVERY:
            return False
        self._folder_mtime, self._listed_at = mtime, wall
        return True

    def _walk(self, folder: str, parts: Sequence[str], is_deep: bool) -> Iterator[str]:
        part, rest = parts[0], parts[1:]
        if part == "**":
            yield from self._walk(folder, rest, is_deep)
            for entry in self._entries(folder):
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                    yield from self._walk(folder + entry.name + "/", parts, is_deep)
        elif not glob.has_magic(part):
            if rest:
                yield from self._walk(folder + part + "/", rest, is_deep)
            elif os.path.lexists(folder + part):
                yield folder + part
        else:
            for entry in self._entries(folder):
                if not _name_matches(entry.name, part):
                    continue
                if not rest:
                    # `**` is expected to match folders, so they are not reported as invalid files.
                    if not is_deep or not entry.is_dir(follow_symlinks=True):
                        yield folder + entry.name
                elif entry.is_dir():
                    yield from self._walk(folder + entry.name + "/", rest, is_deep)

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder or ".") as entries:
                found = list(entries)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            self._problem(folder, f"the folder cannot be listed: {error.strerror}")
            return []
        self._problem(folder, "")
        return found


def _alternatives(pattern: str) -> list[str]:
    """The patterns that `{a,b}` stands for, at most 1000. Braces without a comma are literal, as in a shell."""
    found, done = [pattern], 0
    while done < len(found) and len(found) <= _MAX_ALTERNATIVES:
        match = _BRACES.search(found[done])
        if match is None:
            done += 1
        else:
            one = found[done]
            found[done : done + 1] = [one[: match.start()] + it + one[match.end() :] for it in match[1].split(",")]
    return list(dict.fromkeys(found))


def _split(path: str) -> tuple[str, list[str]]:
    """The root (`/`, or nothing for a relative path) and the parts; a `**` at the end means the files below it."""
    root = "/" if path.startswith("/") else ""
    parts: list[str] = []
    for part in path.split("/"):
        if part and part != "." and not (part == "**" and parts and parts[-1] == "**"):
            parts.append(part)
    if parts and parts[-1] == "**":
        parts.append("*")
    return root, parts or [""]


def _join(root: str, parts: Sequence[str]) -> str:
    return root + "/".join(parts)


def _name_matches(name: str, part: str) -> bool:
    if name.startswith(".") and not part.startswith("."):
        return False
    return fnmatchcase(name, part)


def _parts_match(parts: Sequence[str], names: Sequence[str]) -> bool:
    if not parts or not names:
        return not parts and not names
    if parts[0] == "**":
        for index in range(len(names)):
            if _parts_match(parts[1:], names[index:]):
                return True
            if names[index].startswith("."):
                return False
        return False
    matches = _name_matches(names[0], parts[0]) if glob.has_magic(parts[0]) else names[0] == parts[0]
    return matches and _parts_match(parts[1:], names[1:])
