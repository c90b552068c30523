"""Load averages, from /proc/loadavg (proc_loadavg(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge

from .paths import Paths, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Sample

LOAD1 = Gauge("node_load1", "1m load average.")
LOAD5 = Gauge("node_load5", "5m load average.")
LOAD15 = Gauge("node_load15", "15m load average.")


class Load:
    def __init__(self, paths: Paths) -> None:
        self._path = paths.in_proc("loadavg")

    def collect(self) -> Iterator[Sample]:
        one, five, fifteen = parse_loadavg(read_text(self._path))
        yield LOAD1(one)
        yield LOAD5(five)
        yield LOAD15(fifteen)


def parse_loadavg(text: str) -> tuple[float, float, float]:
    """The three averages. Raises ValueError for anything else than at least three numbers."""
    fields = text.split()
    if len(fields) < 3:
        raise ValueError(f"/proc/loadavg has {len(fields)} fields, not three or more")
    return float(fields[0]), float(fields[1]), float(fields[2])
