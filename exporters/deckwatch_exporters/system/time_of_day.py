"""The host's clock, its zone, and what it is taken from."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge

from .paths import Paths, list_dir, read_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deckwatch.exporter import Sample

SECONDS = Gauge("node_time_seconds", "The host's time, in Unix seconds.")
ZONE_OFFSET = Gauge(
    "node_time_zone_offset_seconds", "Offset of the host's time zone from UTC, in seconds.", ["time_zone"]
)
AVAILABLE = Gauge(
    "node_time_clocksource_available_info", "A clock source that the kernel could use.", ["device", "clocksource"]
)
CURRENT = Gauge(
    "node_time_clocksource_current_info", "The clock source that the kernel uses.", ["device", "clocksource"]
)


class TimeOfDay:
    def __init__(self, paths: Paths, clock: Callable[[], float] = time.time) -> None:
        self._clocksources = paths.in_sys("devices", "system", "clocksource")
        self._clock = clock

    def collect(self) -> Iterator[Sample]:
        now = self._clock()
        local = time.localtime(now)
        yield SECONDS(now)
        yield ZONE_OFFSET(local.tm_gmtoff, time_zone=local.tm_zone)
        for name in list_dir(self._clocksources):
            if not name.startswith("clocksource"):
                continue
            device = name.removeprefix("clocksource")
            folder = f"{self._clocksources}/{name}"
            for source in (read_value(f"{folder}/available_clocksource") or "").split():
                yield AVAILABLE(1, device=device, clocksource=source)
            current = read_value(f"{folder}/current_clocksource")
            if current:
                yield CURRENT(1, device=device, clocksource=current)
