"""Pressure stall information, from /proc/pressure (Documentation/accounting/psi.rst)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from deckwatch.collector import NotAvailable
from deckwatch.metric import counter

from .paths import Paths, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.metric import Sample

WAITED = {
    "cpu": counter("node_pressure_cpu_waiting_seconds_total", "Seconds in which processes waited for CPU time."),
    "io": counter("node_pressure_io_waiting_seconds_total", "Seconds in which processes waited for I/O."),
    "memory": counter("node_pressure_memory_waiting_seconds_total", "Seconds in which processes waited for memory."),
}
STALLED = {
    "io": counter("node_pressure_io_stalled_seconds_total", "Seconds in which no process could run for want of I/O."),
    "memory": counter(
        "node_pressure_memory_stalled_seconds_total", "Seconds in which no process could run for want of memory."
    ),
    "irq": counter("node_pressure_irq_stalled_seconds_total", "Seconds in which no process could run for interrupts."),
}


class Pressure:
    def __init__(self, paths: Paths) -> None:
        self._folder = paths.in_proc("pressure")

    def collect(self) -> Iterator[Sample]:
        answered = False
        for resource in ("cpu", "io", "memory", "irq"):
            try:
                text = read_text(f"{self._folder}/{resource}")
            except FileNotFoundError:
                continue
            except OSError as failure:
                if failure.errno != errno.EOPNOTSUPP:  # the kernel has it, but was booted with psi=0
                    raise
                continue
            answered = True
            totals = parse_pressure(text)
            if resource in WAITED and "some" in totals:
                yield WAITED[resource](totals["some"] / 1e6)
            if resource in STALLED and "full" in totals:
                yield STALLED[resource](totals["full"] / 1e6)
        if not answered:
            raise NotAvailable


def parse_pressure(text: str) -> dict[str, int]:
    """Total stall time in microseconds for `some` and `full`. Raises ValueError."""
    totals = {}
    for line in filter(None, text.split("\n")):
        kind, _, rest = line.partition(" ")
        figures = dict(part.partition("=")[::2] for part in rest.split())
        if "total" not in figures:
            raise ValueError(f"/proc/pressure: no total in {line[:80]!r}")
        totals[kind] = int(figures["total"])
    return totals
