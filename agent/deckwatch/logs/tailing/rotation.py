"""Detects rotation: whether a path's files were renamed, copied or deleted, and which rotated files are new."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from deckwatch.logs.tailing.fingerprint import FINGERPRINT_BYTES, Replaced, is_prefix, opened, starts_as
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
                continue
            is_located = self._locate_one(file, by_inode.get(file.inode), copies, now)
            if not (is_located and file.inode in by_inode) and not file.is_finished:
                at_path = [] if status is None else [RotatedFile(history.path, status, False)]
                replacement = next((one for one in at_path + copies if self._replaces(one, file)), None)
                if replacement is not None:
                    self._known.continue_in_replacement(file, replacement.path, replacement.status, now)
                    is_located = True
            if not is_located:
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
            if found is None or found.status.st_size or str(found.status.st_mtime_ns) != file.identity.fingerprint:
                return False  # it was empty: the current content may not be everything written since
            self._known.found_at(file, found.path)
            return True
        has_inode = self._known.by_inode(file.inode) in (None, file)
        if found is not None and has_inode and self.is_still_at(file, found.path, found.status):
            self._known.found_at(file, found.path)
            file.observe(found.status, now)
            return True
        if file.is_finished:
            return False
        for copy in copies:
            if self._owner(copy) is None and _has_content(copy, file):
                self._known.continue_in_copy(file, copy.path, copy.status, now)
                return True
        return False

    def _replaces(self, other: RotatedFile, file: FollowedFile) -> bool:
        """Whether a copy of the file, with more lines or not, took its path, as editors and rsync do it."""
        has_content = file.offset or (file.is_open and file.identity.length)
        if not has_content or self._known.by_inode(other.inode) is not None:
            return False
        with opened(other.path, other.inode) as fd:
            return file.is_all_in(fd, other.status.st_size)

    def is_still_at(self, file: FollowedFile, path: str, status: os.stat_result) -> bool:
        """Return whether the file at `path`, which has the same inode, is still that file."""
        if file.is_open:
            return True
        inode = status.st_dev, status.st_ino
        return status.st_size >= file.offset and file.is_content_at(path, inode)

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
        if not size:
            return True
        try:
            with opened(path, inode) as fd:
                return _is_prefix_of_path(fd, size, history.path) or any(
                    file.begins_with_content_of(fd, size) for file in history.all_files() if file.identity.length
                )
        except PermissionError:
            return False  # an unreadable file is not considered a copy


def is_unchanged(file: FollowedFile) -> bool:
    """Whether the file begins as before; true also when it is not there any more, which `PathTracker.check` sees."""
    try:
        return file.is_content_at(file.current_path, file.inode)
    except (FileNotFoundError, Replaced):
        return True


def _is_prefix_of_path(fd: int, size: int, live_path: str) -> bool:
    """Whether the file at `live_path` begins as the open one of `size` bytes."""
    try:
        with opened(live_path) as live:
            return not os.path.samestat(os.fstat(live), os.fstat(fd)) and is_prefix(fd, size, live)
    except OSError:
        return False


def _has_content(copy: RotatedFile, file: FollowedFile) -> bool:
    """Whether the copy has what was read of the file. It may lack lines that were written while it was made."""
    try:
        with opened(copy.path, copy.inode) as fd:
            if copy.status.st_size < file.offset:
                return starts_as(os.pread(fd, FINGERPRINT_BYTES, 0), file.identity)
            return file.is_content_of(fd)
    except PermissionError:
        return False
