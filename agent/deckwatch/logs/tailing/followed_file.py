"""A followed file and its life cycle: at its path, rotated away, closed by its writer, finished."""

from __future__ import annotations

import os
import time
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.logs.entry import Position
from deckwatch.logs.tailing.file_content import FileContent
from deckwatch.logs.tailing.fingerprint import identity_of_empty

if TYPE_CHECKING:
    from deckwatch.logs.tailing.line_splitter import Chunk

# A file that could not be found this many times is gone: a single miss could be a rename under way.
_MAX_MISSES = 2
# A program that ends without a newline never completes its last line.
_PARTIAL_LINE_SECONDS = 5.0
_UNKNOWN_TIME = float("-inf")


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


class FollowedFile(FileContent):
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
        "_caught_up", "_changed_at", "_committed", "_current_path", "_is_ready", "_left_at", "_misses", "_observed",
        "_read_mtime", "_stage", "key", "path",
    )  # fmt: skip

    def __init__(self, key: str, position: Position, max_line: int, encoding: str = "utf-8") -> None:
        """A file of an earlier run: its stage is LEFT until it is found at its path."""
        self.key = key
        self.path, identity, offset, before, read_mtime = position
        super().__init__(identity, offset, before, max_line, encoding)
        self._current_path = ""
        self._committed = offset
        self._observed = _Observed()
        # The mtime at the last read. An empty file has it for a fingerprint.
        self._read_mtime = read_mtime if identity.length else int(identity.fingerprint or -1)
        self._changed_at = 0.0
        self._stage = Stage.LEFT
        self._left_at = _UNKNOWN_TIME
        self._caught_up = False  # was read to its end since it left its path
        self._is_ready = False
        self._misses = 0

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
        return Position(self.path, self._identity, offset, self.fingerprint_before(offset), self._read_mtime)

    # Where it is.

    def open(self) -> None:
        """Open it. Raises Replaced when another file is at its current path, and OSError as `open` does."""
        self._open_at(self._current_path)

    def begins_with_content_of(self, fd: int, size: int) -> bool:
        """Whether this file begins with all `size` bytes of the open one, as the original of a copy does."""
        return self._begins_with_content_of(fd, size, self._current_path)

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
        self._move_to(status)
        if self._stage is Stage.LIVE:
            self.leave(now)
        self._stage = Stage.ENDED
        self.found_at(current_path)
        self._observed = self._observed._replace(size=status.st_size, mtime=status.st_mtime_ns)
        if status.st_size < self.offset:
            self._shorten_to(status.st_size)
        self._committed = min(self._committed, status.st_size)
        self._is_ready = self.offset < status.st_size

    def continue_in_replacement(self, current_path: str, status: os.stat_result, now: float) -> None:
        """Record that another file with the same content, and perhaps more, has taken its place."""
        assert self._stage is not Stage.FINISHED
        self._move_to(status)
        self.found_at(current_path)
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

    def start_at_end(self) -> None:
        """Skip the complete lines that the open file has now. Raises OSError as `pread` does."""
        self._skip_lines(self._observed.size)
        self._committed = self.offset
        self._is_ready = False

    def read(self, max_bytes: int) -> Chunk | None:
        """Return the next lines of the open file; None if its beginning changed (truncated or overwritten).

        Compressed files are skipped. Raises OSError as `pread` does.
        """
        chunk = self._read(max_bytes, is_ended=self._stage is Stage.ENDED)
        if chunk is None:
            self._is_ready = False
            return None
        self._read_mtime = self.mtime
        if self._is_compressed:
            self._committed = self.offset
        if not chunk.more:
            self._reached_end()
        return chunk

    def take_partial_line(self, now: float) -> None:
        """Let the next read take an incomplete last line if the file has not changed for long."""
        if now - self._changed_at >= _PARTIAL_LINE_SECONDS and self._observed.size > self.offset and not self._is_ready:
            self._partial_to = self._observed.size
            self._is_ready = True

    def read_failed(self) -> None:
        """Record that it cannot be read. Until `retry`, it does not delay later files."""
        self._reached_end()

    def retry(self) -> None:
        """Read it again after a failure."""
        assert self._stage is not Stage.FINISHED
        self._is_ready = True

    def commit(self, offset: int) -> None:
        """Record that everything before `offset` is in the spool."""
        self._committed = max(self._committed, min(offset, self.offset))

    def _reached_end(self) -> None:
        self._is_ready = False
        self._caught_up = True
