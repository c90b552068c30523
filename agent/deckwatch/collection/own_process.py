"""The agent's own process, under the names that every Prometheus client has, and its build."""

from __future__ import annotations

import os
import platform
import re
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from deckwatch import __version__
from deckwatch.metrics.declaration import Counter, Gauge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.metrics.declaration import Sample

CPU = Counter("process_cpu_seconds_total", "CPU time used, in seconds.")
RESIDENT = Gauge("process_resident_memory_bytes", "Resident memory, in bytes.")
VIRTUAL = Gauge("process_virtual_memory_bytes", "Virtual memory, in bytes.")
VIRTUAL_MAX = Gauge("process_virtual_memory_max_bytes", "Maximum amount of virtual memory available, in bytes.")
OPEN_FDS = Gauge("process_open_fds", "Number of open file descriptors.")
MAX_FDS = Gauge("process_max_fds", "Maximum number of open file descriptors.")
START_TIME = Gauge("process_start_time_seconds", "Time of the last start of a process, in Unix seconds.")
BUILD_INFO = Gauge("deckwatch_build_info", "Versions of the agent and of Python; always 1.", ["version", "python"])

# What Go, and so every Go exporter, prints for "no limit".
_NO_LIMIT = float(2**64 - 1)


# Times in /proc/<pid>/stat are in ticks, the resident memory is in pages (proc_pid_stat(5)).
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_SIZE = 4096  # bytes; the file has a few hundred


class OwnProcess:
    def __init__(self) -> None:
        boot = re.search(r"^btime ([0-9]+)$", Path("/proc/stat").read_text(encoding="ascii"), re.MULTILINE)
        self._boot = 0 if boot is None else int(boot[1])  # Unix seconds
        self._version = f"{platform.python_implementation()} {sys.version_info.major}.{sys.version_info.minor}"

    def collect(self) -> Iterator[Sample]:
        # The name of the process, in parentheses, can contain anything.
        with open("/proc/self/stat", "rb", buffering=0) as file:
            words = file.read(_SIZE).rpartition(b") ")[2].split()
        user, system, start, virtual, resident = (int(words[index]) for index in (11, 12, 19, 20, 21))
        yield CPU((user + system) / _TICKS)
        yield RESIDENT(resident * _PAGE)
        yield VIRTUAL(virtual)
        yield OPEN_FDS(_open_files())
        yield START_TIME(self._boot + start / _TICKS)
        address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
        yield VIRTUAL_MAX(_NO_LIMIT if address_space == resource.RLIM_INFINITY else address_space)
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        yield MAX_FDS(_NO_LIMIT if files == resource.RLIM_INFINITY else files)
        yield BUILD_INFO(1, version=__version__, python=self._version)


def _open_files() -> int:
    # Since Linux 6.2, the size of the folder is the number of open files (proc_fd_getattr() in fs/proc/fd.c).
    return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))
