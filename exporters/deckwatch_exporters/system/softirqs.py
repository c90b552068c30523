"""Soft interrupts by CPU and kind, from /proc/softirqs (proc_softirqs(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.metric import counter

from .paths import Paths, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.metric import Sample

SOFTIRQS = counter("node_softirqs_functions_total", "Soft interrupts serviced.", ["cpu", "type"])


class Softirqs:
    def __init__(self, paths: Paths) -> None:
        self._path = paths.in_proc("softirqs")

    def collect(self) -> Iterator[Sample]:
        for kind, counts in parse_softirqs(read_text(self._path)).items():
            for cpu, count in enumerate(counts):
                yield SOFTIRQS(count, cpu=str(cpu), type=kind)


def parse_softirqs(text: str) -> dict[str, list[int]]:
    """Counts by kind, one for each CPU that is there (the file has room for all that could be). Raises ValueError."""
    heading, *lines = text.split("\n")
    cpus = len(heading.split())
    if not cpus:
        raise ValueError("/proc/softirqs has no heading of CPUs")
    found = {}
    for line in lines:
        kind, colon, rest = line.partition(":")
        if colon:
            found[kind.strip()] = [int(part) for part in rest.split()[:cpus]]
    return found
