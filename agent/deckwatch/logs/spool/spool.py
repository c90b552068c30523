"""The spool: payloads on disk between those who read logs and those who ship them, safe against crashes.

One thread writes (append, sync, release), and one thread for each destination reads. Records are in segments (see
segment.py); a destination's acknowledged cursor is in `<name>.ack`. After a start, records go into a new segment, and
no cursor is used twice: an acknowledgement or a checkpoint that outlived its records in a power cut covers no new ones.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING
from urllib.parse import quote

from deckwatch.config.private_files import open_private, sync_folder
from deckwatch.logs.spool.folder import START, Cursor, Folder, SpoolError, read_ack, write_ack
from deckwatch.logs.spool.segment import HEAD_BYTES, HEADER

from . import segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["Cursor", "Reader", "Spool", "SpoolError", "SpoolFull"]

# A full spool drops whole segments: this many of them at least share its room, whatever their configured size.
_MIN_SEGMENTS = 8
# Segments that a caller left without a sync; each holds a file descriptor.
_MAX_UNSYNCED = 16

Payload = bytes  # by this name, since Spool.bytes is a number


class SpoolFull(Exception):
    """There is no room for the payload, or it is larger than the whole spool may be."""


class Spool:
    """Opens the folder, or makes it, for this process alone, and puts right what a crash left behind.

    `when_full` is `drop_oldest`, `drop_newest` or `block`; of the last two, it is for the caller of append to do so.
    `on_drop(payload, "full")` is called, in the writer's thread, for each that is dropped though some reader had not
    acknowledged it (one that a reader was just sending included). Raises SpoolError.
    """

    def __init__(
        self, folder: Path, max_bytes: int, when_full: str, segment_bytes: int, on_drop: Callable[[Payload, str], None]
    ) -> None:
        self._max_bytes = max_bytes
        self._drops_oldest = when_full == "drop_oldest"
        self._segment_bytes = min(segment_bytes, max_bytes // _MIN_SEGMENTS)
        self._on_drop = on_drop
        self.lost: list[Payload] = []  # dropped, to be told by the writer
        self._folder = Folder(folder)
        self._changed = self._folder.changed
        # Guarded by _changed.
        self._closed = False
        self._readers: dict[str, Reader] = {}
        self._released = START
        self._unsynced: dict[int, int] = {}  # file descriptors of segments that are complete
        # The writer's own.
        self._current: int | None = None
        self._fd = -1
        self._new_names = False

    @property
    def bytes(self) -> int:
        """Bytes that the slowest reader has not acknowledged."""
        with self._changed:
            return self._folder.bytes_after(self._slowest())

    @property
    def disk_bytes(self) -> int:
        """Bytes of all segments: never more than `max_bytes`, but for a spool that held more when it was opened."""
        return self._folder.total

    @property
    def damaged(self) -> int:
        """Records lost to damage as far as it was met: in the newest segment at the start, in others on reading."""
        return self._folder.damaged

    @property
    def end(self) -> Cursor:
        with self._changed:
            return self._folder.end()

    def append(self, payload: Payload) -> Cursor:
        """Add one record, whole or not at all; the cursor after it. It is durable after the next sync.

        Raises SpoolFull, and OSError (a full disk, say) with the spool as it was.
        """
        if self._closed:
            raise ValueError("the spool is closed")
        size = HEAD_BYTES + len(payload)
        if len(HEADER) + size > self._max_bytes:
            raise SpoolFull(f"a payload of {len(payload)} bytes is larger than the spool ({self._max_bytes} bytes)")
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
        """Make durable what was appended. Raises OSError."""
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

    def records(self, start: Cursor | None = None) -> Iterator[tuple[Cursor, Payload]]:
        """The records from `start` on, or all, each with the cursor after it; damaged ones are left out."""
        cursor = start or START
        while found := self._folder.next(cursor):
            cursor, end = found
            with self._folder.opened(cursor.segment) as fd:
                if fd is not None:
                    yield from self._folder.records(fd, cursor, end)
                    cursor = Cursor(cursor.segment, end)

    def reader(self, name: str) -> Reader:
        """The reader of a destination. All are made before the first acknowledges. Raises SpoolError."""
        with self._changed:
            if name in self._readers:
                raise SpoolError(f"two destinations are called {name!r}: give each a name of its own (logs.loki.name)")
            try:
                reader = Reader(self, self._folder, f"{quote(name, safe='')}.ack")
            except OSError as error:
                raise SpoolError(
                    f"the spool {self._folder.path} cannot keep what {name!r} got ({error.strerror}): make its files "
                    "readable and writable for the agent, or give the destination a shorter name (logs.loki.name)"
                ) from None
            self._readers[name] = reader
        return reader

    def release(self, before: Cursor) -> None:
        """What is known from records before this is kept elsewhere, durably. Sync first. Raises OSError."""
        with self._changed:
            self._released = max(self._released, before)
            self._free()
            self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Until something is appended, acknowledged or released, or the spool is closed, or for so many seconds."""
        with self._changed:
            if not self._closed:
                self._changed.wait(seconds)

    def close(self) -> None:
        """Sync and unlock; readers that wait get nothing. Raises OSError from the sync, closed nonetheless."""
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
            self._folder.unlock()

    # The writer

    def _make_room(self, size: int) -> None:
        """For a record of this size; completes the current segment where it goes into a new one."""
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
                    f"the spool {self._folder.path} holds {self._folder.total} of {self._max_bytes} bytes, and "
                    f"{size} more are to go in"
                )
            self._drop()

    def _fits(self, size: int) -> bool:
        header = len(HEADER) if self._current is None else 0
        return self._folder.total + header + size <= self._max_bytes

    def _drop(self) -> None:
        """Delete the oldest segment, and tell what of it some reader had not acknowledged."""
        with self._changed:
            number, size = next(iter(self._folder.sizes.items()))
            if number == self._current:
                self._complete()
        with self._folder.opened(number) as fd:
            if fd is None:
                return
            with self._changed:
                if number not in self._folder.sizes:
                    return  # acknowledged, and so gone, meanwhile
                acknowledged = self._slowest()
                handed_out = min((reader.cursor for reader in self._readers.values()), default=START)
                # Gone before it is told: whatever happens next, a record is not told twice.
                self._delete(number)
            for cursor, payload in self._folder.records(fd, Cursor(number, len(HEADER)), size):
                if cursor > handed_out:
                    self._on_drop(payload, "full")
                elif cursor > acknowledged:  # being sent, and may well arrive
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
        """Take back a record that was not written whole. Where that fails, the next one is written over it."""
        with contextlib.suppress(OSError):
            if size:
                os.ftruncate(self._fd, size)
            else:
                self._current = None
                os.close(self._fd)
                self._folder.file(number).unlink()
        with self._changed, contextlib.suppress(OSError):
            self._free_with_current()  # the disk may be full with what is done with

    # Called with _changed held

    def _slowest(self) -> Cursor:
        return min((reader.acknowledged for reader in self._readers.values()), default=START)

    def _free_with_current(self) -> None:
        """Delete the segments that all readers are done with, even the current one. For the writer only."""
        if self._folder.end() <= min(self._slowest(), self._released):
            self._complete()
        self._free()

    def _free(self) -> None:
        """Delete the segments that all readers are done with, except the current one."""
        done = min(self._slowest(), self._released)
        while self._folder.sizes and not self._closed:  # a closed one may be another agent's by now
            number, size = next(iter(self._folder.sizes.items()))
            if number == self._current or Cursor(number, size) > done:
                return
            self._delete(number)

    def _complete(self) -> None:
        """Write no more to the current segment."""
        if self._current is not None:
            self._unsynced[self._current] = self._fd
            self._current = None

    def _delete(self, number: int) -> None:
        self._folder.delete(number)
        fd = self._unsynced.pop(number, None)
        if fd is not None:
            os.close(fd)


