"""Sensors: names, labels and units as in node_exporter."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deckwatch.exporter import NotAvailable
from deckwatch_exporters.system.hwmon import Hwmon, clean, readings
from deckwatch_exporters.system.parse_numbers import MalformedValues

from .support import FIXTURES, by_series, exposed, host_paths

CORETEMP = "platform_coretemp_0"
SUPER_IO = "platform_nct6775_656"
GPU = "pci0000:00_0000:03:00_0"


@pytest.fixture
def series() -> dict[str, float]:
    return by_series(Hwmon(host_paths(FIXTURES / "hardware")).collect())


@pytest.mark.parametrize(
    ("name", "chip", "sensor", "value"),
    [
        ("temp_celsius", CORETEMP, "temp1", 55),
        ("temp_max_celsius", CORETEMP, "temp1", 84),
        ("temp_crit_alarm_celsius", CORETEMP, "temp2", 0.001),  # the peer's unit, although an alarm has none
        ("in_volts", SUPER_IO, "in0", 1.056),
        ("in_beep_enabled", SUPER_IO, "in0", 1),
        ("fan_rpm", SUPER_IO, "fan1", 1219),
        ("fan_alarm", SUPER_IO, "fan1", 0),
        ("fan_pulses", SUPER_IO, "fan1", 2),
        ("pwm", SUPER_IO, "pwm1", 153),
        ("pwm_enable", SUPER_IO, "pwm1", 5),
        ("temp_type", SUPER_IO, "temp1", 4),
        ("intrusion_alarm", SUPER_IO, "intrusion0", 1),
        ("beep_enabled", SUPER_IO, "beep_enable0", 1),
        ("update_interval_seconds", SUPER_IO, "update_interval0", 0.5),
        ("voltage_regulator_version", SUPER_IO, "vrm0", 90),
        ("power_average_watt", GPU, "power1", 33.25),
        ("power_average_interval_seconds", GPU, "power1", 1),
        ("energy_joule_total", GPU, "energy1", 7512.345678),
        ("curr_amps", GPU, "curr1", 1.25),
        ("humidity", GPU, "humidity1", 0.055),
        ("freq_freq_mhz", GPU, "sclk", 852),
    ],
)
def test_a_sensor_is_exported_in_base_units(
    series: dict[str, float], name: str, chip: str, sensor: str, value: float
) -> None:
    assert series[f'node_hwmon_{name}{{chip="{chip}",sensor="{sensor}"}}'] == value


def test_chips_and_sensors_have_human_readable_names(series: dict[str, float]) -> None:
    assert series[f'node_hwmon_chip_names{{chip="{SUPER_IO}",chip_name="nct6779"}}'] == 1
    assert series[f'node_hwmon_sensor_label{{chip="{CORETEMP}",sensor="temp2",label="Core 0"}}'] == 1


def test_two_chips_of_one_device_are_distinguished_by_driver(series: dict[str, float]) -> None:
    assert series['node_hwmon_fan_rpm{chip="platform_asus_nb_wmi_asus_fan",sensor="fan1"}'] == 2900
    assert series['node_hwmon_fan_rpm{chip="platform_asus_nb_wmi_asus_sensors",sensor="fan1"}'] == 2100


def test_a_chip_without_a_device_has_the_name_of_its_driver(series: dict[str, float]) -> None:
    assert series['node_hwmon_temp_celsius{chip="acpitz",sensor="temp1"}'] == 27.8


def test_sensors_without_a_numeric_value_are_absent(series: dict[str, float]) -> None:
    assert not any('sensor="temp7"' in line for line in series)  # the driver returns text
    assert not any('sensor="freq2"' in line for line in series)  # a clock without a label


def test_otherwise_identical_chips_are_distinguished_by_folder(tmp_path: Path) -> None:
    for number in (0, 1):
        folder = tmp_path / f"sys/class/hwmon/hwmon{number}"
        folder.mkdir(parents=True)
        (folder / "name").write_text("nvme\n")
        (folder / "temp1_input").write_text("30000\n")

    assert exposed(Hwmon(host_paths(tmp_path)).collect())[-2:] == [
        'node_hwmon_temp_celsius{chip="nvme_hwmon0",sensor="temp1"} 30.0',
        'node_hwmon_temp_celsius{chip="nvme_hwmon1",sensor="temp1"} 30.0',
    ]


def test_files_that_only_look_like_sensors_are_ignored(tmp_path: Path) -> None:
    folder = tmp_path / "sys/class/hwmon/hwmon0"
    (folder / "device").mkdir(parents=True)
    (folder / "device" / "power_level").write_text("5\n")
    (folder / "device" / "fan_boost_mode").write_text("2\n")
    (folder / "device" / "temp1_input").write_text("41000\n")

    assert list(by_series(Hwmon(host_paths(tmp_path)).collect()).values()) == [41]


def test_a_machine_without_sensors_has_no_series(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable):
        list(Hwmon(host_paths(tmp_path)).collect())


@example("temp1", {"max": "0", "Max": "0"}, None)
@given(
    st.sampled_from(["temp1", "freq2", "in0", "power1", "energy3", "beep_enable0", "vrm0", "fan1"]),
    st.dictionaries(st.sampled_from(["", "input", "max", "Max", "beep", "alarm", "type", "accuracy"]), st.text()),
    st.one_of(st.none(), st.text()),
)
def test_any_content_gives_values_with_distinct_names(sensor: str, values: dict[str, str], label: str | None) -> None:
    found = list(readings(sensor, values, label, "file", MalformedValues()))

    assert len({figure.name for figure in found}) == len(found) <= len(values)


@given(st.text())
def test_a_cleaned_name_contains_only_allowed_characters(name: str) -> None:
    assert set(clean(name)) <= set("abcdefghijklmnopqrstuvwxyz0123456789:_")
