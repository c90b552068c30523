"""A followed file and its life cycle: at its path, rotated away, closed by its writer, finished."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.config.log_parsing_settings import is_wide
from deckwatch.logs.entry import Identity, Position
from deckwatch.logs.tailing.fingerprint import (
    FINGERPRINT_BYTES,
    RECENT_BYTES,
    NotRegular,
    Replaced,
    fingerprint_of,
    identity_of,
    identity_of_empty,
    is_prefix,
    open_regular,
    opened,
    starts_as,
)
from deckwatch.logs.tailing.line_feeds import encoding_of, in_little_endian
from deckwatch.logs.tailing.line_splitter import LineSplitter

if TYPE_CHECKING:
    from deckwatch.logs.tailing.line_splitter import Chunk

# A file that could not be found this many times is gone: a single miss could be a rename under way.
_MAX_MISSES = 2
# Where the last line feed is looked for, and how much is read at once to find the end of NULs.
_LAST_LINE_BYTES = 1024 * 1024
_BLOCKS_OF_NULS = 16
# A program that ends without a newline never completes its last line.
_PARTIAL_LINE_SECONDS = 5.0
_UNKNOWN_TIME = float("-inf")
# gzip, compress, zstd, bzip2 (levels 1 to 9, and the block after it), xz, lz4, zip.
_COMPRESSED = (
    b"\x1f\x8b", b"\x1f\x9d", b"\x28\xb5\x2f\xfd", *(b"BZh%d1AY&SY" % level for level in range(1, 10)),
    b"\xfd7zXZ\x00", b"\x04\x22\x4d\x18", b"PK\x03\x04",
)  # fmt: skip


class Stage(Enum):
    """The stage in a file's life cycle, which determines whether more content may follow."""

    LIVE = "at its path"
    LEFT = "rotated away or deleted; its writer may still have it open"
    ENDED = "rotated away or deleted, and no longer written to: an incomplete last line counts as a line"
    FINISHED = "all of it was read, or it no longer exists"


class _Observed(NamedTuple):
    """A file's status at the last check; `mtime` in Unix nanoseconds."""

    size: int = 0
    mtime: int = 0
    links: int = 1


