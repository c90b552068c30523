"""Thermal zones and cooling devices."""

from __future__ import annotations

from pathlib import Path

import pytest

from deckwatch.exporter import NotAvailable
from deckwatch_exporters.system.thermal import Thermal

from .support import FIXTURES, by_series, host_paths


def test_temperatures_are_in_degrees_and_cooling_states_in_steps() -> None:
    assert by_series(Thermal(host_paths(FIXTURES / "hardware")).collect()) == {
        'node_thermal_zone_temp{zone="0",type="acpitz"}': 27.8,
        'node_thermal_zone_temp{zone="1",type="x86_pkg_temp"}': -5,
        'node_cooling_device_cur_state{name="0",type="Processor"}': 0,
        'node_cooling_device_max_state{name="0",type="Processor"}': 10,
        'node_cooling_device_cur_state{name="1",type="Fan"}': 2,
        'node_cooling_device_max_state{name="1",type="Fan"}': 3,
    }


def test_an_unreadable_zone_is_absent_and_the_others_are_exported(tmp_path: Path) -> None:
    for number, text in enumerate(("", "33000\n", "hot\n")):
        zone = tmp_path / f"sys/class/thermal/thermal_zone{number}"
        zone.mkdir(parents=True)
        (zone / "type").write_text("soc\n")
        (zone / "temp").write_text(text)

    assert by_series(Thermal(host_paths(tmp_path)).collect()) == {'node_thermal_zone_temp{zone="1",type="soc"}': 33}


def test_a_machine_without_zones_has_no_series(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable):
        list(Thermal(host_paths(tmp_path)).collect())
