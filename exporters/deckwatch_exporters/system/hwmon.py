"""Temperatures, fans, voltages and power, from sysfs' hwmon (Documentation/hwmon/sysfs-interface.rst)."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.collector import NotAvailable
from deckwatch.metric import MetricPattern, gauge

from .paths import Paths, list_dir, read_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from deckwatch.metric import Sample

_LABELS = ("chip", "sensor")

SENSOR = MetricPattern("node_hwmon_*", "gauge", "Hardware monitor: {}.", _LABELS)
ENERGY = MetricPattern("node_hwmon_*_joule_total", "counter", "Hardware monitor: {} used so far, in joules.", _LABELS)
CHIP_NAME = gauge("node_hwmon_chip_names", "The chip's name for people.", ["chip", "chip_name"])
SENSOR_LABEL = gauge("node_hwmon_sensor_label", "The sensor's label.", ["chip", "sensor", "label"])

_TYPES = ("vrm", "beep_enable", "update_interval", "in", "cpu", "fan", "pwm", "temp", "curr", "power", "energy",
          "humidity", "intrusion", "freq")  # fmt: skip
_FILE = re.compile(rf"({'|'.join(_TYPES)})(\d*)(?:_(.+))?")
_FORBIDDEN = re.compile(r"[^a-z0-9:_]")


class Scaled(NamedTuple):
    """How a figure is exported: what is appended to the name, and the factor to base units."""

    suffix: str
    factor: float


class Hwmon:
    def __init__(self, paths: Paths) -> None:
        self._class = paths.in_sys("class", "hwmon")

    def collect(self) -> Iterator[Sample]:
        chips = list_dir(self._class)
        if not chips:
            raise NotAvailable
        seen: set[str] = set()
        for name in chips:
            folder = f"{self._class}/{name}"
            chip = chip_name(folder)
            if chip in seen:
                # Two instances of one device: the second would repeat the first one's series.
                chip = f"{chip}_{name}"
            seen.add(chip)
            yield from _chip(folder, chip)


def _chip(folder: str, chip: str) -> Iterator[Sample]:
    name = read_value(f"{folder}/name")
    if name:
        yield CHIP_NAME(1, chip=chip, chip_name=clean(name))
    sensors = _read(folder)
    for sensor, values in _read(f"{folder}/device").items():
        sensors.setdefault(sensor, {}).update(values)
    for sensor, values in sensors.items():
        label = values.pop("label", None)
        if label is not None:
            yield SENSOR_LABEL(1, chip=chip, sensor=sensor, label=label)
        for name, value, is_energy in figures(sensor, values):
            pattern = ENERGY if is_energy else SENSOR
            yield pattern.named(name)(value, chip=chip, sensor=sensor)


def _read(folder: str) -> dict[str, dict[str, str]]:
    """Values by sensor (`temp1`) and property (`input`, `` for the figure itself)."""
    sensors: dict[str, dict[str, str]] = {}
    for file in list_dir(folder):
        match = _FILE.fullmatch(file)
        value = read_value(f"{folder}/{file}") if match else None
        if match is not None and value is not None:
            sensors.setdefault(match[1] + (match[2] or "0"), {})[match[3] or ""] = value
    return sensors


def figures(sensor: str, values: Mapping[str, str]) -> Iterator[tuple[str, float, bool]]:
    """Name (without prefix), value in base units, and whether it is an energy counter, for each property."""
    kind = sensor.rstrip("0123456789")
    for prop, text in values.items():
        try:
            value = float(text)
        except ValueError:
            continue  # a driver that answers in words has no figure
        if kind == "beep_enable":
            yield "beep_enabled", float(text == "1"), False
        elif kind == "vrm":
            yield "voltage_regulator_version", value, False
        elif kind == "update_interval":
            yield "update_interval_seconds", value / 1000, False
        else:
            # `input` is the figure itself, unless a file without any property is there too.
            part = "" if prop == "" or (prop == "input" and "" not in values) else "_" + clean(prop)
            scaled = _scale(kind, prop)
            if kind == "energy" and prop not in ("fault", "alarm", "beep"):
                yield kind + part, value * scaled.factor, True
            else:
                yield kind + part + scaled.suffix, value * scaled.factor, False


def _scale(kind: str, prop: str) -> Scaled:
    if prop in ("fault", "alarm"):
        return Scaled("", 1)
    if prop == "beep":
        return Scaled("_enabled", 1)
    if kind in ("in", "cpu"):
        return Scaled("_volts", 1e-3)
    if kind == "temp" and prop != "type":
        return Scaled("_celsius", 1e-3)
    if kind == "curr":
        return Scaled("_amps", 1e-3)
    if kind == "energy":
        return Scaled("", 1e-6)
    if kind == "power":
        if prop == "accuracy":
            return Scaled("", 1e-6)
        return Scaled("_seconds", 1e-3) if prop.startswith("average_interval") else Scaled("_watt", 1e-6)
    if kind == "humidity":
        return Scaled("", 1e-6)
    if kind == "fan" and prop in ("input", "min", "max", "target"):
        return Scaled("_rpm", 1)
    if kind == "freq" and prop == "input":
        return Scaled("_freq_mhz", 1e-6)
    return Scaled("", 1)


def chip_name(folder: str) -> str:
    """A name that stays over reboots: bus and device where there is one, else the driver's, else the folder's."""
    device = os.path.realpath(f"{folder}/device")
    if os.path.isdir(device):
        bus, name = clean(os.path.basename(os.path.dirname(device))), clean(os.path.basename(device))
        if bus and name:
            return f"{bus}_{name}"
        if name:
            return name
    named = clean(read_value(f"{folder}/name") or "")
    return named or clean(os.path.basename(os.path.realpath(folder)))


def clean(name: str) -> str:
    """As a label or a part of a name: lower case, anything unusual an underscore, none at the ends."""
    return _FORBIDDEN.sub("_", name.strip().lower()).strip("_")
