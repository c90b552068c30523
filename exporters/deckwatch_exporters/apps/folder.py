"""The folder of one service: the files of living processes, and the archive of those that are gone."""

from __future__ import annotations

import contextlib
import fcntl
import os
from dataclasses import dataclass, field
from pathlib import Path

from .archive import NAME, Archive, Identity, load
from .multiprocess_file import Damaged, Entry, FileName, parse_name, read

_LOCK = "deckwatch.lock"
_COUNTED = ("counter", "histogram", "summary")


def services_in(folder: str) -> list[str]:
    """The names of the services, which are those of the folders. Empty if there is no such folder."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
    return []


@dataclass
class Contents:
    """The values of a service by kind of file: `counter`, `gauge_livesum` ... `damaged` files are left out."""

    values: dict[str, list[Entry]] = field(default_factory=dict)
    processes: int = 0
    damaged: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, values: list[Entry]) -> None:
        self.values.setdefault(kind, []).extend(values)


class ServiceFolder:
    """A service's folder. One agent at a time archives the files of dead processes; it holds a lock on the folder."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._archive: Archive | None = None
        self._lock: int | None = None

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        self._archive = None

    def contents(self) -> Contents:
        """The values of all processes that are or were. Raises OSError, ValueError and NewerArchive."""
        archives = self._acquire()
        if self._archive is None or not archives:
            self._archive = load(self._path)
        archive, found = self._archive, Contents()
        dead: list[tuple[FileName, Identity, list[Entry]]] = []
        pids: dict[int, bool] = {}
        for file, status in self._files():
            identity = (file.name, status.st_ino, status.st_mtime_ns)
            if identity in archive.included:
                if archives:
                    self._remove(file.name)
                continue
            # Before reading: what a process writes until it ends is then read after its end.
            if file.pid not in pids:
                pids[file.pid] = self._lives(file.pid, status.st_mtime)
            try:
                values = read(os.path.join(self._path, file.name))
            except FileNotFoundError:
                continue
            except Damaged as why:
                found.damaged[file.name] = str(why)
                continue
            if pids[file.pid]:
                found.add(f"gauge_{file.mode}" if file.type == "gauge" else file.type, values)
            elif archives:
                dead.append((file, identity, values))
            elif file.type in _COUNTED:
                found.add(file.type, values)
        if dead and (obstacle := self._fold(archive, dead)):
            found.damaged[NAME] = obstacle
            archive = load(self._path)
            for file, _, values in dead:
                if file.type in _COUNTED:
                    found.add(file.type, values)
        for kind in _COUNTED:
            found.add(kind, archive.entries(kind))
        found.processes = sum(pids.values())
        return found

    def _acquire(self) -> bool:
        """Whether this agent archives. Another agent, or a folder that cannot be written to, leaves the files alone."""
        if self._lock is not None:
            return True
        try:
            descriptor = os.open(os.path.join(self._path, _LOCK), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._lock = descriptor
        return True

    def _files(self) -> list[tuple[FileName, os.stat_result]]:
        found = []
        for entry in os.scandir(self._path):
            file = parse_name(entry.name)
            if file is not None and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(FileNotFoundError):
                    found.append((file, entry.stat(follow_symlinks=False)))
        return found

    def _fold(self, archive: Archive, dead: list[tuple[FileName, Identity, list[Entry]]]) -> str:
        """Add the counters of dead processes to the archive, then remove their files. Gauges of the dead go.

        Returns why the archive cannot be written. Then the files stay, and the archive is read again.
        """
        for file, identity, values in dead:
            if file.type in _COUNTED:
                archive.add(file.type, values)
            archive.included.add(identity)
        try:
            archive.write(self._path)
        except OSError as failure:
            self._archive = None
            return f"cannot be written: {failure.strerror}"
        for file, _, _ in dead:
            self._remove(file.name)
            self._remove(f"{file.pid}.lock")
        return ""

    def _lives(self, pid: int, written: float) -> bool:
        """Whether the process that wrote a file still runs: it holds a lock, or it is visible here."""
        try:
            descriptor = os.open(os.path.join(self._path, f"{pid}.lock"), os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            return is_alive(pid, written)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            Path(self._path, name).unlink()


def is_alive(pid: int, written: float) -> bool:
    """Whether the process that wrote a file still runs. A process that began after the last write is another one."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    except OSError:
        return True
    if fields[0] in (b"Z", b"X"):
        return False
    started = _boot_time() + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return started <= written + 2.0  # the clocks of the kernel and of file systems differ by ticks


def _boot_time() -> float:
    with open("/proc/stat", "rb") as file:
        for line in file:
            if line.startswith(b"btime "):
                return float(line.split()[1])
    return 0.0
