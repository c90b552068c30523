"""Interrupts, context switches, forks and boot time, from /proc/stat (proc_stat(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge, Settings

from .figures import figures
from .paths import Paths, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Sample

METRICS = {
    "intr": Counter("node_intr_total", "Interrupts serviced."),
    "ctxt": Counter("node_context_switches_total", "Context switches."),
    "processes": Counter("node_forks_total", "Forks."),
    "btime": Gauge("node_boot_time_seconds", "When the host booted, in Unix seconds."),
    "procs_running": Gauge("node_procs_running", "Processes in runnable state."),
    "procs_blocked": Gauge("node_procs_blocked", "Processes blocked, waiting for I/O to complete."),
}
SOFTIRQS = Counter("node_softirqs_total", "Soft interrupts by vector.", ["vector"])

# The order of the kernel's vectors (include/linux/interrupt.h).
VECTORS = ("hi", "timer", "net_tx", "net_rx", "block", "block_iopoll", "tasklet", "sched", "hrtimer", "rcu")


class StatSettings(Settings):
    """`softirq`: also export the soft interrupts of all CPUs by vector."""

    softirq: bool = False


class Stat:
    def __init__(self, paths: Paths, settings: StatSettings | None = None) -> None:
        self._path = paths.in_proc("stat")
        self._softirq = (settings or StatSettings()).softirq

    def collect(self) -> Iterator[Sample]:
        fields = parse_stat(read_text(self._path))
        for name, metric in METRICS.items():
            if name in fields:
                yield metric(fields[name][0])
        if self._softirq:
            for vector, count in zip(VECTORS, fields.get("softirq", [])[1:], strict=False):
                yield SOFTIRQS(count, vector=vector)


def parse_stat(text: str) -> dict[str, list[int]]:
    """The figures of the lines that are exported, one or more each: the first is the total. Raises ValueError."""
    fields = {}
    for line in text.split("\n"):
        name, _, rest = line.partition(" ")
        if name not in METRICS and name != "softirq":
            continue
        # The line of interrupts has a figure for each of thousands, and only the first one is wanted.
        words = rest.split(" ", 1)[:1] if name == "intr" else rest.split()
        if not words:
            raise ValueError(f"/proc/stat: {name} has no figure")
        fields[name] = figures(words, "/proc/stat")
    if not fields:
        raise ValueError("/proc/stat has none of the fields that are exported")
    return fields
