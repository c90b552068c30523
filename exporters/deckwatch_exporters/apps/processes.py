"""CPU time, memory and open files of the processes of a service, added up, without a label for the process.

A process holds a lock on a file, and /proc/locks says which process that is, with its process id here. This works for
containers too if their processes are visible here.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from deckwatch.exporter import Sample

_SERVICE = ["service"]
CPU = Counter("process_cpu_seconds_total", "CPU time used, in seconds.", _SERVICE)
RESIDENT = Gauge("process_resident_memory_bytes", "Resident memory, in bytes.", _SERVICE)
VIRTUAL = Gauge("process_virtual_memory_bytes", "Virtual memory, in bytes.", _SERVICE)
OPEN_FDS = Gauge("process_open_fds", "Number of open file descriptors.", _SERVICE)
MAX_FDS = Gauge("process_max_fds", "Maximum number of open file descriptors.", _SERVICE)
START_TIME = Gauge("process_start_time_seconds", "Time of the last start of a process, in Unix seconds.", _SERVICE)

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")

#: A file by its device (major and minor number) and inode.
FileId = tuple[int, int, int]


@dataclass(frozen=True)
class Running:
    """A living process: by its lock, or by its id here if it has none. `is_running` says whether it still lives."""

    lock: FileId | None
    pid: int
    is_running: Callable[[], bool]


@dataclass(frozen=True)
class _Figures:
    """Of one process. Times are in seconds, `started` since the boot. Open files are None if they cannot be read."""

    started: float
    cpu: float
    virtual: int
    resident: int
    open_files: int | None
    max_files: int | None


class ServiceProcesses:
    """The processes of one service. CPU time counts from when this object first sees a process that runs already."""

    def __init__(self) -> None:
        self._cpu = 0.0
        self._known: dict[tuple[int, float], float] = {}  # process id and start, and its CPU time
        self._last = 0.0  # when it was read last, in seconds since the boot

    def samples(self, service: str, running: Iterable[Running], owners: LockOwners) -> Iterator[Sample]:
        """The sums. Nothing if a process is not visible: sums of the others would look like those of all."""
        found: dict[int, _Figures] = {}
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        for process in running:
            pid = process.pid if process.lock is None else owners.pid(process.lock)
            figures = _read(pid) if pid else None
            if figures is not None:
                found[pid] = figures
            elif process.is_running():
                return
        self._count(found, now)
        if not found:
            return
        every = found.values()
        yield CPU(self._cpu, service=service)
        yield RESIDENT(sum(it.resident for it in every), service=service)
        yield VIRTUAL(sum(it.virtual for it in every), service=service)
        booted = time.time() - now
        yield START_TIME(round(booted + max(it.started for it in every), 2), service=service)
        open_files = [it.open_files for it in every if it.open_files is not None]
        if len(open_files) == len(found):
            yield OPEN_FDS(sum(open_files), service=service)
        max_files = [it.max_files for it in every if it.max_files is not None]
        if len(max_files) == len(found):
            yield MAX_FDS(sum(max_files), service=service)

    def _count(self, found: dict[int, _Figures], now: float) -> None:
        known = {}
        last = self._last - 1 / _TICKS if self._last else now + 1  # starts are rounded down
        for pid, figures in found.items():
            key = pid, figures.started
            # Counted before if it ran already: a counter that begins again is to begin near 0.
            before = self._known.get(key, 0.0 if figures.started >= last else figures.cpu)
            self._cpu += max(0.0, figures.cpu - before)
            known[key] = figures.cpu
        self._known, self._last = known, now


class LockOwners:
    """The processes that hold locks of flock(), as far as they are visible. Source: fs/locks.c, lock_get_status()."""

    def __init__(self) -> None:
        self._pids = _lock_owners()
        self._is_read_again = False

    def pid(self, lock: FileId) -> int:
        """0 if it is not visible."""
        if lock not in self._pids and not self._is_read_again:  # it may have been taken meanwhile
            self._pids, self._is_read_again = _lock_owners(), True
        return self._pids.get(lock, 0)


def _lock_owners() -> dict[FileId, int]:
    owners = {}
    with contextlib.suppress(OSError), open("/proc/locks") as file:
        for line in file:
            fields = line.split()
            if len(fields) >= 6 and fields[1] == "FLOCK" and fields[4].isdigit():
                with contextlib.suppress(ValueError):
                    major, minor, inode = fields[5].split(":")
                    owners[int(major, 16), int(minor, 16), int(inode)] = int(fields[4])
    return owners


def file_id(path: str) -> FileId | None:
    """None if there is no such file."""
    try:
        status = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return os.major(status.st_dev), os.minor(status.st_dev), status.st_ino


def _read(pid: int) -> _Figures | None:
    """The figures of a process; None if it has ended. Source: proc(5)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        utime, stime, started, virtual, resident = (int(fields[number]) for number in (11, 12, 19, 20, 21))
    except (OSError, ValueError, IndexError):
        return None
    open_files = max_files = None
    with contextlib.suppress(OSError):  # of another user
        # Since Linux 6.2, the size of the folder is the number of its files.
        open_files = os.stat(f"/proc/{pid}/fd").st_size or len(os.listdir(f"/proc/{pid}/fd"))
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/limits") as file:
        line = next((line for line in file if line.startswith("Max open files")), "")
        max_files = int(line.split()[3])
    return _Figures(started / _TICKS, (utime + stime) / _TICKS, virtual, resident * _PAGE, open_files, max_files)
