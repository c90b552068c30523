"""What tasks wait for the CPUs, from /proc/schedstat (Documentation/scheduler/sched-stats.rst)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.collector import NotAvailable
from deckwatch.metric import counter

from .paths import Paths, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.metric import Sample

RUNNING = counter("node_schedstat_running_seconds_total", "Seconds the CPU spent running tasks.", ["cpu"])
WAITING = counter("node_schedstat_waiting_seconds_total", "Seconds that tasks spent waiting for the CPU.", ["cpu"])
TIMESLICES = counter("node_schedstat_timeslices_total", "Timeslices executed by the CPU.", ["cpu"])


class Schedstat:
    def __init__(self, paths: Paths) -> None:
        self._path = paths.in_proc("schedstat")

    def collect(self) -> Iterator[Sample]:
        try:
            text = read_text(self._path)
        except FileNotFoundError:
            raise NotAvailable from None
        for cpu, running, waiting, slices in parse_schedstat(text):
            yield RUNNING(running / 1e9, cpu=cpu)
            yield WAITING(waiting / 1e9, cpu=cpu)
            yield TIMESLICES(slices, cpu=cpu)


def parse_schedstat(text: str) -> list[tuple[str, int, int, int]]:
    """CPU, nanoseconds running and waiting, timeslices: the last three of a CPU's figures. Raises ValueError."""
    found = []
    for line in text.split("\n"):
        if line.startswith("cpu"):
            name, *figures = line.split()
            if len(figures) < 9:
                raise ValueError(f"/proc/schedstat: {name} has {len(figures)} figures, not nine or more")
            found.append((name[3:], int(figures[6]), int(figures[7]), int(figures[8])))
    return found
