"""Thermal zones and cooling devices, from sysfs (Documentation/driver-api/thermal/sysfs-api.rst)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge, NotAvailable

from .parse_numbers import MalformedValues
from .paths import Paths, list_dir, printable, read_number, read_unsigned, read_value

if TYPE_CHECKING:
    from deckwatch.exporter import Samples

ZONE = Gauge("node_thermal_zone_temp", "Temperature of the thermal zone, in degrees Celsius.", ["zone", "type"])
CURRENT = Gauge("node_cooling_device_cur_state", "Current throttle state of the cooling device.", ["name", "type"])
MAXIMUM = Gauge("node_cooling_device_max_state", "Maximum throttle state of the cooling device.", ["name", "type"])


class Thermal:
    def __init__(self, paths: Paths) -> None:
        self._class = paths.in_sys("class", "thermal")

    def collect(self) -> Samples:
        devices = list_dir(self._class)
        if not devices:
            raise NotAvailable
        malformed = MalformedValues()
        for name in devices:
            folder = f"{self._class}/{name}"
            kind, _, number = re.sub(r"([0-9]+)$", r" \1", printable(name)).partition(" ")
            type = read_value(f"{folder}/type") or ""
            if kind == "thermal_zone":
                millidegrees = read_number(f"{folder}/temp", malformed)
                if millidegrees is not None:
                    yield ZONE(millidegrees / 1000, zone=number, type=type)
            elif kind == "cooling_device":
                for file, metric in (("cur_state", CURRENT), ("max_state", MAXIMUM)):
                    state = read_unsigned(f"{folder}/{file}", malformed)
                    if state is not None:
                        yield metric(state, name=number, type=type)
        yield from malformed
