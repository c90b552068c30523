"""Interrupts by type and CPU, from /proc/interrupts (proc_interrupts(5))."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.exporter import Counter, NotAvailable, Pattern, Sample, Settings

from .kept_files import KeptFiles
from .parse_numbers import MalformedValues, parse_unsigned_numbers
from .paths import Paths

if TYPE_CHECKING:
    from deckwatch.exporter import Samples, Series

INTERRUPTS = Counter("node_interrupts_total", "Number of interrupts serviced.", ["cpu", "type", "info", "devices"])

_CPU = re.compile(r"CPU([0-9]+)")


class InterruptsSettings(Settings):
    """`include` and `exclude`: regular expressions for `type;info;devices`. `zeros`: also export counters that are 0.

    There is one series per interrupt and CPU; exclude some on hosts with many of both.
    """

    include: Pattern | None = None
    exclude: Pattern | None = None
    zeros: bool = True

    def wants(self, interrupt: Interrupt) -> bool:
        text = f"{interrupt.name};{interrupt.info};{interrupt.devices}"
        return not (self.include and not self.include.search(text)) and not (self.exclude and self.exclude.search(text))


class Interrupt(NamedTuple):
    """A line: `name` is its number or abbreviation, `info` its controller or description."""

    name: str
    info: str
    devices: str


class Interrupts:
    def __init__(self, paths: Paths, settings: InterruptsSettings | None = None) -> None:
        self._files = KeptFiles()
        self._path = paths.in_proc("interrupts")
        self._settings = settings or InterruptsSettings()
        # The series of each line, by CPU: looking up thousands of series with four labels is expensive.
        self._series: dict[tuple[str | None, ...], list[Series | None]] = {}

    def collect(self) -> Samples:
        try:
            text = self._files.read(self._path)
        except FileNotFoundError:
            raise NotAvailable from None
        malformed = MalformedValues()
        cpus, lines = parse_interrupts(text, malformed)
        before, self._series = self._series, {}
        for line, counts in lines.values():
            key = (*cpus, *line)
            series = before.get(key)
            if series is None:
                series = self._make(cpus, line)
            self._series[key] = series
            zeros = self._settings.zeros
            for one, count in zip(series, counts, strict=False):
                if one is not None and count is not None and (count or zeros):
                    yield Sample(one, count)
        yield from malformed

    def _make(self, cpus: list[str | None], line: Interrupt) -> list[Series | None]:
        if not self._settings.wants(line):
            return []
        return [
            None if cpu is None else INTERRUPTS(0, cpu=cpu, type=line.name, info=line.info, devices=line.devices).series
            for cpu in cpus
        ]


def parse_interrupts(
    text: str, malformed: MalformedValues
) -> tuple[list[str | None], dict[str, tuple[Interrupt, list[int | None]]]]:
    """The CPU number of each column, and by name each line that has a counter for every CPU."""
    heading, *lines = text.split("\n")
    cpus = parse_heading(heading, "/proc/interrupts", malformed)
    width = len(cpus)
    found: dict[str, tuple[Interrupt, list[int | None]]] = {}
    for line in lines:
        name, colon, rest = line.partition(":")
        name = name.strip()
        parts = rest.split(None, width)
        if not colon or name in found:
            if line.strip():
                malformed.add(f"/proc/interrupts: {name}", line)
            continue
        # ERR and MIS have one counter for all CPUs. In all other lines, a description follows the counters.
        if len(parts) <= width:
            continue
        description = " ".join(parts[width].split())
        info, _, devices = description.partition(" ") if name.isdecimal() else (description, "", "")
        # If the last counter is not a number, or the description begins with one, the columns are shifted.
        if not parts[width - 1].isdecimal() or info.isdecimal():
            malformed.add(f"/proc/interrupts: {name}", line)
            continue
        counts = parse_unsigned_numbers(parts[:width], f"/proc/interrupts: {name}", malformed)
        found[name] = Interrupt(name, info, devices), counts
    return cpus, found


def parse_heading(heading: str, file: str, malformed: MalformedValues) -> list[str | None]:
    """The CPU number of each column: `CPU0 CPU2` as ["0", "2"]. /proc/interrupts has no column for an offline CPU.

    A malformed or repeated CPU is None.
    """
    cpus: list[str | None] = []
    for word in heading.split():
        match = _CPU.fullmatch(word)
        cpu = None if match is None or match[1] in cpus else match[1]
        if cpu is None:
            malformed.add(f"{file}: heading", word)
        cpus.append(cpu)
    if not cpus:
        malformed.add(f"{file}: heading", heading)
    return cpus
