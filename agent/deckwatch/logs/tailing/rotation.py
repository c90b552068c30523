"""Detects rotation: whether a path's files were renamed, copied or deleted, and which rotated files are new."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from deckwatch.logs.tailing.fingerprint import Replaced, head_of, starts_at
from deckwatch.logs.tailing.rotated_names import RotatedFile

if TYPE_CHECKING:
    from deckwatch.logs.tailing.followed_file import FollowedFile
    from deckwatch.logs.tailing.known_files import KnownFiles
    from deckwatch.logs.tailing.path_history import PathHistory


class RotationDetector:
    """Finds files by their inode and by their first bytes."""

    def __init__(self, known: KnownFiles) -> None:
        self._known = known

    def locate(
        self,
        history: PathHistory,
        rotated: list[RotatedFile],
        status: os.stat_result | None,
        truncated_inode: tuple[int, int] | None,
        now: float,
    ) -> tuple[list[FollowedFile], int]:
        """Find the path's known files again.

        `status` is that of the file at the path. The content of the file with `truncated_inode` is gone, and may be in
        a copy. Returns the files that are gone, and the mtime (Unix nanoseconds) of the newest file that is not at the
        path. Raises FileNotFoundError and Replaced when a file is renamed meanwhile.
        """
        by_inode = {file.inode: file for file in rotated}
        live_inode = None
        if status is not None:
            live_inode = status.st_dev, status.st_ino
            by_inode[live_inode] = RotatedFile(history.path, status, False)
        if truncated_inode is not None:
            by_inode.pop(truncated_inode, None)
        copies = [file for file in reversed(rotated) if file.is_own]
        gone, newest = [], -1
        for file in history.all_files():
            if file.is_deleted:
                newest = max(newest, file.read_mtime)
            elif not self._locate_one(file, by_inode.get(file.inode), copies, now):
                gone.append(file)
                newest = max(newest, file.read_mtime)
            elif file.inode != live_inode:
                newest = max(newest, file.mtime)
        return gone, newest

    def _locate_one(self, file: FollowedFile, found: RotatedFile | None, copies: list[RotatedFile], now: float) -> bool:
        """Find the current path of a known file, or the copy with its content. Return False if it was deleted."""
        if file.is_open:
            if found is not None:
                file.found_at(found.path)
            file.observe_open(now)
            return True
        if not file.identity.length:
            return False  # it was empty: the current content may not be everything written since
        has_inode = self._known.by_inode(file.inode) in (None, file)
        if found is not None and has_inode and self.is_still_at(file, found.path, found.status):
            self._known.found_at(file, found.path)
            file.observe(found.status, now)
            return True
        if file.is_finished:
            return False
        for copy in copies:
            if self._owner(copy) is None and _begins_as(copy.path, file, copy.inode):
                self._known.continue_in_copy(file, copy.path, copy.status, now)
                return True
        return False

    def is_still_at(self, file: FollowedFile, path: str, status: os.stat_result) -> bool:
        """Return whether the file at `path`, which has the same inode, is still that file."""
        if file.is_open:
            return True
        inode = status.st_dev, status.st_ino
        return status.st_size >= file.offset and starts_at(path, file.identity, inode)

    def _owner(self, rotated: RotatedFile) -> FollowedFile | None:
        """The known file that this one is."""
        known = self._known.by_inode(rotated.inode)
        if known is not None and not known.identity.length and not known.is_open:
            return None  # it was empty: none of the current content was read
        return known if known is not None and self.is_still_at(known, rotated.path, rotated.status) else None

    def is_new(self, history: PathHistory, rotated: RotatedFile) -> bool:
        """Whether a rotated file is neither known nor a copy of a known one."""
        return self._owner(rotated) is None and not self.is_copy(history, rotated.path, rotated.status)

    def is_copy(self, history: PathHistory, path: str, status: os.stat_result) -> bool:
        """Whether the file at `path` can be a copy of one of the history, made before that one is truncated.

        An empty file can become one. Raises Replaced when the file is not there any more.
        """
        size, inode = status.st_size, (status.st_dev, status.st_ino)
        if not size or _is_prefix(path, inode, history.path):
            return True
        return any(
            _begins_as(path, file, inode) and not _is_shorter(file, size)
            for file in history.all_files()
            if file.identity.length
        )


def is_unchanged(file: FollowedFile) -> bool:
    """Whether the file begins as before; true also when it is not there any more, which `PathTracker.check` sees."""
    try:
        return starts_at(file.current_path, file.identity, file.inode)
    except (FileNotFoundError, Replaced):
        return True


def _is_prefix(path: str, inode: tuple[int, int], live_path: str) -> bool:
    """Whether the file at `live_path` begins as the one at `path`."""
    head = head_of(path, inode)
    try:
        return os.stat(live_path).st_ino != inode[1] and head_of(live_path).startswith(head)
    except OSError:
        return False


def _is_shorter(file: FollowedFile, size: int) -> bool:
    """Whether the file, not truncated, has less than `size` bytes: no copy of it could have them."""
    path = file.current_path
    try:
        status = os.stat(path)
        return (status.st_dev, status.st_ino) == file.inode and status.st_size < size and _begins_as(path, file)
    except OSError:
        return False


def _begins_as(path: str, file: FollowedFile, inode: tuple[int, int] | None = None) -> bool:
    try:
        return starts_at(path, file.identity, inode)
    except PermissionError:
        return False  # an unreadable file is not considered a copy
