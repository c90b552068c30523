"""Log files that several processes append to and rotate.

Each write is one append of whole lines. A file is rotated under a lock, so that of several processes one does it; the
others see that the path has another inode and open it again, also after a rotation by another program.
"""

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

_MODE = 0o640


class LogFile:
    """A file that is never rotated. Subclasses say when and how."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor = -1
        self._is_torn = False  # the last write ended within a line
        self._opened: tuple[int, int, int] = (0, 0, 0)  # process, device and inode

    def write(self, data: bytes) -> None:
        """Append whole lines. Raises OSError if not all could be written."""
        self._follow()
        if self._is_due(len(data)):
            with self._lock() as is_locked:
                self._follow()
                if is_locked and self._is_due(len(data)):
                    self._rotate()
                    self._open()
        if self._is_torn:
            data = b"\n" + data
        written = os.write(self._descriptor, data)
        while written < len(data):
            self._is_torn = True
            written += os.write(self._descriptor, data[written:])
        self._is_torn = False

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _follow(self) -> None:
        """Open the file if it is not open, or if the path is another file now."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            self._open()
            return
        if self._descriptor < 0 or (os.getpid(), found.st_dev, found.st_ino) != self._opened:
            self._open()

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self.path, flags, _MODE)
        if self._opened[0] == os.getpid():  # otherwise a thread of the parent may have closed it during the fork
            self.close()
        self._descriptor = descriptor
        status = os.fstat(descriptor)
        self._opened = os.getpid(), status.st_dev, status.st_ino
        self._is_torn = False

    @contextlib.contextmanager
    def _lock(self) -> Iterator[bool]:
        """Whether this process has the lock, which another one holds while it rotates."""
        folder, name = os.path.split(self.path)
        descriptor = os.open(os.path.join(folder, f".{name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            try:
                yield True
            finally:
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough if a child was forked meanwhile
        finally:
            os.close(descriptor)

    def _is_due(self, added: int) -> bool:
        del added
        return False

    def _rotate(self) -> None:
        """Move the file away. The lock is held."""


class SizeRotatedFile(LogFile):
    """`app.json`, `app.json.1` and so on: rotated before it exceeds `max_bytes`; `keep` old files stay."""

    def __init__(self, path: str, max_bytes: int, keep: int) -> None:
        super().__init__(path)
        self._max_bytes = max_bytes
        self._keep = keep

    def _is_due(self, added: int) -> bool:
        size = os.fstat(self._descriptor).st_size
        return size > 0 and size + added > self._max_bytes

    def _rotate(self) -> None:
        for number in range(self._keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self.path}.{number}").replace(f"{self.path}.{number + 1}")
        Path(self.path).replace(f"{self.path}.1")


class DailyFile(LogFile):
    """`audit.json`, `audit.json.2026-03-02`: rotated when the day (UTC) changes; files of the last `days` stay."""

    def __init__(self, path: str, days: int) -> None:
        super().__init__(path)
        self._days = days

    def _is_due(self, added: int) -> bool:
        del added
        status = os.fstat(self._descriptor)
        return status.st_size > 0 and _day(status.st_mtime) < _day(time.time())

    def _rotate(self) -> None:
        rotated = f"{self.path}.{_day(os.fstat(self._descriptor).st_mtime)}"
        number = 0
        while (target := Path(f"{rotated}.{number}" if number else rotated)).exists():
            number += 1
        Path(self.path).rename(target)
        oldest = date.fromisoformat(_day(time.time())) - timedelta(days=self._days)
        folder, own = os.path.split(self.path)
        for entry in os.listdir(folder or "."):
            found = re.fullmatch(re.escape(own) + r"\.(\d{4}-\d\d-\d\d)(\.\d+)?", entry)
            if found and found[1] < oldest.isoformat():
                with contextlib.suppress(OSError):
                    Path(folder, entry).unlink()


def _day(timestamp: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(timestamp))
