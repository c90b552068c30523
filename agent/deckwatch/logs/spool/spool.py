"""The spool: a crash-safe queue of payloads on disk between the log readers and the shippers.

One thread writes (append, sync, release), and one thread per destination reads. Records are stored in segments (see
segment.py); a destination's acknowledged cursor is stored in `<name>.ack`. Each start begins a new segment, and cursors
are never reused: an acknowledgement or checkpoint that survived a power failure longer than its records does not cover
new ones.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING
from urllib.parse import quote

from deckwatch.config.private_files import open_private, sync_folder
from deckwatch.logs.spool.ack_file import AckFile
from deckwatch.logs.spool.cursor import START, Cursor
from deckwatch.logs.spool.folder import Folder, SpoolError
from deckwatch.logs.spool.segment import HEAD_BYTES, HEADER

from . import segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["Cursor", "Reader", "Spool", "SpoolError", "SpoolFull"]

# A full spool drops whole segments, so it must consist of at least this many, whatever their configured size.
_MIN_SEGMENTS = 8
# Maximum number of unsynced complete segments; each keeps a file descriptor open.
_MAX_UNSYNCED = 16

Payload = bytes  # an alias, because Spool.bytes hides the built-in


class SpoolFull(Exception):
    """The spool has no space for the payload, or the payload exceeds the maximum size of the spool."""


class Spool:
    """Opens or creates the folder, locks it for this process and repairs it after a crash.

    `when_full` is `drop_oldest`, `drop_newest` or `block`; the caller of `append` must implement the last two.
    `on_drop(payload, "full")` is called in the writer's thread for each dropped payload that some reader had not
    acknowledged, including one that a reader was sending. Raises SpoolError.
    """

    def __init__(
        self, folder: Path, max_bytes: int, when_full: str, segment_bytes: int, on_drop: Callable[[Payload, str], None]
    ) -> None:
        self._max_bytes = max_bytes
        self._drops_oldest = when_full == "drop_oldest"
        self._segment_bytes = min(segment_bytes, max_bytes // _MIN_SEGMENTS)
        self._on_drop = on_drop
        self.lost: list[Payload] = []  # dropped payloads that the writer has yet to report
        self._folder = Folder(folder)
        self._changed = self._folder.changed
        # Guarded by _changed.
        self._closed = False
        self._readers: dict[str, Reader] = {}
        self._released = START
        self._unsynced: dict[int, int] = {}  # file descriptors of complete segments
        # Used only by the writer.
        self._current: int | None = None
        self._fd = -1
        self._new_names = False

    @property
    def bytes(self) -> int:
        """Number of bytes that the slowest reader has not acknowledged."""
        with self._changed:
            return self._folder.bytes_after(self._slowest())

    @property
    def disk_bytes(self) -> int:
        """Size of all segments in bytes. At most `max_bytes`, unless the spool was larger when it was opened."""
        return self._folder.total

    @property
    def damaged(self) -> int:
        """Number of damaged records found so far: at startup in the newest segment, in others when they are read."""
        return self._folder.damaged

    @property
    def end(self) -> Cursor:
        with self._changed:
            return self._folder.end()

    def append(self, payload: Payload) -> Cursor:
        """Append one record atomically and return the cursor after it. It is durable after the next sync.

        Raises SpoolFull or OSError (for example on a full disk) and leaves the spool unchanged.
        """
        if self._closed:
            raise ValueError("the spool is closed")
        size = HEAD_BYTES + len(payload)
        if len(HEADER) + size > self._max_bytes:
            raise SpoolFull(f"a payload of {len(payload)} bytes exceeds the spool's limit of {self._max_bytes} bytes")
        if len(self._unsynced) > _MAX_UNSYNCED:
            self.sync()
        self._make_room(size)
        head = segment.head_of(payload)
        if self._current is None:
            number, before = self._begin(), 0
            head = HEADER + head
        else:
            number = self._current
            before = self._folder.sizes[number]
        after = 0
        try:
            after = segment.write(self._fd, (head, payload), before)
        finally:
            if not after:
                self._undo(number, before)
        with self._changed:
            self._folder.sizes[number] = after
            self._folder.total += after - before
            self._changed.notify_all()
        return Cursor(number, after)

    def sync(self) -> None:
        """Make all appended records and all acknowledgements durable. Raises OSError."""
        with self._changed:
            lost, self.lost = self.lost, []
        for payload in lost:
            self._on_drop(payload, "full")
        with self._changed:
            complete, self._unsynced = self._unsynced, {}
        try:
            for fd in complete.values():
                os.fdatasync(fd)
            if self._current is not None:
                os.fdatasync(self._fd)
            if self._new_names:
                sync_folder(self._folder.path)
                self._new_names = False
        finally:
            for fd in complete.values():
                os.close(fd)
        with self._changed:
            readers = list(self._readers.values())
        for reader in readers:
            reader.ack_file.sync()

    def records(self, start: Cursor | None = None) -> Iterator[tuple[Cursor, Payload]]:
        """Yield the records after `start`, or all, each with the cursor after it. Damaged records are skipped."""
        cursor = start or START
        while found := self._folder.next(cursor):
            cursor, end = found
            with self._folder.opened(cursor.segment) as fd:
                if fd is not None:
                    yield from self._folder.records(fd, cursor, end)
                    cursor = Cursor(cursor.segment, end)

    def reader(self, name: str) -> Reader:
        """Create the reader of a destination. Create all readers before one of them acknowledges. Raises SpoolError."""
        with self._changed:
            if name in self._readers:
                raise SpoolError(f"two destinations are named {name!r}: give each a unique name (logs.loki.name)")
            try:
                reader = Reader(self, self._folder, f"{quote(name, safe='')}.ack")
            except OSError as error:
                raise SpoolError(
                    f"the spool {self._folder.path} cannot store the position of {name!r} ({error.strerror}): give the "
                    "agent read and write access to its files, or choose a shorter name (logs.loki.name)"
                ) from None
            self._readers[name] = reader
        return reader

    def release(self, before: Cursor) -> None:
        """Allow the deletion of records before this cursor: their positions are saved elsewhere. Raises OSError.

        Call `sync` first.
        """
        with self._changed:
            self._released = max(self._released, before)
            self._free()
            self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait until the spool changes or is closed, at most `seconds`."""
        with self._changed:
            if not self._closed:
                self._changed.wait(seconds)

    def close(self) -> None:
        """Sync and unlock the spool. Waiting readers return nothing. If the sync raises OSError, it is still closed."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        try:
            self.sync()
        finally:
            if self._current is not None:
                os.close(self._fd)
                self._current = None
            for reader in self._readers.values():
                reader.ack_file.close()
            self._folder.unlock()

    # The writer

    def _make_room(self, size: int) -> None:
        """Make room for a record of this size. Completes the current segment if the record needs a new one."""
        with self._changed:
            current = self._folder.sizes.get(self._current or 0)
            if current is None or current + size > self._segment_bytes:
                self._complete()
            if self._fits(size):
                return
            self._free_with_current()
        while not self._fits(size):
            if not self._drops_oldest:
                raise SpoolFull(
                    f"the spool {self._folder.path} is full: it contains {self._folder.total} of {self._max_bytes} "
                    f"bytes, and the record has {size}"
                )
            self._drop()

    def _fits(self, size: int) -> bool:
        header = len(HEADER) if self._current is None else 0
        return self._folder.total + header + size <= self._max_bytes

    def _drop(self) -> None:
        """Delete the oldest segment, and report its records that some reader had not acknowledged."""
        with self._changed:
            number, size = next(iter(self._folder.sizes.items()))
            if number == self._current:
                self._complete()
        with self._folder.opened(number) as fd:
            if fd is None:
                return
            with self._changed:
                if number not in self._folder.sizes:
                    return  # acknowledged and deleted in the meantime
                acknowledged = self._slowest()
                handed_out = min((reader.cursor for reader in self._readers.values()), default=START)
                # Delete before reporting, so that no record is reported twice.
                self._delete(number)
            for cursor, payload in self._folder.records(fd, Cursor(number, len(HEADER)), size):
                if cursor > handed_out:
                    self._on_drop(payload, "full")
                elif cursor > acknowledged:  # being sent; it may still be stored
                    with self._changed:
                        min(self._readers.values(), key=lambda it: it.acknowledged).dropped_in_flight(cursor, payload)

    def _begin(self) -> int:
        number = self._folder.next_number
        self._folder.next_number += 1
        self._fd = open_private(self._folder.file(number), os.O_RDWR | os.O_CREAT | os.O_EXCL)
        self._current = number
        self._new_names = True
        return number

    def _undo(self, number: int, size: int) -> None:
        """Remove an incomplete record. If that fails, the next record overwrites it."""
        with contextlib.suppress(OSError):
            if size:
                os.ftruncate(self._fd, size)
            else:
                self._current = None
                os.close(self._fd)
                self._folder.file(number).unlink()
        with self._changed, contextlib.suppress(OSError):
            self._free_with_current()  # acknowledged segments may be what fills the disk

    # Called with _changed held

    def _slowest(self) -> Cursor:
        return min((reader.acknowledged for reader in self._readers.values()), default=START)

    def _free_with_current(self) -> None:
        """Delete the segments that all readers have finished, including the current one. For the writer only."""
        if self._folder.end() <= min(self._slowest(), self._released):
            self._complete()
        self._free()

    def _free(self) -> None:
        """Delete the segments that all readers have finished, except the current one."""
        done = min(self._slowest(), self._released)
        while self._folder.sizes and not self._closed:  # once closed, another agent may use the folder
            number, size = next(iter(self._folder.sizes.items()))
            if number == self._current or Cursor(number, size) > done:
                return
            self._delete(number)

    def _complete(self) -> None:
        """Stop writing to the current segment."""
        if self._current is not None:
            self._unsynced[self._current] = self._fd
            self._current = None

    def _delete(self, number: int) -> None:
        self._folder.delete(number)
        fd = self._unsynced.pop(number, None)
        if fd is not None:
            os.close(fd)


class Reader:
    """Reads the spool for one destination and stores its acknowledged cursor. For one thread; see Spool.reader()."""

    def __init__(self, spool: Spool, folder: Folder, file_name: str) -> None:
        self._spool = spool
        self._folder = folder
        self.ack_file = AckFile(folder.path / file_name)
        cursor = self.ack_file.read()
        if (cursor is None or cursor > folder.end()) and self.ack_file.path.exists():
            # Damaged, or from a spool that was deleted. Delete it before its cursor becomes valid again.
            self.ack_file.path.unlink()
            sync_folder(folder.path)
            cursor = None
        self.acknowledged = self._cursor = cursor or START
        self._in_flight: list[tuple[Cursor, Payload]] = []  # dropped after they were read

    @property
    def cursor(self) -> Cursor:
        """The position up to which the spool was read."""
        return self._cursor

    @property
    def pending_bytes(self) -> int:
        """Size of the unacknowledged records in bytes."""
        with self._folder.changed:
            return self._folder.bytes_after(self.acknowledged)

    def read(self, max_bytes: int, max_wait: float = 0.0) -> list[tuple[Cursor, bytes]]:
        """Return the next payloads, each with the cursor after it: at most `max_bytes`, but at least one if available.

        Waits up to `max_wait` seconds for a payload. Dropped payloads are skipped. Raises OSError.
        """
        spool, folder = self._spool, self._folder
        if max_wait > 0:
            with folder.changed:
                folder.changed.wait_for(lambda: spool._closed or folder.bytes_after(self._cursor) > 0, max_wait)
        payloads: list[tuple[Cursor, bytes]] = []
        room = max_bytes
        while not spool._closed and (found := folder.next(self._cursor)):
            at, end = found
            with folder.opened(at.segment) as fd:
                while fd is not None and at.offset < end:
                    length = segment.length_at(fd, at.offset, end)
                    if length is not None and length > room and payloads:
                        self._cursor = at
                        return payloads
                    payload = None if length is None else segment.payload_at(fd, at.offset, end)
                    if payload is None:
                        at = folder.after_damage(fd, at, end)
                        continue
                    at = Cursor(at.segment, at.offset + HEAD_BYTES + len(payload))
                    payloads.append((at, payload))
                    room -= len(payload)
            self._cursor = at
        return payloads

    def acknowledge(self, cursor: Cursor) -> None:
        """Acknowledge everything before `cursor`: it is not read again and its space is freed.

        Survives the end of the process, and a power failure after the next `Spool.sync`.
        On OSError the acknowledgement applies to this process, but the records may be read again after a restart.
        """
        with self._folder.changed:
            if cursor <= self.acknowledged:
                return
            if cursor > self._folder.end():
                raise ValueError(f"{cursor} is beyond the end of the spool")
            self.acknowledged = cursor
            self._cursor = max(self._cursor, cursor)
            self._in_flight = [one for one in self._in_flight if one[0] > cursor]
            try:
                # Free segments first: on a full disk, this makes room for the file. Deleted segments cannot be read
                # again, whatever the file contains.
                self._spool._free()
            finally:
                self._folder.changed.notify_all()
        self.ack_file.write(cursor)

    def rewind(self) -> None:
        """Go back to the acknowledged cursor. Payloads that were dropped after they were read are now reported lost."""
        with self._folder.changed:
            self._cursor = self.acknowledged
            self._spool.lost += [payload for _, payload in self._in_flight]
            self._in_flight = []

    def dropped_in_flight(self, cursor: Cursor, payload: Payload) -> None:
        """Note that an unacknowledged record was dropped after it was read. Called with the lock held."""
        self._in_flight.append((cursor, payload))
