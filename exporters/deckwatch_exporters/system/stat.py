"""Interrupts, context switches, forks and boot time, from /proc/stat (proc_stat(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge, Settings

from .kept_files import KeptFiles
from .parse_numbers import MalformedValues, parse_unsigned_numbers
from .paths import Paths

if TYPE_CHECKING:
    from deckwatch.exporter import Samples

METRICS = {
    "intr": Counter("node_intr_total", "Number of interrupts serviced."),
    "ctxt": Counter("node_context_switches_total", "Number of context switches."),
    "processes": Counter("node_forks_total", "Number of forks."),
    "btime": Gauge("node_boot_time_seconds", "Time at which the host booted, in Unix seconds."),
    "procs_running": Gauge("node_procs_running", "Number of runnable processes."),
    "procs_blocked": Gauge("node_procs_blocked", "Number of processes that are blocked, waiting for I/O to complete."),
}
SOFTIRQS = Counter("node_softirqs_total", "Number of soft interrupts, by vector.", ["vector"])

# In the order of the kernel (include/linux/interrupt.h).
VECTORS = ("hi", "timer", "net_tx", "net_rx", "block", "block_iopoll", "tasklet", "sched", "hrtimer", "rcu")


class StatSettings(Settings):
    """`softirq`: also export the soft interrupts of all CPUs together, by vector."""

    softirq: bool = False


class Stat:
    def __init__(self, paths: Paths, settings: StatSettings | None = None) -> None:
        self._files = KeptFiles()
        self._path = paths.in_proc("stat")
        self._softirq = (settings or StatSettings()).softirq

    def collect(self) -> Samples:
        malformed = MalformedValues()
        fields = parse_stat(self._files.read(self._path), self._softirq, malformed)
        for name, metric in METRICS.items():
            value = fields[name][0] if name in fields else None
            if value is not None:
                yield metric(value)
        for vector, count in zip(VECTORS, fields.get("softirq", [])[1:], strict=False):
            if count is not None:
                yield SOFTIRQS(count, vector=vector)
        yield from malformed


def parse_stat(text: str, softirq: bool, malformed: MalformedValues) -> dict[str, list[int | None]]:
    """The values of the exported lines, at least one each: the first one is the total."""
    fields: dict[str, list[int | None]] = {}
    for line in text.split("\n"):
        name, _, rest = line.partition(" ")
        if name not in METRICS and not (softirq and name == "softirq"):
            continue
        # `intr` has a number for each of thousands of interrupts; only the total is exported.
        words = rest.split(" ", 1)[:1] if name == "intr" else rest.split()
        if not words or name in fields or (name == "softirq" and len(words) != 1 + len(VECTORS)):
            malformed.add(f"/proc/stat: {name}", line)
        else:
            fields[name] = parse_unsigned_numbers(words, f"/proc/stat: {name}", malformed)
    if not fields and not malformed:
        malformed.add("/proc/stat", "")
    return fields
