"""Time, time zone and clock source of the host."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge, Refresh

from .paths import Paths, list_dir, read_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deckwatch.exporter import Sample, Samples

SECONDS = Gauge("node_time_seconds", "System time of the host, in Unix seconds.")
ZONE_OFFSET = Gauge(
    "node_time_zone_offset_seconds", "Offset of the host's time zone from UTC, in seconds.", ["time_zone"]
)
AVAILABLE = Gauge(
    "node_time_clocksource_available_info",
    "Clock source that the kernel can use; the value is always 1.",
    ["device", "clocksource"],
)
CURRENT = Gauge(
    "node_time_clocksource_current_info",
    "Clock source that the kernel uses; the value is always 1.",
    ["device", "clocksource"],
)


# The kernel changes its clock source when it finds that it is unstable.
_REFRESH = 60.0  # seconds


class TimeOfDay:
    def __init__(self, paths: Paths, clock: Callable[[], float] = time.time) -> None:
        self._clocksources = paths.in_sys("devices", "system", "clocksource")
        self._clock = clock
        self._sources: tuple[Sample, ...] = ()
        self._sources_due = Refresh(_REFRESH)

    def collect(self) -> Samples:
        now = self._clock()
        local = time.localtime(now)
        yield SECONDS(now)
        yield ZONE_OFFSET(local.tm_gmtoff, time_zone=local.tm_zone)
        if self._sources_due.is_due:
            self._sources = tuple(self._read_sources())
            self._sources_due.done()
        yield from self._sources

    def _read_sources(self) -> Iterator[Sample]:
        for name in list_dir(self._clocksources):
            if not name.startswith("clocksource"):
                continue
            device = name.removeprefix("clocksource")
            folder = f"{self._clocksources}/{name}"
            for source in dict.fromkeys((read_value(f"{folder}/available_clocksource") or "").split()):
                yield AVAILABLE(1, device=device, clocksource=source)
            current = read_value(f"{folder}/current_clocksource")
            if current:
                yield CURRENT(1, device=device, clocksource=current)
