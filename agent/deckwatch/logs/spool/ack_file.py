"""The file with the cursor up to which a destination has acknowledged the spool.

It is overwritten in place: that costs one system call, and nothing is lost if the process is killed. `sync` makes it
durable, so a power failure can only undo the acknowledgements since then: their records are sent again.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from typing import TYPE_CHECKING

from isal.isal_zlib import crc32

from deckwatch.config.private_files import open_private, sync_folder
from deckwatch.logs.spool.cursor import Cursor

if TYPE_CHECKING:
    from pathlib import Path

_TEXT = re.compile(rb"DWACK1 (([0-9]{1,16}) ([0-9]{1,16})) ([0-9a-f]{8})\n")
_MAX_BYTES = 128  # an acknowledgement is shorter


class AckFile:
    """Written by one thread. Another one may sync and close it at the same time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()  # held while the file descriptor is used
        self._fd = -1
        self._is_synced = True
        self._is_closed = False

    def read(self) -> Cursor | None:
        """Return the cursor; None if the file is missing or damaged. Raises OSError."""
        try:
            fd = open_private(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            match = _TEXT.fullmatch(os.read(fd, _MAX_BYTES))
        finally:
            os.close(fd)
        if not match or int(match[4], 16) != crc32(match[1]):
            return None
        return Cursor(int(match[2]), int(match[3]))

    def write(self, cursor: Cursor) -> None:
        """Write the cursor. Raises OSError and keeps the old one."""
        numbers = b"%016d %016d" % cursor  # always of the same size
        text = b"DWACK1 %s %08x\n" % (numbers, crc32(numbers))
        with self._lock:
            if self._fd >= 0:
                os.pwrite(self._fd, text, 0)
                self._is_synced = False
                return
            fd = self._created(text)
            if self._is_closed:
                os.close(fd)
            else:
                self._fd = fd

    def sync(self) -> None:
        """Make what was written durable. Raises OSError."""
        with self._lock:
            if self._is_synced:
                return
            self._is_synced = True
            fd = os.dup(self._fd)
        try:
            os.fdatasync(fd)
        except OSError:
            self._is_synced = False
            raise
        finally:
            os.close(fd)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def _created(self, text: bytes) -> int:
        """Replace the file durably by one with this text. Return its file descriptor."""
        temporary = self.path.with_name(self.path.name + ".tmp")
        try:
            fd = open_private(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            try:
                os.write(fd, text)
                os.fsync(fd)
                temporary.replace(self.path)
                sync_folder(self.path.parent)
            except OSError:
                os.close(fd)
                raise
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        return fd