class FollowedFile:
    """A file, known by its inode and its first bytes. Only its methods change its state.

        LIVE -> LEFT             leave, leave_truncated
        LIVE, LEFT -> ENDED      continue_in_copy
        LEFT -> ENDED            end
        LEFT, ENDED -> FINISHED  finish
        FINISHED -> LEFT         reopen
        any -> LIVE              return_to_path
        any -> FINISHED          vanish

    `path` is the path that the user knows it by. Times without another unit are seconds of the tail's clock.
    """

    __slots__ = (
        "_before", "_caught_up", "_changed_at", "_committed", "_current_path", "_encoding", "_fd", "_identity",
        "_is_ready", "_left_at", "_misses", "_nuls_to", "_observed", "_read_mtime", "_recent", "_splitter", "_stage",
        "_takes_partial", "key", "path",
    )  # fmt: skip

    def __init__(self, key: str, position: Position, max_line: int, encoding: str = "utf-8") -> None:
        """A file of an earlier run: its stage is LEFT until it is found at its path."""
        self.key = key
        self.path, self._identity, offset, before, read_mtime = position
        # An offset, and the fingerprint of the bytes before it.
        self._before = offset, before
        self._recent: bytes | None = None if offset else b""  # the bytes before the offset, if they are known
        self._current_path = ""
        self._splitter = LineSplitter(offset, max_line, encoding)
        self._encoding = encoding
        self._committed = offset
        self._observed = _Observed()
        # The mtime at the last read. An empty file has it for a fingerprint.
        self._read_mtime = read_mtime if self._identity.length else int(self._identity.fingerprint or -1)
        self._changed_at = 0.0
        self._stage = Stage.LEFT
        self._left_at = _UNKNOWN_TIME
        self._caught_up = False  # was read to its end since it left its path
        self._is_ready = False
        self._nuls_to = 0  # where the search for the end of NULs goes on
        self._takes_partial = False
        self._misses = 0
        self._fd = -1

    @classmethod
    def found(
        cls,
        path: str,
        key: str,
        current_path: str,
        status: os.stat_result,
        now: float,
        max_line: int,
        encoding: str = "utf-8",
    ) -> FollowedFile:
        """A new file, to be read from its beginning. It is LIVE until it leaves."""
        file = cls(key, Position(path, identity_of_empty(status), 0), max_line, encoding)
        file._current_path = current_path
        file._stage = Stage.LIVE
        file.observe(status, now)
        file._read_mtime = file.mtime
        return file

    # What is known of it.

    @property
    def stage(self) -> Stage:
        return self._stage

    @property
    def is_finished(self) -> bool:
        return self._stage is Stage.FINISHED

    @property
    def is_ready(self) -> bool:
        """Whether a read may give lines."""
        return self._is_ready

    @property
    def is_open(self) -> bool:
        return self._fd >= 0

    @property
    def is_deleted(self) -> bool:
        """Whether it has no path any more."""
        return not self._observed.links

    @property
    def is_committed(self) -> bool:
        """Whether everything that was read of it is in the spool."""
        return self._committed >= self.offset

    @property
    def current_path(self) -> str:
        """The path where it was last found. Differs from `path` after a rotation."""
        return self._current_path

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
    def size(self) -> int:
        """Size in bytes at the last check."""
        return self._observed.size

    @property
    def mtime(self) -> int:
        """Modification time at the last check, in Unix nanoseconds."""
        return self._observed.mtime

    @property
    def read_mtime(self) -> int:
        """The mtime (Unix nanoseconds) of the content that was last read."""
        return self._read_mtime

    @property
    def changed_at(self) -> float:
        """When it last changed."""
        return self._changed_at

    @property
    def quiet_since(self) -> float:
        """When it last changed or left its path, whichever is later."""
        return max(self._changed_at, self._left_at)

    @property
    def offset(self) -> int:
        """The offset up to which it was read."""
        return self._splitter.offset

    @property
    def committed(self) -> int:
        """The offset before which everything is in the spool."""
        return self._committed

    @property
    def lag_bytes(self) -> int:
        """Bytes that are not in the spool yet."""
        return max(0, self._observed.size - self._committed)

    def delays_next(self, now: float, max_delay: float) -> bool:
        """Whether the next file of the path must wait for this one.

        A writer may keep a rotated file open: after `max_delay` seconds the next file is read in parallel.
        """
        return self._stage is not Stage.LIVE and not (self._caught_up and now - self._left_at > max_delay)

    def position_at(self, offset: int) -> Position:
        """The position to save once everything before `offset` is in the spool."""
        offset = min(offset, self.offset)
        if self._before[0] != offset:
            self._before = offset, self._fingerprint_before(offset)
        return Position(self.path, self._identity, offset, self._before[1], self._read_mtime)

    def _fingerprint_before(self, offset: int) -> str:
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

    def begins_with_content_of(self, fd: int, size: int) -> bool:
        """Whether this file begins with all `size` bytes of the open one, as the original of a copy does.

        If the content of this one is gone, that is unknown, and what was read of it decides.
        """
        try:
            if self.is_open and self.is_content_of(self._fd):
                return is_prefix(fd, size, self._fd)
            with opened(self._current_path, self.inode) as own:
                if self.is_content_of(own):
                    return is_prefix(fd, size, own)
        except (FileNotFoundError, NotADirectoryError, NotRegular, Replaced):
            pass
        if size < self.offset:
            return starts_as(os.pread(fd, FINGERPRINT_BYTES, 0), self._identity)
        return self.is_content_of(fd)

    # Where it is.

    def observe(self, status: os.stat_result, now: float) -> bool:
        """Record its current status; return whether it changed."""
        size, mtime, _ = self._observed
        self._observed = _Observed(status.st_size, status.st_mtime_ns, status.st_nlink)
        if status.st_size == size and status.st_mtime_ns == mtime:
            return False
        # At first sight it may have been quiet for long. Later the wall clock, which can be set, is not used.
        self._changed_at = now if mtime else now - max(0.0, time.time() - status.st_mtime_ns / 1e9)
        if status.st_size > self.offset:
            self._is_ready = True
        return True

    def observe_open(self, now: float) -> bool:
        """Record the status of the open file, wherever it is now; return whether it changed."""
        return self.observe(os.fstat(self._fd), now)

    def found_at(self, current_path: str) -> None:
        """Record that it was found at this path."""
        self._current_path = current_path
        self._misses = 0

    def not_found(self) -> bool:
        """Record a failed search for it. Return whether it is now considered deleted."""
        self._misses += 1
        return self._misses >= _MAX_MISSES

    def open(self) -> None:
        """Open it. Raises Replaced when another file is at its current path, and OSError as `open` does."""
        fd = open_regular(self._current_path)
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) != self.inode:
            os.close(fd)
            raise Replaced(f"another file is at {self._current_path}")
        self._fd = fd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # Life cycle.

    def return_to_path(self) -> None:
        """Record that it is at its path (again) and may be written to."""
        self._stage = Stage.LIVE
        self._left_at = _UNKNOWN_TIME

    def leave(self, at: float) -> None:
        """Record that it left its path at `at`. If it had already left, only the time is corrected."""
        assert self._stage is not Stage.FINISHED
        if self._stage is Stage.LIVE:
            self._stage = Stage.LEFT
            self._caught_up = False
        self._left_at = at

    def leave_truncated(self, at: float) -> None:
        """Record that its content is no longer at its path: it was truncated or overwritten, possibly after a copy."""
        # The mtime of the new content says nothing about the old one.
        self._observed = self._observed._replace(mtime=self._read_mtime)
        self.leave(at)

    def continue_in_copy(self, current_path: str, status: os.stat_result, now: float) -> None:
        """Record that its content is now in a copy, which is not written to.

        What was read beyond the end of the copy counts as read.
        """
        assert self._stage is not Stage.FINISHED
        self.close()
        if self._stage is Stage.LIVE:
            self.leave(now)
        self._stage = Stage.ENDED
        self.found_at(current_path)
        self._identity = self._identity._replace(device=status.st_dev, inode=status.st_ino)
        self._observed = self._observed._replace(size=status.st_size, mtime=status.st_mtime_ns)
        if status.st_size < self.offset:
            self._splitter.truncate(status.st_size)
            self._recent = None
        self._committed = min(self._committed, status.st_size)
        self._is_ready = self.offset < status.st_size

    def continue_in_replacement(self, current_path: str, status: os.stat_result, now: float) -> None:
        """Record that another file with the same content, and perhaps more, has taken its place."""
        assert self._stage is not Stage.FINISHED
        self.close()
        self.found_at(current_path)
        self._identity = self._identity._replace(device=status.st_dev, inode=status.st_ino)
        self.observe(status, now)
        self._is_ready = status.st_size > self.offset

    def end(self) -> bool:
        """Record that it is no longer written to. Return whether anything is left to read."""
        assert self._stage in (Stage.LEFT, Stage.ENDED)
        self._stage = Stage.ENDED
        self._is_ready = self._observed.size > self.offset or self._splitter.is_in_long_line
        return self._is_ready

    def finish(self) -> None:
        """Record that it was read completely and that no more content is expected."""
        assert self._stage in (Stage.LEFT, Stage.ENDED)
        self._stage = Stage.FINISHED
        self._is_ready = False

    def reopen(self) -> None:
        """Record that it was written to after it was finished."""
        assert self._stage is Stage.FINISHED
        assert not self.is_deleted
        self._stage = Stage.LEFT
        self._is_ready = True

    def vanish(self) -> None:
        """Record that it no longer exists. Content that was read can still be committed."""
        self._stage = Stage.FINISHED
        self._is_ready = False
        self._observed = self._observed._replace(links=0)
        self.close()

    # Its content.

    def take_fingerprint(self) -> None:
        """Read its first bytes, so that it is recognized if it is rotated away before it is read."""
        self._identity = identity_of(*self.inode, os.pread(self._fd, FINGERPRINT_BYTES, 0))

    def start_at_end(self) -> None:
        """Skip the complete lines that the open file has now. Raises OSError as `pread` does."""
        size = self._observed.size
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
        self._committed = end
        self._recent = None
        self._note_recent(data[: end - begin][-RECENT_BYTES:])
        self._is_ready = False

    def read(self, max_bytes: int) -> Chunk | None:
        """Return the next lines of the open file; None if its beginning changed (truncated or overwritten).

        Compressed files are skipped. Raises OSError as `pread` does.
        """
        splitter = self._splitter
        start, size = splitter.offset, splitter.read_size(max_bytes)
        data = os.pread(self._fd, size, start)
        # Check the beginning after reading the data: if it is unchanged now, the data belong to the same content.
        head = data[:FINGERPRINT_BYTES] if start == 0 else os.pread(self._fd, FINGERPRINT_BYTES, 0)
        # What is within the first bytes needs no second check.
        if not starts_as(head, self._identity) or (start > len(head) and not self._ends_before_offset(self._fd)):
            self._is_ready = False
            return None
        if self._identity.length < len(head):
            self._identity = identity_of(*self.inode, head)
        self._read_mtime = self.mtime
        if head.startswith(_COMPRESSED):
            chunk = splitter.skip_to(os.fstat(self._fd).st_size)
            self._committed = splitter.offset
            self._recent = None
        else:
            self._use_encoding_of(head)
            # A writer without O_APPEND goes on at its offset after a truncation, and leaves NULs before it.
            if data[:1] == b"\0" and not splitter.is_in_long_line and not is_wide(self._encoding):
                chunk = self._skip_nuls(data, len(data) == size)
            else:
                self._nuls_to = 0
                chunk = self._split(data, head, len(data) == size)
        if not chunk.more:
            self._reached_end()
        return chunk

    def _split(self, data: bytes, head: bytes, more: bool) -> Chunk:
        """The lines of the data at the offset."""
        splitter, start = self._splitter, self._splitter.offset
        is_ended = self._stage is Stage.ENDED
        # Only what was there when it was found to be idle: the writer may be in the middle of the next line.
        takes_partial = self._takes_partial and start + len(data) == self._observed.size
        self._takes_partial = False
        text = in_little_endian(data, head, self._encoding)
        chunk = splitter.split(text, more, is_ended or takes_partial)
        read = splitter.offset - start
        self._note_recent(data[max(0, read - RECENT_BYTES) : read])
        if takes_partial and not is_ended and chunk.block is not None:
            chunk = replace(chunk, is_partial=not chunk.more and not data.endswith(b"\n"))
        return chunk

    def _skip_nuls(self, data: bytes, more: bool) -> Chunk:
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
        if self._stage is Stage.ENDED:
            end = end or start + len(data)
        if not end:
            return self._splitter.empty()
        self._nuls_to = 0
        self._splitter.skip_to(end)
        self._note_recent(bytes(min(end - start, RECENT_BYTES)))
        chunk = self._split(rest, b"", more) if rest else self._splitter.empty(more=more)
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

    def take_partial_line(self, now: float) -> None:
        """Let the next read take an incomplete last line if the file has not changed for long."""
        if now - self._changed_at >= _PARTIAL_LINE_SECONDS and self._observed.size > self.offset and not self._is_ready:
            self._takes_partial = self._is_ready = True

    def _note_recent(self, data: bytes) -> None:
        """Record the bytes before the offset, of which `data` are the new ones."""
        size = min(self.offset, RECENT_BYTES)
        if len(data) >= size:
            self._recent = data
        elif self._recent is not None:
            self._recent = (self._recent + data)[-size:]

    def read_failed(self) -> None:
        """Record that it cannot be read. Until `retry`, it does not delay later files."""
        self._reached_end()

    def retry(self) -> None:
        """Read it again after a failure."""
        assert self._stage is not Stage.FINISHED
        self._is_ready = True

    def nothing_to_read(self) -> Chunk:
        """A chunk without lines, at the current offset."""
        return self._splitter.empty()

    def commit(self, offset: int) -> None:
        """Record that everything before `offset` is in the spool."""
        self._committed = max(self._committed, min(offset, self.offset))

    def _reached_end(self) -> None:
        self._is_ready = False
        self._caught_up = True
