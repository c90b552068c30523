"""How busy the host is in three figures, for the status page and the health endpoints."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from deckwatch.collection.status import HostStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deckwatch.metrics.declaration import Sample

# Columns of /proc/stat (proc_stat(5)). The two after these, time in guests, are part of user and nice.
_USER_TO_STEAL = slice(1, 9)
_IDLE, _IOWAIT = 3, 4
_SIZE = 4096  # bytes
_MEMORY = re.compile(rb"MemTotal: +([0-9]+) kB\n(?:.*\n)*?MemAvailable: +([0-9]+) kB\n")


class HostSummary:
    """A collector without samples: it keeps `status` up to date, so that no request has to ask a file system."""

    def __init__(self) -> None:
        self.status = HostStatus()
        self._ticks: list[int] = []

    def collect(self) -> Iterable[Sample]:
        self.status = HostStatus(cpu_ratio=self._cpu_ratio(), memory_ratio=_memory_ratio(), disk_ratio=_disk_ratio())
        return ()

    def _cpu_ratio(self) -> float | None:
        """CPU usage since the last run; unknown in the first one."""
        ticks = [int(word) for word in _read("/proc/stat").partition(b"\n")[0].split()[_USER_TO_STEAL]]
        before = self._ticks or ticks
        # Idle time can decrease a little.
        passed = [max(0, now - then) for then, now in zip(before, ticks, strict=False)]
        total = sum(passed)
        if self._ticks and not total:
            return self.status.cpu_ratio  # no tick has passed
        self._ticks = ticks
        return 1 - (passed[_IDLE] + passed[_IOWAIT]) / total if total else None


def _read(path: str) -> bytes:
    """The beginning of a kernel file, in a single read."""
    with open(path, "rb", buffering=0) as file:
        return file.read(_SIZE)


def _memory_ratio() -> float | None:
    found = _MEMORY.match(_read("/proc/meminfo"))
    return None if found is None else 1 - int(found[2]) / int(found[1])


def _disk_ratio() -> float | None:
    """The used part of what users other than root can use of the root file system, as df(1) shows it."""
    disk = os.statvfs("/")
    used = disk.f_blocks - disk.f_bfree
    return used / (used + disk.f_bavail) if used + disk.f_bavail else None
