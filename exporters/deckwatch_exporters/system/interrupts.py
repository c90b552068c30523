"""Interrupts by line and CPU, from /proc/interrupts (proc_interrupts(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from deckwatch.metric import counter

from .paths import Paths, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.metric import Sample

INTERRUPTS = counter("node_interrupts_total", "Interrupts serviced.", ["cpu", "type", "info", "devices"])


class Interrupt(NamedTuple):
    name: str
    info: str
    devices: str
    counts: list[int]  # by CPU, in the order of the heading


class Interrupts:
    def __init__(self, paths: Paths) -> None:
        self._path = paths.in_proc("interrupts")

    def collect(self) -> Iterator[Sample]:
        for interrupt in parse_interrupts(read_text(self._path)):
            for cpu, count in enumerate(interrupt.counts):
                yield INTERRUPTS(
                    count, cpu=str(cpu), type=interrupt.name, info=interrupt.info, devices=interrupt.devices
                )


def parse_interrupts(text: str) -> list[Interrupt]:
    """Each line that has a figure for every CPU. Raises ValueError."""
    heading, *lines = text.split("\n")
    cpus = len(heading.split())
    if not cpus:
        raise ValueError("/proc/interrupts has no heading of CPUs")
    found = []
    for line in lines:
        name, colon, rest = line.partition(":")
        parts = rest.split()
        # ERR and MIS have one figure for all CPUs; numbered lines have a controller and devices behind theirs.
        if not colon or len(parts) < cpus + 1:
            continue
        name = name.strip()
        counts = [int(part) for part in parts[:cpus]]
        if name.isdigit():
            found.append(Interrupt(name, parts[cpus], " ".join(parts[cpus + 1 :]), counts))
        else:
            found.append(Interrupt(name, " ".join(parts[cpus:]), "", counts))
    return found
