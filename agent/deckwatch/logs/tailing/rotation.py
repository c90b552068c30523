"""Where the files of a path are after a rotation: under another name, in a copy, or gone; and which ones are new."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from deckwatch.logs.tailing.followed_file import Replaced
from deckwatch.logs.tailing.known_files import head_of, starts_at
from deckwatch.logs.tailing.rotated_names import Sibling

if TYPE_CHECKING:
    from deckwatch.logs.tailing.followed_file import FollowedFile
    from deckwatch.logs.tailing.known_files import KnownFiles
    from deckwatch.logs.tailing.path_history import PathHistory


class Whereabouts:
    """Finds files by inode and by what they begin with."""

    def __init__(self, known: KnownFiles) -> None:
        self._known = known

    def locate(
        self,
        history: PathHistory,
        siblings: list[Sibling],
        status: os.stat_result | None,
        lost_inode: tuple[int, int] | None,
        now: float,
    ) -> tuple[list[FollowedFile], int]:
        """The files of the path that are gone, and when (mtime, Unix nanoseconds) the last of all before it changed.

        The content of the file at `lost_inode` is gone, and is looked for in copies. Raises FileNotFoundError and
        Replaced when a file is renamed meanwhile.
        """
        places = {sibling.inode: sibling for sibling in siblings}
        live_inode = None
        if status is not None:
            live_inode = status.st_dev, status.st_ino
            places[live_inode] = Sibling(history.path, status, False)
        places.pop(lost_inode, None)  # type: ignore[arg-type]
        copies = [sibling for sibling in reversed(siblings) if sibling.own]
        lost, reference = [], -1
        for file in [*history.files, *history.finished]:
            if not file.links:
                reference = max(reference, file.read_mtime)
            elif not self._locate_one(file, places.get(file.inode), copies, now):
                lost.append(file)
                reference = max(reference, file.read_mtime)
            elif file.inode != live_inode:
                reference = max(reference, file.mtime)
        return lost, reference

    def _locate_one(self, file: FollowedFile, found: Sibling | None, copies: list[Sibling], now: float) -> bool:
        """Find where a known file is now, or the copy that has what was truncated; false when it is gone."""
        if file.fd >= 0:
            if found is not None:
                file.place = found.path
            file.saw(os.fstat(file.fd), now)
            return True
        if not file.identity.length:
            return False  # what is there now need not be all that came since it was empty
        mine = self._known.by_inode(file.inode) in (None, file)
        if found is not None and mine and self.holds(file, found.path, found.status):
            self._known.placed(file, found.path)
            file.saw(found.status, now)
            return True
        if file.is_finished:
            return False
        for copy in copies:
            if self._holder(copy) is None and _begins_as(copy.path, file, copy.inode):
                self._known.moved(file, copy.path, copy.status)
                file.final = True
                return True
        return False

    def holds(self, file: FollowedFile, place: str, status: os.stat_result) -> bool:
        """Whether what is at `place`, with the file's inode, is still that file."""
        if file.fd >= 0:
            return True
        inode = status.st_dev, status.st_ino
        return status.st_size >= file.offset and starts_at(place, file.identity, inode)

    def _holder(self, sibling: Sibling) -> FollowedFile | None:
        known = self._known.by_inode(sibling.inode)
        if known is not None and not known.identity.length and known.fd < 0:
            return None  # it was empty: nothing of what is there now was read
        return known if known is not None and self.holds(known, sibling.path, sibling.status) else None

    def is_new(self, history: PathHistory, sibling: Sibling) -> bool:
        if self._holder(sibling) is not None:
            return False
        return not self.is_copy(history, sibling.path, sibling.status)

    def is_copy(self, history: PathHistory, place: str, status: os.stat_result) -> bool:
        """Whether the file at `place` can be a copy of one of the path, made before that is truncated.

        One that is empty can become one. Raises Replaced when the file is not there any more.
        """
        size, inode = status.st_size, (status.st_dev, status.st_ino)
        if not size or _is_prefix(place, inode, history.path):
            return True
        return any(
            _begins_as(place, file, inode) and not _is_shorter(file, size)
            for file in (*history.files, *history.finished)
            if file.identity.length
        )


def _is_prefix(place: str, inode: tuple[int, int], path: str) -> bool:
    """Whether the file at `path` begins with what the one at `place` begins with."""
    head = head_of(place, inode)
    try:
        return os.stat(path).st_ino != inode[1] and head_of(path).startswith(head)
    except OSError:
        return False


def _is_shorter(file: FollowedFile, size: int) -> bool:
    """Whether the file, not truncated, has less than `size` bytes: no copy of it could have them."""
    try:
        status = os.stat(file.place)
        return (status.st_dev, status.st_ino) == file.inode and status.st_size < size and _begins_as(file.place, file)
    except OSError:
        return False


def _begins_as(place: str, file: FollowedFile, inode: tuple[int, int] | None = None) -> bool:
    try:
        return starts_at(place, file.identity, inode)
    except PermissionError:
        return False  # a neighbour that may not be read is no copy for us


def is_unchanged(file: FollowedFile) -> bool:
    """Whether it begins as before; true also when it is not there any more, which is noticed by its path."""
    try:
        return starts_at(file.place, file.identity, file.inode)
    except (FileNotFoundError, Replaced):
        return True
