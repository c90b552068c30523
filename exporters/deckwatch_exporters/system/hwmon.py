"""Temperatures, fans, voltages and power, from sysfs' hwmon (Documentation/hwmon/sysfs-interface.rst)."""

from __future__ import annotations

import os
import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.exporter import Gauge, MetricPattern, NotAvailable

from .paths import Paths, list_dir, read_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from deckwatch.exporter import Sample

_LABELS = ("chip", "sensor")

SENSOR = MetricPattern("node_hwmon_*", "gauge", "Hardware monitor: {}.", _LABELS)
ENERGY = MetricPattern("node_hwmon_*_joule_total", "counter", "Hardware monitor: {} used so far, in joules.", _LABELS)
CHIP_NAME = Gauge("node_hwmon_chip_names", "The chip's name for people.", ["chip", "chip_name"])
SENSOR_LABEL = Gauge("node_hwmon_sensor_label", "The sensor's label.", ["chip", "sensor", "label"])

_TYPES = ("vrm", "beep_enable", "update_interval", "in", "cpu", "fan", "pwm", "temp", "curr", "power", "energy",
          "humidity", "intrusion", "freq")  # fmt: skip
# A property needs a number before it: `temp1_max`. Folders of devices hold files such as `power_state`, too.
_FILE = re.compile(rf"({'|'.join(_TYPES)})(?:(\d+)(?:_(.+))?)?")
_FORBIDDEN = re.compile(r"[^a-z0-9:_]")


class Scaled(NamedTuple):
    """How a figure is exported: what is appended to the name, and what makes base units of it."""

    suffix: str
    factor: float = 1
    divisor: float = 1


class Hwmon:
    def __init__(self, paths: Paths) -> None:
        self._class = paths.in_sys("class", "hwmon")
        self._names: dict[str, str] = {}  # of chips, by folder
        self._devices: list[str] = []

    def collect(self) -> Iterator[Sample]:
        chips = list_dir(self._class)
        if not chips:
            raise NotAvailable
        folders = [f"{self._class}/{name}" for name in chips]
        devices = [_target(folder) for folder in folders]
        if devices != self._devices:  # a chip's name goes with its device
            self._names, self._devices = distinct_names(folders), devices
        for folder, chip in self._names.items():
            yield from _chip(folder, chip)


def _target(folder: str) -> str:
    """What `hwmon0` points to: the folder of the device in /sys/devices."""
    try:
        return os.readlink(folder)  # noqa: PTH115  a tenth of the cost, on each run
    except OSError:
        return folder


def _chip(folder: str, chip: str) -> Iterator[Sample]:
    name = clean(read_value(f"{folder}/name") or "")
    if name:
        yield CHIP_NAME(1, chip=chip, chip_name=name)
    sensors = _read(folder)
    for sensor, values in _read(f"{folder}/device").items():
        sensors.setdefault(sensor, {}).update(values)
    for sensor, values in sensors.items():
        label = values.pop("label", None)
        if label is not None:
            yield SENSOR_LABEL(1, chip=chip, sensor=sensor, label=label)
        for figure in figures(sensor, values, label):
            pattern = ENERGY if figure.energy else SENSOR
            yield pattern.named(figure.name)(figure.value, chip=chip, sensor=figure.sensor)


def _read(folder: str) -> dict[str, dict[str, str]]:
    """Values by sensor (`temp1`) and property (`input`, `` for the figure itself)."""
    sensors: dict[str, dict[str, str]] = {}
    for file in list_dir(folder):
        match = _FILE.fullmatch(file)
        value = read_value(f"{folder}/{file}") if match else None
        if match is not None and value is not None:
            sensors.setdefault(f"{match[1]}{int(match[2] or 0)}", {})[match[3] or ""] = value
    return sensors


class Figure(NamedTuple):
    """A value in base units, and the metric's name without its prefix (and without `_joule_total`, for energy)."""

    name: str
    sensor: str
    value: float
    energy: bool = False


def figures(sensor: str, values: Mapping[str, str], label: str | None) -> Iterator[Figure]:
    """The figures of a sensor, by property (`input`, `max`, `` for a file without any); each name comes once."""
    kind = sensor.rstrip("0123456789")
    found: dict[str, Figure] = {}
    for prop, text in values.items():
        try:
            figure = _figure(kind, sensor, prop, float(text), "" in values, label)
        except ValueError:
            continue  # a driver that answers in words has no figure
        if figure is not None:
            found.setdefault(figure.name, figure)
    yield from found.values()


def _figure(kind: str, sensor: str, prop: str, value: float, has_bare: bool, label: str | None) -> Figure | None:
    if kind in ("beep_enable", "vrm", "update_interval"):
        if prop:
            return None
        if kind == "beep_enable":
            return Figure("beep_enabled", sensor, int(value == 1))
        if kind == "vrm":
            return Figure("voltage_regulator_version", sensor, value)
        return Figure("update_interval_seconds", sensor, value * 0.001)
    # `input` is the figure itself, unless a file without any property is there too.
    part = "" if not prop or (prop == "input" and not has_bare) else "_" + clean(prop)
    if kind == "freq" and prop == "input":
        # Clocks of a GPU are told apart by what their labels say (sclk, mclk); without one they say nothing.
        return Figure(f"freq{part}_freq_mhz", clean(label), value / 1_000_000) if label else None
    scaled = _scale(kind, prop)
    energy = kind == "energy" and prop not in ("fault", "alarm", "beep")
    return Figure(kind + part + scaled.suffix, sensor, value * scaled.factor / scaled.divisor, energy)


def _scale(kind: str, prop: str) -> Scaled:
    if prop in ("fault", "alarm"):
        return Scaled("")
    if prop == "beep":
        return Scaled("_enabled")
    if kind in ("in", "cpu"):
        return Scaled("_volts", 0.001)
    if kind == "temp" and prop != "type":
        return Scaled("_celsius", 0.001)
    if kind == "curr":
        return Scaled("_amps", 0.001)
    if kind in ("energy", "humidity") or (kind == "power" and prop == "accuracy"):
        return Scaled("", divisor=1_000_000)
    if kind == "power":
        if prop in ("average_interval", "average_interval_min", "average_interval_max"):
            return Scaled("_seconds", 0.001)
        return Scaled("_watt", divisor=1_000_000)
    if kind == "fan" and prop in ("input", "min", "max", "target"):
        return Scaled("_rpm")
    return Scaled("")


def distinct_names(folders: Sequence[str]) -> dict[str, str]:
    """A chip's name for each folder. Chips of one device get their driver's name, or their folder's, behind it."""
    bases = {folder: chip_name(folder) for folder in folders}
    shared = Counter(bases.values())
    drivers = {folder: read_value(f"{folder}/name") or "" for folder in folders if shared[bases[folder]] > 1}
    of_driver = Counter((bases[folder], driver) for folder, driver in drivers.items())
    names = {}
    for folder, base in bases.items():
        if shared[base] == 1:
            names[folder] = base
            continue
        driver = drivers[folder]
        unique = of_driver[base, driver] == 1 and clean(driver)
        names[folder] = f"{base}_{unique or clean(os.path.basename(folder))}"
    return names


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
