"""The folder of one service: the files of living processes, and the archive of those that are gone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .archive import KEPT_MODES, NAME, Archive, Identity, load
from .multiprocess_file import EXEMPLAR, Damaged, FileName, Values, ValuesReader, locked_by, parse_name, read_exemplars
from .processes import Running, file_id

if TYPE_CHECKING:
    from deckwatch.exporter import Exemplar

_LOCK = "deckwatch.lock"
_COUNTED = ("counter", "histogram", "summary")
_MIN_REMOVED = 500  # files in one collection, since removing takes longer than reading
_ORPHAN_AGE = 60.0  # seconds; a process creates its lock before its first file


def services_in(folder: str) -> list[str]:
    """The names of the services, which are those of the folders. Empty if there is no such folder."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
    return []


@dataclass
class Contents:
    """The values of a service by kind of file: `counter`, `gauge_livesum` ... `damaged` files are left out."""

    values: dict[str, list[Values]] = field(default_factory=dict)
    exemplars: dict[bytes, Exemplar] = field(default_factory=dict)  # the latest of living processes
    processes: int = 0
    running: list[Running] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, values: Values) -> None:
        self.values.setdefault(kind, []).append(values)

    def add_exemplars(self, exemplars: dict[bytes, Exemplar]) -> None:
        for key, exemplar in exemplars.items():
            known = self.exemplars.get(key)
            if known is None or (known.timestamp or 0.0) < (exemplar.timestamp or 0.0):
                self.exemplars[key] = exemplar


class ServiceFolder:
    """A service's folder. One agent at a time archives the files of dead processes; it holds a lock on the folder."""

    def __init__(self, path: str, gauge_retention: float) -> None:
        """Gauges of processes that have ended are kept for `gauge_retention` seconds."""
        self._path = path
        self._gauge_retention = gauge_retention
        self._archive: Archive | None = None
        self._lock: int | None = None
        self._reader = ValuesReader()

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
        dead: list[tuple[FileName, Identity, Values]] = []
        archived: list[FileName] = []
        lives: dict[str, bool] = {}
        files, locks = self._files()
        archive.included.intersection_update(identity for _, _, identity in files)
        for file, written, identity in files:
            if identity in archive.included:
                archived.append(file)
                continue
            # Before reading: what a process writes until it ends is then read after its end.
            if file.process not in lives:
                lives[file.process] = self._lives(file, written)
            path, values = os.path.join(self._path, file.name), Values()
            try:
                if file.type != EXEMPLAR:
                    values = self._reader.read(path, _kind(file))
                elif lives[file.process]:
                    found.add_exemplars(read_exemplars(path))
            except FileNotFoundError:
                continue
            except Damaged as why:
                found.damaged[file.name] = str(why)
                continue
            if lives[file.process]:
                if values.keys:
                    found.add(_kind(file), values)
            elif archives:
                dead.append((file, identity, values))
            elif _outlives(file):
                found.add(_kind(file), values)
        if dead and (obstacle := self._fold(archive, dead)):
            found.damaged[NAME] = obstacle
            archive = load(self._path)
            for file, _, values in dead:
                if _outlives(file):
                    found.add(_kind(file), values)
        else:
            archived += [file for file, _, _ in dead]
        archive.forget(time.time() - self._gauge_retention)
        for kind in _COUNTED:
            found.add(kind, archive.sums(kind))
        for mode in archive.gauges:
            found.add(f"gauge_{mode}", archive.kept(mode))
        found.processes = sum(lives.values())
        found.running = [self._running(process) for process, is_running in lives.items() if is_running]
        if archives:
            self._remove_archived(archived, locks)
            self._remove_orphans(locks - lives.keys() - {file.process for file in archived})
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

    def _files(self) -> tuple[list[tuple[FileName, float, Identity]], set[str]]:
        """The files with values and the times of their last change, and the processes that have a lock."""
        found, locks = [], set()
        for entry in os.scandir(self._path):
            if process := locked_by(entry.name):
                locks.add(process)
            elif (file := parse_name(entry.name)) is not None and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    found.append((file, status.st_mtime, (file.name, status.st_ino, status.st_mtime_ns)))
        return found, locks

    def _fold(self, archive: Archive, dead: list[tuple[FileName, Identity, Values]]) -> str:
        """Add the values of dead processes to the archive. Most gauges of the dead go.

        Returns why the archive cannot be written. Then the archive is read again.
        """
        for kind in _COUNTED:
            archive.add(kind, [values for file, _, values in dead if file.type == kind])
        for file, identity, values in dead:
            if file.mode in KEPT_MODES:
                archive.keep(file.mode, values.entries(), identity[2] / 1e9)
            archive.included.add(identity)
        try:
            archive.write(self._path)
        except OSError as failure:
            self._archive = None
            return f"cannot be written: {failure.strerror}"
        return ""

    def _remove_archived(self, files: list[FileName], locks: set[str]) -> None:
        """Remove a part of the files that the archive includes, and the locks of processes without files."""
        count = max(_MIN_REMOVED, len(files) // 10)
        for file in files[:count]:
            self._remove(file.name)
        remaining = {file.process for file in files[count:]}
        for process in {file.process for file in files[:count]} - remaining:
            if process in locks:
                self._remove(f"{process}.lock")

    def _lives(self, file: FileName, written: float) -> bool:
        """Whether the process that wrote a file still runs: it holds a lock, or it is visible here."""
        is_held = self._is_held(f"{file.process}.lock")
        return is_alive(file.pid, written) if is_held is None else is_held

    def _running(self, process: str) -> Running:
        lock = f"{process}.lock"
        return Running(
            file_id(os.path.join(self._path, lock)),
            int(process.partition("-")[0]),
            lambda: self._is_held(lock) is True,
        )

    def _is_held(self, lock: str) -> bool | None:
        """Whether a process holds the lock; None if there is no such file."""
        try:
            descriptor = os.open(os.path.join(self._path, lock), os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _remove_orphans(self, processes: set[str]) -> None:
        """Remove locks of processes that ended before they wrote values."""
        for process in processes:
            name = f"{process}.lock"
            with contextlib.suppress(OSError):
                written = os.stat(os.path.join(self._path, name), follow_symlinks=False).st_mtime
                if time.time() - written > _ORPHAN_AGE and self._is_held(name) is False:
                    self._remove(name)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self._path, name))  # noqa: PTH108 - pathlib doubles its time


def _kind(file: FileName) -> str:
    return f"gauge_{file.mode}" if file.type == "gauge" else file.type


def _outlives(file: FileName) -> bool:
    """Whether a file's values count after the end of its process."""
    return file.type in _COUNTED or file.mode in KEPT_MODES


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
