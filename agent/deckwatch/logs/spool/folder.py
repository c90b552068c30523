"""The spool's folder: the lock, the segments with their readable sizes, and the acknowledgement files."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from deckwatch.config.private_files import NotPrivateError, make_private_folder, open_private
from deckwatch.logs.spool.ack_file import AckFile
from deckwatch.logs.spool.cursor import Cursor
from deckwatch.logs.spool.segment import HEAD_BYTES, HEADER

from . import segment

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIX = "set --state-dir or logs.spool.dir to a folder that the agent can write to"


class SpoolError(Exception):
    """The spool cannot be used. The message says what failed, where, and how to fix it."""


class Folder:
    """Creates or opens the folder, locks it for this process and repairs it after a crash.

    `changed` guards the public attributes and is notified of every change. Raises SpoolError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.changed = threading.Condition(threading.Lock())
        self.sizes: dict[int, int] = {}  # readable size by segment, oldest first
        self.total = 0
        self.damaged = 0
        self.next_number = 0
        self._lost: set[Cursor] = set()  # starts of damaged ranges that are counted; every reader encounters each
        self._lock = _locked(path)
        try:
            self._recover()
        except OSError as error:
            self.unlock()
            raise SpoolError(
                f"cannot read the spool {path} ({error.strerror}: {error.filename or path}): give the agent read and "
                "write access to its files, or set logs.spool.dir"
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
        """Return the size of the records after the cursor, in bytes."""
        total = 0
        for number, size in self.sizes.items():
            if number >= cursor.segment:
                total += max(0, size - _begin(number, cursor))
        return total

    def delete(self, number: int) -> None:
        """Delete a segment. Raises OSError and keeps the segment."""
        self.file(number).unlink(missing_ok=True)
        self.total -= self.sizes.pop(number)
        # Keep those of this segment: a reader may still have it open.
        self._lost = {cursor for cursor in self._lost if cursor.segment >= number}

    # Reading, in any thread

    def next(self, cursor: Cursor) -> tuple[Cursor, int] | None:
        """Return where to continue reading and the readable end of that segment; None if everything was read."""
        with self.changed:
            for number, size in self.sizes.items():
                if number >= cursor.segment and (begin := _begin(number, cursor)) < size:
                    return Cursor(number, begin), size
        return None

    @contextlib.contextmanager
    def opened(self, number: int) -> Iterator[int | None]:
        """Open a segment for reading. Yield its file descriptor, or None if the segment was deleted."""
        try:
            fd = open_private(self.file(number), os.O_RDONLY)
        except FileNotFoundError:
            with self.changed:
                if number in self.sizes:  # deleted by another program; the number of lost records is unknown
                    self.delete(number)
                    self.damaged += 1
            yield None
            return
        try:
            yield fd
        finally:
            os.close(fd)

    def records(self, fd: int, at: Cursor, end: int) -> Iterator[tuple[Cursor, bytes]]:
        """Yield the undamaged records between a cursor and the offset `end`, each with the cursor after it."""
        while at.offset < end:
            payload = segment.payload_at(fd, at.offset, end)
            if payload is None:
                at = self.after_damage(fd, at, end)
            else:
                at = Cursor(at.segment, at.offset + HEAD_BYTES + len(payload))
                yield at, payload

    def after_damage(self, fd: int, at: Cursor, end: int) -> Cursor:
        """Return the cursor of the next intact record. Damage is counted once, however many readers encounter it."""
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
        for number in numbers:  # check all segments before changing any
            _refuse_other_version(self.file(number))
        for number in numbers:
            self.sizes[number] = self.file(number).stat().st_size
        if numbers:
            self._cut_unfinished_record(numbers[-1])
        self.total = sum(self.sizes.values())
        for number in numbers:
            if self.sizes[number] <= len(HEADER):
                self.delete(number)
        acknowledged = [cursor.segment for path in self.path.glob("*.ack") if (cursor := AckFile(path).read())]
        # The clock keeps numbers unique even if all files, and thus the earlier numbers, were deleted.
        self.next_number = max(time.time_ns() // 1_000_000, *(n + 1 for n in [0, *numbers, *acknowledged]))

    def _cut_unfinished_record(self, number: int) -> None:
        """Truncate the segment before a record that a crash left incomplete."""
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


def _begin(number: int, cursor: Cursor) -> int:
    """Return the offset in a segment where the records after the cursor begin."""
    return max(cursor.offset, len(HEADER)) if number == cursor.segment else len(HEADER)


def _locked(folder: Path) -> int:
    """Lock the folder, creating it if it is missing. Return the file descriptor of the lock."""
    try:
        make_private_folder(folder)
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise SpoolError(f"cannot write to the spool {folder} as user {os.geteuid()}: {_FIX}")
        fd = open_private(folder / "lock", os.O_RDWR | os.O_CREAT)
    except (FileExistsError, NotADirectoryError):
        raise SpoolError(f"cannot create the spool {folder}: a file has that name. Move it, or {_FIX}") from None
    except NotPrivateError as error:
        raise SpoolError(f"cannot use the spool {folder}: {error.filename}: {error.strerror}") from None
    except OSError as error:
        raise SpoolError(f"cannot write to the spool {folder} ({error.strerror}): {_FIX}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(fd, 20, 0).decode("ascii", "replace").strip()
        os.close(fd)
        if not isinstance(error, BlockingIOError):
            raise SpoolError(f"cannot lock the spool {folder} ({error.strerror}): {_FIX}") from None
        raise SpoolError(
            f"the spool {folder} is in use by another agent (process {owner or 'unknown'}): stop that process, or give "
            "each agent its own folder (--state-dir, or logs.spool.dir)"
        ) from None
    with contextlib.suppress(OSError):  # on a full disk, the lock file has no process ID
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    return fd


def _refuse_other_version(path: Path) -> None:
    if not path.is_file():
        raise SpoolError(f"cannot use the spool: {path} is not a file. Move it out of the folder.")
    fd = open_private(path, os.O_RDONLY)
    try:
        version = segment.other_version(fd)
    finally:
        os.close(fd)
    if version:
        raise SpoolError(
            f"the spool was written by another version of Deckwatch ({path} begins with {version!r}) and was not "
            "changed: run that version until the spool is empty, or move the folder"
        )
