"""Batteries and chargers."""

from __future__ import annotations

from pathlib import Path

import pytest

from deckwatch.exporter import NotAvailable
from deckwatch_exporters.system.power_supply import PowerSupply

from .support import FIXTURES, by_series, host_paths


@pytest.fixture
def series() -> dict[str, float]:
    return by_series(PowerSupply(host_paths(FIXTURES / "hardware")).collect())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("present", 1),
        ("capacity", 98),
        ("cyclecount", 214),
        ("voltage_volt", 12.229),
        ("voltage_min_design", 11.1),
        ("power_watt", 4.83),
        ("energy_watthour", 49.45),
        ("energy_full", 50.06),
        ("temp_celsius", 28.1),
    ],
)
def test_a_battery_is_exported_in_base_units(series: dict[str, float], name: str, value: float) -> None:
    assert series[f'node_power_supply_{name}{{power_supply="BAT0"}}'] == value


def test_an_unplugged_charger_is_offline(series: dict[str, float]) -> None:
    assert series['node_power_supply_online{power_supply="AC"}'] == 0


def test_info_has_a_label_for_each_text_attribute(series: dict[str, float]) -> None:
    assert [line for line in series if line.startswith("node_power_supply_info")] == [
        'node_power_supply_info{power_supply="AC",type="Mains"}',
        'node_power_supply_info{power_supply="BAT0",capacity_level="Normal",manufacturer="LGC",model_name="LNV-45N1",'
        'serial_number="38109",status="Discharging",technology="Li-ion",type="Battery"}',
    ]


def test_a_value_that_is_not_a_number_is_absent(tmp_path: Path) -> None:
    battery = tmp_path / "sys/class/power_supply/BAT0"
    battery.mkdir(parents=True)
    (battery / "capacity").write_text("full\n")

    assert by_series(PowerSupply(host_paths(tmp_path)).collect()) == {'node_power_supply_info{power_supply="BAT0"}': 1}


def test_a_machine_without_power_supplies_has_no_series(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable):
        list(PowerSupply(host_paths(tmp_path)).collect())
