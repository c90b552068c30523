"""What tasks wait for the CPUs, from /proc/schedstat (Documentation/scheduler/sched-stats.rst)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from deckwatch.exporter import Counter, NotAvailable

from .figures import figures
from .paths import Paths, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Sample

RUNNING = Counter("node_schedstat_running_seconds_total", "Seconds the CPU spent running tasks.", ["cpu"])
WAITING = Counter("node_schedstat_waiting_seconds_total", "Seconds that tasks spent waiting for the CPU.", ["cpu"])
TIMESLICES = Counter("node_schedstat_timeslices_total", "Timeslices executed by the CPU.", ["cpu"])


class RunQueue(NamedTuple):
    """What a CPU's queue of tasks has seen: nanoseconds, nanoseconds, and a count."""

    running: int
    waiting: int
    timeslices: int


class Schedstat:
    def __init__(self, paths: Paths) -> None:
        self._path = paths.in_proc("schedstat")

    def collect(self) -> Iterator[Sample]:
        try:
            text = read_text(self._path)
        except FileNotFoundError:
            raise NotAvailable from None  # a kernel without CONFIG_SCHEDSTATS
        for cpu, queue in parse_schedstat(text).items():
            yield RUNNING(queue.running / 1e9, cpu=cpu)
            yield WAITING(queue.waiting / 1e9, cpu=cpu)
            yield TIMESLICES(queue.timeslices, cpu=cpu)


def parse_schedstat(text: str) -> dict[str, RunQueue]:
    """By CPU number: the seventh to ninth figure of its line, alike since version 15. Raises ValueError."""
    cpus = {}
    for line in text.split("\n"):
        if not line.startswith("cpu"):
            continue  # the version, the time, and the scheduling domains of each CPU
        name, *words = line.split()
        if len(words) < 9 or not name[3:].isdecimal():
            raise ValueError(f"/proc/schedstat: not a CPU with nine figures: {line[:80]!r}")
        cpus[name[3:]] = RunQueue(*figures(words[6:9], "/proc/schedstat"))
    if not cpus:
        raise ValueError("/proc/schedstat names no CPU")
    return cpus
