"""Temperatures, fans, voltages and power, from hwmon in sysfs (Documentation/hwmon/sysfs-interface.rst)."""

from __future__ import annotations

import os
import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.exporter import Gauge, MetricPattern, NotAvailable

from .parse_numbers import MalformedValues, parse_decimal
from .paths import Paths, list_dir, read_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from deckwatch.exporter import Samples

_LABELS = ("chip", "sensor")

SENSOR = MetricPattern("node_hwmon_*", "gauge", "Hardware monitor value {}.", _LABELS)
ENERGY = MetricPattern(
    "node_hwmon_*_joule_total",
    "counter",
    "Energy consumed according to the hardware monitor value {}, in joules.",
    _LABELS,
)
CHIP_NAME = Gauge(
    "node_hwmon_chip_names", "Human-readable name of the chip; the value is always 1.", ["chip", "chip_name"]
)
SENSOR_LABEL = Gauge(
    "node_hwmon_sensor_label", "Label of the sensor; the value is always 1.", ["chip", "sensor", "label"]
)

_TYPES = ("vrm", "beep_enable", "update_interval", "in", "cpu", "fan", "pwm", "temp", "curr", "power", "energy",
          "humidity", "intrusion", "freq")  # fmt: skip
# Only a numbered sensor has properties (`temp1_max`): folders of devices also hold files such as `power_state`.
_FILE = re.compile(rf"({'|'.join(_TYPES)})(?:(\d+)(?:_(.+))?)?")
_FORBIDDEN = re.compile(r"[^a-z0-9:_]")
# Some drivers return text (`enabled`, `thermistor`) instead of a number.
_WORDS = re.compile(r"[A-Za-z<][\w<> /+-]*")


class Scaled(NamedTuple):
    """How a value is exported: the suffix of the metric name, and the conversion to base units."""

    suffix: str
    factor: float = 1
    divisor: float = 1


class Hwmon:
    def __init__(self, paths: Paths) -> None:
        self._class = paths.in_sys("class", "hwmon")
        self._names: dict[str, str] = {}  # of chips, by folder
        self._devices: list[str] = []

    def collect(self) -> Samples:
        chips = list_dir(self._class)
        if not chips:
            raise NotAvailable
        folders = [f"{self._class}/{name}" for name in chips]
        devices = [_target(folder) for folder in folders]
        if devices != self._devices:  # the name of a chip follows from its device
            self._names, self._devices = distinct_names(folders), devices
        malformed = MalformedValues()
        for folder, chip in self._names.items():
            yield from _chip(folder, chip, malformed)
        yield from malformed


def _target(folder: str) -> str:
    """The target of the link `hwmon0`: the folder of the device in /sys/devices."""
    try:
        return os.readlink(folder)  # noqa: PTH115  Path takes ten times as long, on each run
    except OSError:
        return folder


def _chip(folder: str, chip: str, malformed: MalformedValues) -> Samples:
    name = clean(read_value(f"{folder}/name") or "")
    if name:
        yield CHIP_NAME(1, chip=chip, chip_name=name)
    sensors = _read(folder)
    for sensor, values in _read(f"{folder}/device").items():
        sensors.setdefault(sensor, {}).update(values)
    # Two properties can have the same name after `clean()`, and two clocks the same label: the first one is exported.
    seen: set[tuple[str, str]] = set()
    for sensor, values in sensors.items():
        label = values.pop("label", None)
        if label is not None:
            yield SENSOR_LABEL(1, chip=chip, sensor=sensor, label=label)
        for reading in readings(sensor, values, label, f"{folder}/{sensor}", malformed):
            if (reading.name, reading.sensor) in seen:
                continue
            seen.add((reading.name, reading.sensor))
            pattern = ENERGY if reading.is_energy else SENSOR
            yield pattern.named(reading.name)(reading.value, chip=chip, sensor=reading.sensor)


def _read(folder: str) -> dict[str, dict[str, str]]:
    """Texts by sensor (`temp1`) and property (`input`, or `` for a file without one)."""
    sensors: dict[str, dict[str, str]] = {}
    for file in list_dir(folder):
        match = _FILE.fullmatch(file)
        value = read_value(f"{folder}/{file}") if match else None
        if match is not None and value is not None:
            sensors.setdefault(f"{match[1]}{int(match[2] or 0)}", {})[match[3] or ""] = value
    return sensors


class Reading(NamedTuple):
    """A value in base units, and the metric's name without prefix (for energy, also without `_joule_total`)."""

    name: str
    sensor: str
    value: float
    is_energy: bool = False


def readings(
    sensor: str, values: Mapping[str, str], label: str | None, what: str, malformed: MalformedValues
) -> Iterator[Reading]:
    """The readings of a sensor from its texts by property (`input`, `max`, or `` for a file without one)."""
    kind = sensor.rstrip("0123456789")
    names: set[str] = set()
    for prop, text in values.items():
        if not text or _WORDS.fullmatch(text):
            continue
        value = parse_decimal(text, f"{what}_{prop}", malformed)
        if value is not None:
            reading = _reading(kind, sensor, prop, value, "" in values, label)
            # Properties that differ only in case or punctuation have the same name: the first one counts.
            if reading is not None and reading.name not in names:
                names.add(reading.name)
                yield reading


def _reading(kind: str, sensor: str, prop: str, value: float, has_bare: bool, label: str | None) -> Reading | None:
    if kind in ("beep_enable", "vrm", "update_interval"):
        if prop:
            return None
        if kind == "beep_enable":
            return Reading("beep_enabled", sensor, int(value == 1))
        if kind == "vrm":
            return Reading("voltage_regulator_version", sensor, value)
        return Reading("update_interval_seconds", sensor, value * 0.001)
    # `input` has no suffix, unless there is also a file without a property.
    part = "" if not prop or (prop == "input" and not has_bare) else "_" + clean(prop)
    if kind == "freq" and prop == "input":
        # The label identifies the clock of a GPU (sclk, mclk); without one the reading is meaningless.
        return Reading(f"freq{part}_freq_mhz", clean(label), value / 1_000_000) if label else None
    scaled = _scale(kind, prop)
    energy = kind == "energy" and prop not in ("fault", "alarm", "beep")
    return Reading(kind + part + scaled.suffix, sensor, value * scaled.factor / scaled.divisor, energy)


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
    """The chip name of each folder. Chips of one device also get the name of their driver, or of their folder."""
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
    """A name that survives reboots: bus and device if there is one, else the name of the driver, else of the folder."""
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
    """In lower case, with an underscore for each unusual character and none at the ends."""
    return _FORBIDDEN.sub("_", name.strip().lower()).strip("_")
