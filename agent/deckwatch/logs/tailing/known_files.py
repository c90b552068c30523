"""The files that a tail knows, by inode, and which of them are open."""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from typing import TYPE_CHECKING

from deckwatch.logs.entry import Identity
from deckwatch.logs.tailing.followed_file import (
    FINGERPRINT_BYTES,
    FollowedFile,
    NotRegular,
    Replaced,
    identity_of,
    open_regular,
    starts_as,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deckwatch.logs.entry import Position

# The usual limit of a process is 1024 descriptors; sockets, the spool and the collectors need some too.
_MAX_OPEN = 500


class KnownFiles:
    """Files by inode and by key. Of those that are open, the ones that were used least lately are closed."""

    def __init__(self, max_line: int, max_open: int = _MAX_OPEN) -> None:
        self._max_line = max_line
        self._max_open = max_open
        self._by_inode: dict[tuple[int, int], FollowedFile] = {}
        self._by_key: dict[str, FollowedFile] = {}
        self._open: OrderedDict[FollowedFile, None] = OrderedDict()

    def restore(self, key: str, position: Position) -> FollowedFile:
        """A file from before; where it is now is not known until `placed`."""
        file = FollowedFile(position.path, key, "", position.identity, position.offset, self._max_line)
        if not position.identity.length:
            file.read_mtime = int(position.identity.fingerprint or -1)
        self._by_key[key] = self._by_inode[file.inode] = file
        return file

    def begin(self, path: str, place: str, status: os.stat_result, now: float, after: str = "") -> FollowedFile:
        """A file that is new; `after` is the key of the one that had this inode before: it is not used again."""
        inode = status.st_dev, status.st_ino
        key = name = f"{inode[0]}:{inode[1]}"
        generation = 1
        if after == name or after.startswith(name + ":"):
            generation = int(after[len(name) + 1 :] or 1) + 1
            key = f"{name}:{generation}"
        while key in self._by_key:
            generation += 1
            key = f"{name}:{generation}"
        file = FollowedFile(path, key, place, empty(status), 0, self._max_line)
        self._by_key[key] = self._by_inode[inode] = file
        file.saw(status, now)
        file.read_mtime = file.mtime
        if status.st_size:
            # It may be gone from its path before its turn to be read comes.
            with contextlib.suppress(OSError):
                self.open(file)
                file.identity = identity_of(*inode, os.pread(file.fd, FINGERPRINT_BYTES, 0))
        return file

    def placed(self, file: FollowedFile, place: str) -> None:
        """The file was found there."""
        file.place = place
        file.missed = 0
        self._by_inode[file.inode] = file

    def moved(self, file: FollowedFile, place: str, status: os.stat_result) -> None:
        """The file goes on in a copy."""
        self._open.pop(file, None)
        self._release_inode(file)
        file.move_to(place, status)
        self.placed(file, place)

    def gone(self, file: FollowedFile) -> None:
        """There is no such file any more; what was read of it can still be committed."""
        file.is_finished, file.has_news, file.links = True, False, 0
        self.close(file)
        self._release_inode(file)

    def forget(self, file: FollowedFile) -> None:
        self.gone(file)
        if self._by_key.get(file.key) is file:
            del self._by_key[file.key]

    def has(self, file: FollowedFile) -> bool:
        return self._by_key.get(file.key) is file

    def by_inode(self, inode: tuple[int, int]) -> FollowedFile | None:
        return self._by_inode.get(inode)

    def all(self) -> Iterable[FollowedFile]:
        return self._by_key.values()

    def open(self, file: FollowedFile) -> None:
        """Have it open. Raises OSError as `FollowedFile.open` does."""
        opened = self._open
        if file.fd >= 0:
            opened.move_to_end(file)
            return
        file.open()
        opened[file] = None
        if len(opened) > self._max_open:
            # Those at their paths first: one that left may be hard to find again, or deleted.
            others = [other for other in opened if other is not file and other.links]
            least = next((other for other in others if other.left is None), others[0] if others else None)
            if least is not None:
                self.close(least)

    def close(self, file: FollowedFile) -> None:
        file.close()
        self._open.pop(file, None)

    def close_all(self) -> None:
        for file in list(self._open):
            self.close(file)

    def _release_inode(self, file: FollowedFile) -> None:
        if self._by_inode.get(file.inode) is file:
            del self._by_inode[file.inode]


def empty(status: os.stat_result) -> Identity:
    """Of a file without content: with its mtime for a fingerprint, to know what was rotated after that."""
    return Identity(status.st_dev, status.st_ino, 0, str(status.st_mtime_ns))


def starts_at(place: str, identity: Identity, inode: tuple[int, int] | None = None) -> bool:
    """Whether there is a file at `place` that begins as the one of `identity`. Raises as `head_of` does."""
    return starts_as(head_of(place, inode), identity)


def head_of(place: str, inode: tuple[int, int] | None = None) -> bytes:
    """The bytes that a fingerprint is made of; none of what is no regular file.

    Raises Replaced when another file than that of `inode` is there, and OSError as `open` does.
    """
    try:
        fd = open_regular(place)
    except NotRegular:
        return b""
    try:
        status = os.fstat(fd)
        if inode is not None and (status.st_dev, status.st_ino) != inode:
            raise Replaced(f"another file is at {place}")
        return os.pread(fd, FINGERPRINT_BYTES, 0)
    finally:
        os.close(fd)
