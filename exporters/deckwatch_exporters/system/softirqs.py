"""Soft interrupts by CPU and type, from /proc/softirqs (proc_softirqs(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, NotAvailable

from .interrupts import parse_heading
from .kept_files import KeptFiles
from .parse_numbers import MalformedValues, parse_unsigned_numbers
from .paths import Paths

if TYPE_CHECKING:
    from deckwatch.exporter import Samples

SOFTIRQS = Counter("node_softirqs_functions_total", "Number of soft interrupts serviced.", ["cpu", "type"])


class Softirqs:
    def __init__(self, paths: Paths) -> None:
        self._files = KeptFiles()
        self._path = paths.in_proc("softirqs")

    def collect(self) -> Samples:
        try:
            text = self._files.read(self._path)
        except FileNotFoundError:
            raise NotAvailable from None
        malformed = MalformedValues()
        cpus, types = parse_softirqs(text, malformed)
        for name, counts in types.items():
            for cpu, count in zip(cpus, counts, strict=True):
                if cpu is not None and count is not None:
                    yield SOFTIRQS(count, cpu=cpu, type=name)
        yield from malformed


def parse_softirqs(text: str, malformed: MalformedValues) -> tuple[list[str | None], dict[str, list[int | None]]]:
    """The number of each possible CPU, and by type a counter for each of them."""
    heading, *lines = text.split("\n")
    cpus = parse_heading(heading, "/proc/softirqs", malformed)
    types: dict[str, list[int | None]] = {}
    for line in filter(None, lines):
        name, colon, rest = line.partition(":")
        name, words = name.strip(), rest.split()
        if not colon or len(words) != len(cpus) or name in types:
            malformed.add("/proc/softirqs", line)
        else:
            types[name] = parse_unsigned_numbers(words, f"/proc/softirqs: {name}", malformed)
    return cpus, types
