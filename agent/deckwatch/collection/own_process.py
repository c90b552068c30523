"""The agent's own process, under the names that every Prometheus client has, and its build."""

from __future__ import annotations

import platform
import resource
import sys
from typing import TYPE_CHECKING

import psutil

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


class OwnProcess:
    def __init__(self) -> None:
        self._process = psutil.Process()

    def collect(self) -> Iterator[Sample]:
        with self._process.oneshot():
            cpu, memory = self._process.cpu_times(), self._process.memory_info()
            yield CPU(cpu.user + cpu.system)
            yield RESIDENT(memory.rss)
            yield VIRTUAL(memory.vms)
            yield OPEN_FDS(self._process.num_fds())
            yield START_TIME(self._process.create_time())
        address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
        yield VIRTUAL_MAX(_NO_LIMIT if address_space == resource.RLIM_INFINITY else address_space)
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        yield MAX_FDS(_NO_LIMIT if files == resource.RLIM_INFINITY else files)
        version = f"{platform.python_implementation()} {sys.version_info.major}.{sys.version_info.minor}"
        yield BUILD_INFO(1, version=__version__, python=version)
