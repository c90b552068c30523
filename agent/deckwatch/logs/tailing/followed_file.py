"""One file that is followed: its lines with their offsets, and what it is known by.

What is half a line is not kept but read again with its rest, so that a file costs no memory between two reads. The
exception is a line that is longer than the limit: its beginning is kept, the rest is read over in pieces.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.logs.entry import Identity, Position

if TYPE_CHECKING:
    from collections.abc import Mapping

#: How many bytes at most a fingerprint is made of.
FINGERPRINT_BYTES = 1024
# gzip, compress, zstd, bzip2 (levels 1 to 9, and the block after it), xz, lz4, zip.
_COMPRESSED = (
    b"\x1f\x8b", b"\x1f\x9d", b"\x28\xb5\x2f\xfd", *(b"BZh%d1AY&SY" % level for level in range(1, 10)),
    b"\xfd7zXZ\x00", b"\x04\x22\x4d\x18", b"PK\x03\x04",
)  # fmt: skip


class Chunk(NamedTuple):
    """Complete lines read from one file in one go, without their newlines; the \\r of CRLF is still there.

    `lines[0]` begins at `start`; the file goes on at `end`. An object for each line would cost more than to read it:
    line i ends `len(lines[i]) + cut.get(i, 0) + 1` after the one before, `cut` having the bytes that are missing of
    lines that were too long (for a last line without newline that is one too many: `end` is right). `more` says that
    the file has more to read at once.
    """

    file: FollowedFile
    lines: list[bytes]
    start: int
    end: int
    more: bool
    cut: Mapping[int, int]


class Replaced(OSError):
    """Where the file was there is another one now."""


class NotRegular(OSError):
    """Not a regular file: to open it could block, or do something."""


class FollowedFile:
    """A file by its inode. `path` is what the user knows it by, `place` where it is now, `offset` how far it was read.

    `is_finished` is true once all of it was read and no more is to come.
    """

    __slots__ = (
        "_long", "_long_bytes", "_max_line", "caught_up", "changed", "committed", "fd", "final", "has_news", "identity",
        "is_finished", "key", "left", "links", "missed", "mtime", "offset", "path", "place", "read_mtime", "size",
    )  # fmt: skip

    def __init__(self, path: str, key: str, place: str, identity: Identity, offset: int, max_line: int) -> None:
        self.path = path
        self.key = key
        self.place = place
        self.identity = identity
        self.offset = offset
        self.committed = offset
        self.size = 0  # as last seen, as is `mtime` (Unix nanoseconds)
        self.mtime = 0
        self.read_mtime = -1  # the mtime it had when it was last read: that of the content that we know
        self.links = 1
        self.changed = 0.0  # when that was last seen to change, and when it left its path, on the tail's clock
        self.left: float | None = None
        self.fd = -1
        self.has_news = False
        self.caught_up = False  # was read to its end since it left its path
        self.final = False  # nobody writes to it any more: half a line at its end is a line
        self.is_finished = False
        self.missed = 0  # times that it was looked for in vain
        self._max_line = max_line
        self._long = b""  # the beginning of a line that is too long
        self._long_bytes = 0  # how many of its bytes were read

    @property
    def inode(self) -> tuple[int, int]:
        """Device and inode."""
        return self.identity[0], self.identity[1]

    @property
    def in_long_line(self) -> bool:
        """Whether it stands in the middle of a line that is too long."""
        return self._long_bytes > 0

    @property
    def line_start(self) -> int:
        """The offset where the next line begins."""
        return self.offset - self._long_bytes

    def position_at(self, offset: int) -> Position:
        """What to remember when everything before `offset` is in the spool."""
        return Position(self.path, self.identity, min(offset, self.offset))

    def open(self) -> None:
        """Open what is at `place`. Raises Replaced when it is another file, and OSError as `open` does."""
        fd = open_regular(self.place)
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) != self.inode:
            os.close(fd)
            raise Replaced(f"another file is at {self.place}")
        self.fd = fd

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def saw(self, status: os.stat_result, now: float) -> bool:
        """Note its size; true when it changed. `now` is on the tail's clock."""
        self.links = status.st_nlink
        if status.st_size == self.size and status.st_mtime_ns == self.mtime:
            return False
        # At first sight it may have been quiet for long; later the wall clock, which can be set, is not asked.
        self.changed = now if self.mtime else now - max(0.0, time.time() - status.st_mtime_ns / 1e9)
        self.size, self.mtime = status.st_size, status.st_mtime_ns
        if status.st_size > self.offset:
            self.has_news = True
        return True

    def move_to(self, place: str, status: os.stat_result) -> None:
        """Go on in a copy of it. What was read beyond the end of the copy counts as read."""
        self.close()
        self.place = place
        self.identity = self.identity._replace(device=status.st_dev, inode=status.st_ino)
        self.size, self.mtime = status.st_size, status.st_mtime_ns
        self._long, self._long_bytes = b"", 0  # not before a line's end
        self.offset = min(self.offset, self.size)
        self.committed = min(self.committed, self.size)
        self.has_news = self.offset < self.size

    def read(self, max_bytes: int) -> Chunk | None:
        """The next lines of the open file; None when its beginning changed: it was truncated or written anew.

        Compressed files are left out. Raises OSError as `pread` does.
        """
        start, limit = self.offset, self._max_line
        asked = max(max_bytes, limit + 2)
        data = os.pread(self.fd, asked, start)
        # The beginning is looked at after the data: when it is the old one then, so was the file that they are of.
        head = data[:FINGERPRINT_BYTES] if start == 0 else os.pread(self.fd, FINGERPRINT_BYTES, 0)
        if not starts_as(head, self.identity):
            return None
        if self.identity.length < len(head):
            self.identity = identity_of(self.identity.device, self.identity.inode, head)
        self.read_mtime = self.mtime
        if head.startswith(_COMPRESSED):
            self.offset = self.committed = os.fstat(self.fd).st_size
            return Chunk(self, [], self.offset, self.offset, False, _NO_CUTS)
        more = len(data) == asked
        if self._long_bytes:
            return self._go_on_with_long_line(data, more)
        newline = data.rfind(b"\n")
        last = b""
        if self.final and not more:
            last = data[newline + 1 :]
        elif newline < 0:
            if len(data) >= limit + 2:
                self._long, self._long_bytes = data[:limit], len(data)
                self.offset = start + len(data)
                more = True
            return Chunk(self, [], start, start, more, _NO_CUTS)
        lines = data[:newline].split(b"\n") if newline >= 0 else []
        end = start + newline + 1
        if last:
            lines.append(last)
            end += len(last)
        self.offset = end
        # What is shorter than the limit as a whole has no line that is longer.
        cut = _NO_CUTS if len(data) <= limit else _cut(lines, limit)
        return Chunk(self, lines, start, end, more, cut)

    def _go_on_with_long_line(self, data: bytes, more: bool) -> Chunk:
        start, newline = self.line_start, data.find(b"\n")
        if newline < 0:
            self.offset += len(data)
            self._long_bytes += len(data)
            if more or not self.final:
                return Chunk(self, [], start, start, more, _NO_CUTS)
        else:
            self.offset += newline + 1
            self._long_bytes += newline
            more = more or newline + 1 < len(data)
        line, missing = self._long, self._long_bytes - len(self._long)
        self._long, self._long_bytes = b"", 0
        return Chunk(self, [line], start, self.offset, more, {0: missing})


_NO_CUTS: Mapping[int, int] = MappingProxyType({})


def _cut(lines: list[bytes], limit: int) -> Mapping[int, int]:
    """Cut those that are too long; gives what is missing of each, by index."""
    if not lines or max(map(len, lines)) <= limit:
        return _NO_CUTS
    cut = {}
    for index, line in enumerate(lines):
        if len(line) > limit + line.endswith(b"\r"):
            lines[index], cut[index] = line[:limit], len(line) - limit
    return cut


def open_regular(path: str) -> int:
    """A descriptor for reading. Raises NotRegular, and OSError as `open` does."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise NotRegular(f"{path} is no regular file")
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)


def identity_of(device: int, inode: int, head: bytes) -> Identity:
    """Of a file that begins with `head` (1024 bytes, or all it has)."""
    return Identity(device, inode, len(head), hashlib.blake2b(head, digest_size=8).hexdigest())


def starts_as(head: bytes, identity: Identity) -> bool:
    """Whether a file that begins with `head` is the one of `identity` as far as that goes."""
    length = identity.length
    if len(head) < length:
        return False
    if not length:
        return True
    return hashlib.blake2b(head[:length], digest_size=8).hexdigest() == identity.fingerprint
