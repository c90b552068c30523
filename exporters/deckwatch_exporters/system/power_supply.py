"""Batteries and chargers, from sysfs (Documentation/ABI/testing/sysfs-class-power)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge, Metric, MetricPattern, NotAvailable

from .parse_numbers import MalformedValues
from .paths import Paths, list_dir, printable, read_number, read_value

if TYPE_CHECKING:
    from deckwatch.exporter import Samples

POWER_SUPPLY = MetricPattern(
    "node_power_supply_*", "gauge", "Property {} of the power supply, in base units.", ("power_supply",)
)
_TEXTS = ("capacity_level", "charge_type", "health", "manufacturer", "model_name", "serial_number", "status",
          "technology", "type", "usb_type", "scope")  # fmt: skip
INFO = Gauge(
    "node_power_supply_info",
    "Identity and state of the power supply; the value is always 1.",
    ["power_supply", *_TEXTS],
)

_PLAIN = ("authentic", "calibrate", "capacity", "capacity_alert_max", "capacity_alert_min", "cyclecount", "online",
          "present", "time_to_empty_seconds", "time_to_full_seconds")  # fmt: skip
_MICRO = (
    "current_boot", "current_max", "current_ampere", "energy_empty", "energy_empty_design", "energy_full",
    "energy_full_design", "energy_watthour", "voltage_boot", "voltage_max", "voltage_max_design", "voltage_min",
    "voltage_min_design", "voltage_volt", "voltage_ocv", "charge_control_limit", "charge_control_limit_max",
    "charge_counter", "charge_empty", "charge_empty_design", "charge_full", "charge_full_design", "charge_ampere",
    "charge_term_current", "constant_charge_current", "constant_charge_current_max", "constant_charge_voltage",
    "constant_charge_voltage_max", "precharge_current", "input_current_limit", "power_watt",
)  # fmt: skip
_TENTHS = ("temp_celsius", "temp_alert_max_celsius", "temp_alert_min_celsius", "temp_ambient_celsius",
           "temp_ambient_max_celsius", "temp_ambient_min_celsius", "temp_max_celsius", "temp_min_celsius")  # fmt: skip

# Files with another name than the metric.
_FILES = {
    "cyclecount": "cycle_count",
    "current_ampere": "current_now",
    "energy_watthour": "energy_now",
    "voltage_volt": "voltage_now",
    "charge_ampere": "charge_now",
    "power_watt": "power_now",
    "time_to_empty_seconds": "time_to_empty_now",
    "time_to_full_seconds": "time_to_full_now",
}
_PROPERTIES = [
    (name, _FILES.get(name, name.removesuffix("_celsius")), divisor)
    for names, divisor in ((_PLAIN, 1), (_MICRO, 1_000_000), (_TENTHS, 10))
    for name in names
]


class PowerSupply:
    def __init__(self, paths: Paths) -> None:
        self._class = paths.in_sys("class", "power_supply")
        self._infos: dict[tuple[str, ...], Metric] = {}

    def collect(self) -> Samples:
        supplies = list_dir(self._class)
        if not supplies:
            raise NotAvailable
        malformed = MalformedValues()
        for name in supplies:
            folder, supply = f"{self._class}/{name}", printable(name)
            files = set(list_dir(folder))
            for name, file, divisor in _PROPERTIES:
                value = read_number(f"{folder}/{file}", malformed) if file in files else None
                if value is not None:
                    yield POWER_SUPPLY.named(name)(value / divisor, power_supply=supply)
            texts = {name: text for name in _TEXTS if name in files and (text := read_value(f"{folder}/{name}"))}
            yield self._info(tuple(texts))(1, power_supply=supply, **texts)
        yield from malformed

    def _info(self, labels: tuple[str, ...]) -> Metric:
        """`INFO` with only those labels that the power supply has, as in node_exporter."""
        metric = self._infos.get(labels)
        if metric is None:
            metric = self._infos[labels] = Metric(INFO.name, INFO.type, INFO.help, ("power_supply", *labels))
        return metric
