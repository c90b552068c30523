"""Load averages, from /proc/loadavg (proc_loadavg(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge

from .kept_files import KeptFiles
from .parse_numbers import MalformedValues, parse_decimal
from .paths import Paths

if TYPE_CHECKING:
    from deckwatch.exporter import Samples

LOAD1 = Gauge("node_load1", "Load average over 1 minute.")
LOAD5 = Gauge("node_load5", "Load average over 5 minutes.")
LOAD15 = Gauge("node_load15", "Load average over 15 minutes.")
_AVERAGES = (LOAD1, LOAD5, LOAD15)


class Load:
    def __init__(self, paths: Paths) -> None:
        self._files = KeptFiles()
        self._path = paths.in_proc("loadavg")

    def collect(self) -> Samples:
        malformed = MalformedValues()
        for metric, value in zip(_AVERAGES, parse_loadavg(self._files.read(self._path), malformed), strict=False):
            if value is not None:
                yield metric(value)
        yield from malformed


def parse_loadavg(text: str, malformed: MalformedValues) -> list[float | None]:
    """The three averages; none if the file does not have its five fields."""
    fields = text.split()
    if len(fields) != 5:
        malformed.add("/proc/loadavg", text)
        return []
    return [parse_decimal(field, "/proc/loadavg", malformed) for field in fields[:3]]
