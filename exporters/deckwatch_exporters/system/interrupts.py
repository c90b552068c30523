"""Interrupts by line and CPU, from /proc/interrupts (proc_interrupts(5))."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.exporter import Counter, NotAvailable, Pattern, Sample, Settings

from .figures import figures
from .paths import Paths, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Series

INTERRUPTS = Counter("node_interrupts_total", "Interrupts serviced.", ["cpu", "type", "info", "devices"])

_CPU = re.compile(r"CPU([0-9]+)")


class InterruptsSettings(Settings):
    """`include` and `exclude`: regular expressions for `type;info;devices`. `zeros`: also what never happened.

    There is a series for each line and CPU: hosts with many of both do well to leave some out.
    """

    include: Pattern | None = None
    exclude: Pattern | None = None
    zeros: bool = True

    def wants(self, interrupt: Interrupt) -> bool:
        text = f"{interrupt.name};{interrupt.info};{interrupt.devices}"
        return not (self.include and not self.include.search(text)) and not (self.exclude and self.exclude.search(text))


class Interrupt(NamedTuple):
    """A line: `name` is its number or abbreviation, `info` its controller or meaning."""

    name: str
    info: str
    devices: str


class Interrupts:
    def __init__(self, paths: Paths, settings: InterruptsSettings | None = None) -> None:
        self._path = paths.in_proc("interrupts")
        self._settings = settings or InterruptsSettings()
        # The series of each line, by CPU: with four labels they are dear to look up, and there are many of them.
        self._series: dict[tuple[str, ...], list[Series]] = {}

    def collect(self) -> Iterator[Sample]:
        try:
            text = read_text(self._path)
        except FileNotFoundError:
            raise NotAvailable from None
        cpus, lines = parse_interrupts(text)
        before, self._series = self._series, {}
        for line, counts in lines.values():
            key = (*cpus, *line)
            series = before.get(key)
            if series is None:
                series = self._make(cpus, line)
            self._series[key] = series
            if self._settings.zeros:
                yield from map(Sample, series, counts)
            else:
                yield from (Sample(one, count) for one, count in zip(series, counts, strict=False) if count)

    def _make(self, cpus: list[str], line: Interrupt) -> list[Series]:
        if not self._settings.wants(line):
            return []
        return [INTERRUPTS(0, cpu=cpu, type=line.name, info=line.info, devices=line.devices).series for cpu in cpus]


def parse_interrupts(text: str) -> tuple[list[str], dict[str, tuple[Interrupt, list[int]]]]:
    """The numbers of the CPUs, and by name each line that has a figure for all of them. Raises ValueError."""
    heading, *lines = text.split("\n")
    cpus = parse_heading(heading, "/proc/interrupts")
    width = len(cpus)
    found = {}
    for line in lines:
        name, colon, rest = line.partition(":")
        parts = rest.split(None, width)
        # ERR and MIS have one figure for all CPUs; the others have a meaning, or controller and devices, behind theirs.
        if not colon or len(parts) <= width:
            continue
        name = name.strip()
        counts = figures(parts[:width], "/proc/interrupts")
        meaning = " ".join(parts[width].split())
        if name.isdecimal():
            info, _, devices = meaning.partition(" ")
            found[name] = Interrupt(name, info, devices), counts
        else:
            found[name] = Interrupt(name, meaning, ""), counts
    return cpus, found


def parse_heading(heading: str, file: str) -> list[str]:
    """`CPU0 CPU2` as ["0", "2"]: /proc/interrupts has no column for CPUs that are offline. Raises ValueError."""
    cpus = []
    for word in heading.split():
        match = _CPU.fullmatch(word)
        if match is None:
            raise ValueError(f"{file}: not a heading of CPUs: {heading[:80]!r}")
        cpus.append(match[1])
    if not cpus or len(set(cpus)) != len(cpus):
        raise ValueError(f"{file}: no heading of distinct CPUs")
    return cpus
