"""Soft interrupts by CPU and kind, from /proc/softirqs (proc_softirqs(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, NotAvailable

from .figures import figures
from .interrupts import parse_heading
from .paths import Paths, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Sample

SOFTIRQS = Counter("node_softirqs_functions_total", "Soft interrupts serviced.", ["cpu", "type"])


class Softirqs:
    def __init__(self, paths: Paths) -> None:
        self._path = paths.in_proc("softirqs")

    def collect(self) -> Iterator[Sample]:
        try:
            text = read_text(self._path)
        except FileNotFoundError:
            raise NotAvailable from None
        cpus, kinds = parse_softirqs(text)
        for kind, counts in kinds.items():
            for cpu, count in zip(cpus, counts, strict=True):
                yield SOFTIRQS(count, cpu=cpu, type=kind)


def parse_softirqs(text: str) -> tuple[list[str], dict[str, list[int]]]:
    """The numbers of all CPUs that could be there, and a count for each of them by kind. Raises ValueError."""
    heading, *lines = text.split("\n")
    cpus = parse_heading(heading, "/proc/softirqs")
    kinds = {}
    for line in filter(None, lines):
        kind, colon, rest = line.partition(":")
        words = rest.split()
        if not colon or len(words) != len(cpus):
            raise ValueError(f"/proc/softirqs: not a kind with a figure for each of {len(cpus)} CPUs: {line[:80]!r}")
        kinds[kind.strip()] = figures(words, "/proc/softirqs")
    return cpus, kinds