class Reader:
    """What one destination is sent, and how far it acknowledged. For one thread. Made by Spool.reader()."""

    def __init__(self, spool: Spool, folder: Folder, file_name: str) -> None:
        self._spool = spool
        self._folder = folder
        self._file = folder.path / file_name
        cursor = read_ack(self._file)
        if (cursor is None or cursor > folder.end()) and self._file.exists():
            # Damaged, or of a spool that is no more. Were it left, some day it would not be beyond the end.
            self._file.unlink()
            sync_folder(folder.path)
            cursor = None
        self.acknowledged = self._cursor = cursor or START
        self._in_flight: list[tuple[Cursor, Payload]] = []  # that was dropped after it was read

    @property
    def cursor(self) -> Cursor:
        """Up to where it was read."""
        return self._cursor

    @property
    def pending_bytes(self) -> int:
        """Bytes of records that are not acknowledged."""
        with self._folder.changed:
            return self._folder.bytes_after(self.acknowledged)

    def read(self, max_bytes: int, max_wait: float = 0.0) -> list[tuple[Cursor, bytes]]:
        """The next payloads, each with the cursor after it: `max_bytes` at most, but one where there is one.

        Waits for one for `max_wait` seconds. What was dropped meanwhile is passed over. Raises OSError.
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
        """Everything before `cursor` has arrived: never read it again, and free its room.

        Durable when it returns. OSError: it holds for this process, but after a restart may be read again.
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
                # First, since on a full disk it makes the room that the file needs. A segment that has gone is not
                # read again, whatever the file says.
                self._spool._free()
            finally:
                self._folder.changed.notify_all()
        write_ack(self._file, cursor)

    def rewind(self) -> None:
        """Read again what was not acknowledged. What was dropped since it was read cannot be: that is told now."""
        with self._folder.changed:
            self._cursor = self.acknowledged
            self._spool.lost += [payload for _, payload in self._in_flight]
            self._in_flight = []

    def dropped_in_flight(self, cursor: Cursor, payload: Payload) -> None:
        """A record that was read and not acknowledged was dropped from the spool. Called with the lock held."""
        self._in_flight.append((cursor, payload))
