"""The content of a followed file, known by its inode and its first bytes, and how far it was read."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from deckwatch.config.log_parsing_settings import is_wide
from deckwatch.logs.tailing.fingerprint import (
    FINGERPRINT_BYTES,
    RECENT_BYTES,
    NotRegular,
    Replaced,
    fingerprint_of,
    identity_of,
    is_prefix,
    open_regular,
    opened,
    starts_as,
)
from deckwatch.logs.tailing.line_feeds import encoding_of, in_little_endian
from deckwatch.logs.tailing.line_splitter import LineSplitter

if TYPE_CHECKING:
    from deckwatch.logs.entry import Identity
    from deckwatch.logs.tailing.line_splitter import Chunk

# Where the last line feed is looked for, and how much is read at once to find the end of NULs.
_LAST_LINE_BYTES = 1024 * 1024
_BLOCKS_OF_NULS = 16
# gzip, compress, zstd, bzip2 (levels 1 to 9, and the block after it), xz, lz4, zip.
_COMPRESSED = (
    b"\x1f\x8b", b"\x1f\x9d", b"\x28\xb5\x2f\xfd", *(b"BZh%d1AY&SY" % level for level in range(1, 10)),
    b"\xfd7zXZ\x00", b"\x04\x22\x4d\x18", b"PK\x03\x04",
)  # fmt: skip


class FileContent:
    """The content of a file, wherever the file is now; FollowedFile adds where it is and what may still follow."""

    __slots__ = (
        "_before", "_encoding", "_fd", "_identity", "_is_compressed", "_nuls_to", "_partial_to", "_recent", "_splitter",
    )  # fmt: skip

    def __init__(self, identity: Identity, offset: int, before: str, max_line: int, encoding: str) -> None:
        """Content that was read up to `offset`; `before` is the fingerprint of the bytes before it."""
        self._identity = identity
        self._before = offset, before
        self._recent: bytes | None = None if offset else b""  # the bytes before the offset, if they are known
        self._splitter = LineSplitter(offset, max_line, encoding)
        self._encoding = encoding
        self._is_compressed = False
        self._nuls_to = 0  # where the search for the end of NULs goes on
        self._partial_to: int | None = None  # the size up to which an incomplete last line is taken
        self._fd = -1

    @property
    def is_open(self) -> bool:
        return self._fd >= 0

    @property
    def encoding(self) -> str:
        """The configured encoding, or the one that a byte order mark says."""
        return self._encoding

    @property
    def identity(self) -> Identity:
        return self._identity

    @property
    def inode(self) -> tuple[int, int]:
        """Device and inode."""
        return self._identity[0], self._identity[1]

    @property
    def offset(self) -> int:
        """The offset up to which it was read."""
        return self._splitter.offset

    # Recognizing it.

    def fingerprint_before(self, offset: int) -> str:
        """The fingerprint of the bytes before an offset, "" if they are not known."""
        if self._before[0] != offset:
            self._before = offset, self._read_before(offset)
        return self._before[1]

    def _read_before(self, offset: int) -> str:
        size = min(offset, RECENT_BYTES)
        data = b""
        if offset == self.offset and self._recent is not None:
            data = self._recent
        elif self.is_open:
            with contextlib.suppress(OSError):
                data = os.pread(self._fd, size, offset - size)
        return fingerprint_of(data) if size and len(data) == size else ""

    def is_content_of(self, fd: int) -> bool:
        """Whether the open file has everything that was read of this one, by its beginning and its end."""
        return starts_as(os.pread(fd, FINGERPRINT_BYTES, 0), self._identity) and self._ends_before_offset(fd)

    def is_content_at(self, path: str, inode: tuple[int, int] | None = None) -> bool:
        """`is_content_of` for a path. Raises Replaced if a file with another inode is there, and OSError as `open`."""
        try:
            with opened(path, inode) as fd:
                return self.is_content_of(fd)
        except NotRegular:
            return False

    def _ends_before_offset(self, fd: int) -> bool:
        """Whether the open file has before the offset what was read of this one."""
        size = min(self.offset, RECENT_BYTES)
        if self._recent is not None:
            return os.pread(fd, size, self.offset - size) == self._recent
        offset, before = self._before
        if offset != self.offset or not before:
            return True  # not known
        data = os.pread(fd, size, offset - size)
        if fingerprint_of(data) != before:
            return False
        self._recent = data
        return True

    def is_all_in(self, fd: int, size: int) -> bool:
        """Whether the open file of `size` bytes has all of this one, also what was not read yet."""
        if size < self.offset or not self.is_content_of(fd):
            return False
        return not self.is_open or is_prefix(self._fd, os.fstat(self._fd).st_size, fd)

    def _begins_with_content_of(self, fd: int, size: int, path: str) -> bool:
        """Whether this file begins with all `size` bytes of the open one, as the original of a copy does.

        `path` is where this one was last found. If its content is gone, what was read of it decides.
        """
        try:
            if self.is_open and self.is_content_of(self._fd):
                return is_prefix(fd, size, self._fd)
            with opened(path, self.inode) as own:
                if self.is_content_of(own):
                    return is_prefix(fd, size, own)
        except (FileNotFoundError, NotADirectoryError, NotRegular, Replaced):
            pass
        if size < self.offset:
            return starts_as(os.pread(fd, FINGERPRINT_BYTES, 0), self._identity)
        return self.is_content_of(fd)

    def take_fingerprint(self) -> None:
        """Read its first bytes, so that it is recognized if it is rotated away before it is read."""
        self._identity = identity_of(*self.inode, os.pread(self._fd, FINGERPRINT_BYTES, 0))

    # Where it is.

    def _open_at(self, path: str) -> None:
        """Open it. Raises Replaced when another file is at the path, and OSError as `open` does."""
        fd = open_regular(path)
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) != self.inode:
            os.close(fd)
            raise Replaced(f"another file is at {path}")
        self._fd = fd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _move_to(self, status: os.stat_result) -> None:
        """Record that the content is in another file now."""
        self.close()
        self._identity = self._identity._replace(device=status.st_dev, inode=status.st_ino)

    def _shorten_to(self, size: int) -> None:
        """Record that what was read beyond `size` is not in the file."""
        self._splitter.truncate(size)
        self._recent = None

    # Reading it.

    def _skip_lines(self, size: int) -> None:
        """Skip the complete lines in the first `size` bytes of the open file. Raises OSError as `pread` does."""
        head = os.pread(self._fd, FINGERPRINT_BYTES, 0)
        self._use_encoding_of(head)
        for most in (_LAST_LINE_BYTES // 16, _LAST_LINE_BYTES):  # there can be many files, and few have long lines
            begin = max(0, size - most) // 2 * 2
            data = os.pread(self._fd, size - begin, begin)
            lines = self._splitter.end_of_lines(in_little_endian(data, head, self._encoding))
            if lines or not begin:
                break
        end = begin + lines if lines or not begin else size
        self._splitter.skip_to(end)
        self._recent = None
        self._note_recent(data[: end - begin][-RECENT_BYTES:])

    def _read(self, max_bytes: int, *, is_ended: bool) -> Chunk | None:
        """Return the next lines of the open file; None if its beginning changed (truncated or overwritten).

        Compressed files are skipped. `is_ended`: no more content will follow. Raises OSError as `pread` does.
        """
        splitter = self._splitter
        start, size = splitter.offset, splitter.read_size(max_bytes)
        data = os.pread(self._fd, size, start)
        # Check the beginning after reading the data: if it is unchanged now, the data belong to the same content.
        head = data[:FINGERPRINT_BYTES] if start == 0 else os.pread(self._fd, FINGERPRINT_BYTES, 0)
        # What is within the first bytes needs no second check.
        if not starts_as(head, self._identity) or (start > len(head) and not self._ends_before_offset(self._fd)):
            return None
        if self._identity.length < len(head):
            self._identity = identity_of(*self.inode, head)
        self._is_compressed = head.startswith(_COMPRESSED)
        if self._is_compressed:
            self._recent = None
            return splitter.skip_to(os.fstat(self._fd).st_size)
        self._use_encoding_of(head)
        more = len(data) == size
        # A writer without O_APPEND goes on at its offset after a truncation, and leaves NULs before it.
        if data[:1] == b"\0" and not splitter.is_in_long_line and not is_wide(self._encoding):
            return self._skip_nuls(data, more, is_ended)
        self._nuls_to = 0
        return self._split(data, head, more, is_ended)

    def _split(self, data: bytes, head: bytes, more: bool, is_ended: bool) -> Chunk:
        """The lines of the data at the offset."""
        splitter, start = self._splitter, self._splitter.offset
        # Only what was there when it was found to be idle: the writer may be in the middle of the next line.
        takes_partial = start + len(data) == self._partial_to
        self._partial_to = None
        text = in_little_endian(data, head, self._encoding)
        chunk = splitter.split(text, more, is_ended or takes_partial)
        read = splitter.offset - start
        self._note_recent(data[max(0, read - RECENT_BYTES) : read])
        if takes_partial and not is_ended and chunk.block is not None:
            chunk = replace(chunk, is_partial=not chunk.more and not data.endswith(b"\n"))
        return chunk

    def _skip_nuls(self, data: bytes, more: bool, is_ended: bool) -> Chunk:
        """Skip NULs up to what follows them. If nothing does, they may be space that the writer allocated."""
        start = self._splitter.offset
        rest = data.lstrip(b"\0")
        if rest:
            end: int | None = start + len(data) - len(rest)
        elif more:
            end = self._end_of_nuls(start + len(data))
            if end is None:
                return self._splitter.empty(more=True)
        else:
            end = 0
        if is_ended:
            end = end or start + len(data)
        if not end:
            return self._splitter.empty()
        self._nuls_to = 0
        self._splitter.skip_to(end)
        self._note_recent(bytes(min(end - start, RECENT_BYTES)))
        chunk = self._split(rest, b"", more, is_ended) if rest else self._splitter.empty(more=more)
        return replace(chunk, nuls=end - start)

    def _end_of_nuls(self, at: int) -> int | None:
        """Where the first byte is that is no NUL: 0 if there is none, None if that is not known yet."""
        at = max(at, self._nuls_to)
        try:
            at = os.lseek(self._fd, at, os.SEEK_DATA)  # past a hole
        except OSError:
            return 0
        for _ in range(_BLOCKS_OF_NULS):
            block = os.pread(self._fd, _LAST_LINE_BYTES, at)
            if not block:
                return 0
            if rest := block.lstrip(b"\0"):
                return at + len(block) - len(rest)
            at += len(block)
        self._nuls_to = at
        return None

    def _use_encoding_of(self, head: bytes) -> None:
        encoding = encoding_of(head, self._encoding)
        if encoding != self._encoding:
            self._encoding = encoding
            self._splitter.use_encoding(encoding)

    def _note_recent(self, data: bytes) -> None:
        """Record the bytes before the offset, of which `data` are the new ones."""
        size = min(self.offset, RECENT_BYTES)
        if len(data) >= size:
            self._recent = data
        elif self._recent is not None:
            self._recent = (self._recent + data)[-size:]

    def nothing_to_read(self) -> Chunk:
        """A chunk without lines, at the current offset."""
        return self._splitter.empty()
