"""The folder of the spool: its lock, its segments, what of them may be read, and the acknowledgements beside them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from isal.isal_zlib import crc32

from deckwatch.config.private_files import NotPrivateError, make_private_folder, open_private, sync_folder
from deckwatch.logs.spool.segment import HEAD_BYTES, HEADER

from . import segment

if TYPE_CHECKING:
    from collections.abc import Iterator

_ACK = re.compile(rb"DWACK1 (([0-9]{1,16}) ([0-9]{1,16})) ([0-9a-f]{8})\n")
_MAX_ACK = 128  # bytes, more than one has
_FIX = "give the agent a folder that it may write to: --state-dir, or logs.spool.dir"


class SpoolError(Exception):
    """The spool cannot be used: the message says what failed, where, and how to fix it."""


class Cursor(NamedTuple):
    """A place between records. Cursors are ordered as the records were written."""

    segment: int
    offset: int


START = Cursor(0, 0)


class Folder:
    """Makes the folder or takes it as it is, for this process alone, and puts right what a crash left in it.

    `changed` guards what is public here, and is notified of whatever somebody may wait for. Raises SpoolError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.changed = threading.Condition(threading.Lock())
        self.sizes: dict[int, int] = {}  # of the segments, oldest first: up to there they may be read
        self.total = 0
        self.damaged = 0
        self.next_number = 0
        self._lost: set[Cursor] = set()  # damaged stretches that are still there, each of which all readers meet
        self._lock = _locked(path)
        try:
            self._recover()
        except OSError as error:
            self.unlock()
            raise SpoolError(
                f"the spool {path} cannot be read ({error.strerror}: {error.filename or path}): make its files "
                "readable and writable for the agent, or set logs.spool.dir"
            ) from None
        except SpoolError:
            self.unlock()
            raise

    def unlock(self) -> None:
        os.close(self._lock)

    def file(self, number: int) -> Path:
        return self.path / segment.file_name(number)

    # Called with `changed` held

    def end(self) -> Cursor:
        if not self.sizes:
            return Cursor(self.next_number, 0)
        number = next(reversed(self.sizes))
        return Cursor(number, self.sizes[number])

    def bytes_after(self, cursor: Cursor) -> int:
        """Bytes of records."""
        total = 0
        for number, size in self.sizes.items():
            if number >= cursor.segment:
                total += max(0, size - _begin(number, cursor))
        return total

    def delete(self, number: int) -> None:
        """Raises OSError, with the segment still there."""
        self.file(number).unlink(missing_ok=True)
        self.total -= self.sizes.pop(number)
        # Not those of this one yet: it may be open somewhere.
        self._lost = {cursor for cursor in self._lost if cursor.segment >= number}

    # Reading, in any thread

    def next(self, cursor: Cursor) -> tuple[Cursor, int] | None:
        """Where to read on, and the end of the readable part of that segment; None if everything was read."""
        with self.changed:
            for number, size in self.sizes.items():
                if number >= cursor.segment and (begin := _begin(number, cursor)) < size:
                    return Cursor(number, begin), size
        return None

    @contextlib.contextmanager
    def opened(self, number: int) -> Iterator[int | None]:
        """A file descriptor to read with; None for a segment that has gone meanwhile."""
        try:
            fd = open_private(self.file(number), os.O_RDONLY)
        except FileNotFoundError:
            with self.changed:
                if number in self.sizes:  # somebody else took the file away: who knows how many records
                    self.delete(number)
                    self.damaged += 1
            yield None
            return
        try:
            yield fd
        finally:
            os.close(fd)

    def records(self, fd: int, at: Cursor, end: int) -> Iterator[tuple[Cursor, bytes]]:
        """The undamaged records of an open segment from a cursor to the offset `end`, each with the cursor after it."""
        while at.offset < end:
            payload = segment.payload_at(fd, at.offset, end)
            if payload is None:
                at = self.after_damage(fd, at, end)
            else:
                at = Cursor(at.segment, at.offset + HEAD_BYTES + len(payload))
                yield at, payload

    def after_damage(self, fd: int, at: Cursor, end: int) -> Cursor:
        """Where the next whole record begins. What lies between is counted once, whoever comes by."""
        found = segment.next_record(fd, at.offset + 1, end)
        lost = segment.records_lost(fd, at.offset, found, end)
        with self.changed:
            if at not in self._lost:
                self._lost.add(at)
                self.damaged += lost
        return Cursor(at.segment, found)

    # At the start

    def _recover(self) -> None:
        numbers = sorted(n for path in self.path.iterdir() if (n := segment.number_of(path.name)) is not None)
        for number in numbers:  # all of them before anything is changed
            _refuse_other_version(self.file(number))
        for number in numbers:
            self.sizes[number] = self.file(number).stat().st_size
        if numbers:
            self._cut_unfinished_record(numbers[-1])
        self.total = sum(self.sizes.values())
        for number in numbers:
            if self.sizes[number] <= len(HEADER):
                self.delete(number)
        acknowledged = [cursor.segment for path in self.path.glob("*.ack") if (cursor := read_ack(path))]
        # The clock, since all files may be gone, and with them the numbers that there were.
        self.next_number = max(time.time_ns() // 1_000_000, *(n + 1 for n in [0, *numbers, *acknowledged]))

    def _cut_unfinished_record(self, number: int) -> None:
        """Truncate the segment before the record that a crash left unfinished."""
        size = self.sizes[number]
        fd = open_private(self.file(number), os.O_RDWR)
        try:
            whole, lost = segment.whole_until(fd, size)
            self.damaged += lost
            if whole < size:
                os.ftruncate(fd, whole)
                os.fsync(fd)
        finally:
            os.close(fd)
        self.sizes[number] = whole


def read_ack(path: Path) -> Cursor | None:
    """None for one that is missing or damaged."""
    try:
        fd = open_private(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        match = _ACK.fullmatch(os.read(fd, _MAX_ACK))
    finally:
        os.close(fd)
    if not match or int(match[4], 16) != crc32(match[1]):
        return None
    return Cursor(int(match[2]), int(match[3]))


def write_ack(path: Path, cursor: Cursor) -> None:
    """Durable when it returns. Raises OSError, with the old one still in place."""
    text = b"%d %d" % cursor
    temporary = path.with_name(path.name + ".tmp")
    try:
        fd = open_private(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            os.write(fd, b"DWACK1 %s %08x\n" % (text, crc32(text)))
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def _begin(number: int, cursor: Cursor) -> int:
    """The offset in a segment at which what is after the cursor begins."""
    return max(cursor.offset, len(HEADER)) if number == cursor.segment else len(HEADER)


def _locked(folder: Path) -> int:
    """The file descriptor that holds the lock of a folder, which is made where it is missing."""
    try:
        make_private_folder(folder)
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise SpoolError(f"the spool {folder} cannot be written by user {os.geteuid()}: {_FIX}")
        fd = open_private(folder / "lock", os.O_RDWR | os.O_CREAT)
    except (FileExistsError, NotADirectoryError):
        raise SpoolError(f"the spool {folder} cannot be made: a file is in its way; move it, or {_FIX}") from None
    except NotPrivateError as error:
        raise SpoolError(f"the spool {folder} is not used: {error.filename}: {error.strerror}") from None
    except OSError as error:
        raise SpoolError(f"the spool {folder} cannot be written ({error.strerror}): {_FIX}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(fd, 20, 0).decode("ascii", "replace").strip()
        os.close(fd)
        if not isinstance(error, BlockingIOError):
            raise SpoolError(f"the spool {folder} cannot be locked ({error.strerror}): {_FIX}") from None
        raise SpoolError(
            f"the spool {folder} is in use by another agent (process {owner or 'unknown'}): stop that one, or give "
            "each a folder of its own (--state-dir, or logs.spool.dir)"
        ) from None
    with contextlib.suppress(OSError):  # on a full disk the lock does without a name
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    return fd


def _refuse_other_version(path: Path) -> None:
    if not path.is_file():
        raise SpoolError(f"the spool cannot be used: {path} is not a file; move it away")
    fd = open_private(path, os.O_RDONLY)
    try:
        version = segment.other_version(fd)
    finally:
        os.close(fd)
    if version:
        raise SpoolError(
            f"the spool was written by another version of deckwatch ({path} begins with {version!r}): let that version "
            "send what is in it, or move the folder away. Nothing in it was changed"
        )
