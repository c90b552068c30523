"""Time that tasks run on CPUs and wait for them, from /proc/schedstat (Documentation/scheduler/sched-stats.rst)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, NotAvailable

from .kept_files import KeptFiles
from .parse_numbers import MalformedValues, parse_unsigned_numbers
from .paths import Paths

if TYPE_CHECKING:
    from deckwatch.exporter import Samples

RUNNING = Counter("node_schedstat_running_seconds_total", "Time the CPU spent running tasks, in seconds.", ["cpu"])
WAITING = Counter(
    "node_schedstat_waiting_seconds_total", "Time that tasks spent waiting for the CPU, in seconds.", ["cpu"]
)
TIMESLICES = Counter("node_schedstat_timeslices_total", "Number of timeslices executed by the CPU.", ["cpu"])
_WIDTH = 10  # fields of the line of a CPU since version 15 of the file
_VERSION = re.compile(r"version ([0-9]{1,5})\n")


class Schedstat:
    def __init__(self, paths: Paths) -> None:
        self._files = KeptFiles()
        self._path = paths.in_proc("schedstat")

    def collect(self) -> Samples:
        try:
            text = self._files.read(self._path)
        except FileNotFoundError:
            raise NotAvailable from None  # a kernel without CONFIG_SCHEDSTATS
        malformed = MalformedValues()
        for cpu, values in parse_schedstat(text, malformed).items():
            running, waiting, timeslices = values
            if running is not None:
                yield RUNNING(running / 1e9, cpu=cpu)
            if waiting is not None:
                yield WAITING(waiting / 1e9, cpu=cpu)
            if timeslices is not None:
                yield TIMESLICES(timeslices, cpu=cpu)
        yield from malformed


def parse_schedstat(text: str, malformed: MalformedValues) -> dict[str, list[int | None]]:
    """Running and waiting time in nanoseconds and the number of timeslices, by CPU number."""
    version = _VERSION.match(text)
    is_old = version is not None and int(version[1]) < 15  # has further columns at the end
    cpus: dict[str, list[int | None]] = {}
    for line in text.split("\n"):
        if not line.startswith("cpu"):
            continue  # the version, the time, and the scheduling domains of each CPU
        words = line.split()
        cpu = words[0][3:]
        has_columns = len(words) == _WIDTH or (is_old and len(words) > _WIDTH)
        if not has_columns or not (cpu.isdecimal() and cpu.isascii()) or cpu in cpus:
            malformed.add("/proc/schedstat", line)
        else:
            cpus[cpu] = parse_unsigned_numbers(words[7:_WIDTH], f"/proc/schedstat: cpu{cpu}", malformed)
    if not cpus and not malformed:
        malformed.add("/proc/schedstat: cpu", "")
    return cpus
