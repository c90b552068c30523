"""Pressure stall information, from /proc/pressure (Documentation/accounting/psi.rst)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, NotAvailable

from .figures import figure
from .paths import Paths, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Sample

WAITED = {
    "cpu": Counter("node_pressure_cpu_waiting_seconds_total", "Seconds in which processes waited for CPU time."),
    "io": Counter("node_pressure_io_waiting_seconds_total", "Seconds in which processes waited for I/O."),
    "memory": Counter("node_pressure_memory_waiting_seconds_total", "Seconds in which processes waited for memory."),
}
# For the CPU the kernel prints a line of this kind too, but it is undefined at the level of the host.
STALLED = {
    "io": Counter("node_pressure_io_stalled_seconds_total", "Seconds in which no process could run for want of I/O."),
    "memory": Counter(
        "node_pressure_memory_stalled_seconds_total", "Seconds in which no process could run for want of memory."
    ),
    "irq": Counter("node_pressure_irq_stalled_seconds_total", "Seconds in which no process could run for interrupts."),
}

RESOURCES = ("cpu", "io", "memory", "irq")


class Pressure:
    def __init__(self, paths: Paths) -> None:
        self._folder = paths.in_proc("pressure")

    def collect(self) -> Iterator[Sample]:
        answered = False
        for resource in RESOURCES:
            text = _read(f"{self._folder}/{resource}")
            if text is None:
                continue
            answered = True
            totals = parse_pressure(text, resource)
            if resource in WAITED and "some" in totals:
                yield WAITED[resource](totals["some"] / 1e6)
            if resource in STALLED and "full" in totals:
                yield STALLED[resource](totals["full"] / 1e6)
        if not answered:
            raise NotAvailable


def _read(path: str) -> str | None:
    try:
        return read_text(path)
    except FileNotFoundError:
        return None  # a kernel before 4.20, and for interrupts before 6.1
    except OSError as failure:
        if failure.errno != errno.EOPNOTSUPP:
            raise
        return None  # the kernel has it, but was booted with psi=0


def parse_pressure(text: str, resource: str) -> dict[str, int]:
    """Total stall time in microseconds for `some` and `full`. Raises ValueError, with `resource` in it."""
    totals = {}
    for line in filter(None, text.split("\n")):
        kind, _, rest = line.partition(" ")
        _, equals, total = rest.rpartition("total=")
        if kind not in ("some", "full") or not equals:
            raise ValueError(f"/proc/pressure/{resource}: no total of some or full: {line[:80]!r}")
        totals[kind] = figure(total, f"/proc/pressure/{resource}")
    if not totals:
        raise ValueError(f"/proc/pressure/{resource} is empty")
    return totals
