"""Pressure stall information, from /proc/pressure (Documentation/accounting/psi.rst)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, NotAvailable

from .kept_files import KeptFiles
from .parse_numbers import MalformedValues, parse_unsigned
from .paths import Paths

if TYPE_CHECKING:
    from deckwatch.exporter import Samples

WAITED = {
    "cpu": Counter("node_pressure_cpu_waiting_seconds_total", "Time that processes waited for CPU time, in seconds."),
    "io": Counter("node_pressure_io_waiting_seconds_total", "Time that processes waited for I/O, in seconds."),
    "memory": Counter(
        "node_pressure_memory_waiting_seconds_total", "Time that processes waited for memory, in seconds."
    ),
}
# The kernel also prints this line for the CPU, but it is undefined for a whole host.
STALLED = {
    "io": Counter(
        "node_pressure_io_stalled_seconds_total", "Time in which no process could run because of I/O, in seconds."
    ),
    "memory": Counter(
        "node_pressure_memory_stalled_seconds_total",
        "Time in which no process could run because of missing memory, in seconds.",
    ),
    "irq": Counter(
        "node_pressure_irq_stalled_seconds_total",
        "Time in which no process could run because of interrupts, in seconds.",
    ),
}

RESOURCES = ("cpu", "io", "memory", "irq")


class Pressure:
    def __init__(self, paths: Paths) -> None:
        self._files = KeptFiles()
        self._folder = paths.in_proc("pressure")

    def collect(self) -> Samples:
        malformed = MalformedValues()
        is_available = False
        for resource in RESOURCES:
            text = _read(self._files, f"{self._folder}/{resource}")
            if text is None:
                continue
            is_available = True
            totals = parse_pressure(text, f"/proc/pressure/{resource}", malformed)
            if resource in WAITED and "some" in totals:
                yield WAITED[resource](totals["some"] / 1e6)
            if resource in STALLED and "full" in totals:
                yield STALLED[resource](totals["full"] / 1e6)
        if not is_available:
            raise NotAvailable
        yield from malformed


def _read(files: KeptFiles, path: str) -> str | None:
    try:
        return files.read(path)
    except FileNotFoundError:
        return None  # before Linux 4.20; for interrupts before 6.1
    except OSError as failure:
        if failure.errno != errno.EOPNOTSUPP:
            raise
        return None  # the kernel was booted with psi=0


def parse_pressure(text: str, file: str, malformed: MalformedValues) -> dict[str, int]:
    """Total stall time in microseconds, by kind (`some`, `full`)."""
    totals: dict[str, int] = {}
    for line in filter(None, text.split("\n")):
        kind, _, rest = line.partition(" ")
        _, equals, word = rest.rpartition("total=")
        if kind not in ("some", "full") or kind in totals or not equals:
            malformed.add(file, line)
            continue
        total = parse_unsigned(word, f"{file}: {kind}", malformed)
        if total is not None:
            totals[kind] = total
    if not totals and not malformed:
        malformed.add(file, text)
    return totals
