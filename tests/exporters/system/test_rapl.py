"""Energy used by CPU power zones."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.exporter import NotAvailable
from deckwatch_exporters.system.rapl import Rapl, split_name

from .support import FIXTURES, by_series, host_paths


def test_energy_is_in_joules_by_zone() -> None:
    folder = FIXTURES / "hardware/sys/class/powercap"

    assert by_series(Rapl(host_paths(FIXTURES / "hardware")).collect()) == {
        f'node_rapl_package_joules_total{{index="0",path="{folder}/intel-rapl:0"}}': 240422.366267,
        f'node_rapl_core_joules_total{{index="0",path="{folder}/intel-rapl:0:0"}}': 118821.284256,
        f'node_rapl_package_joules_total{{index="1",path="{folder}/intel-rapl:1"}}': 1,
    }


def test_zones_with_the_same_name_are_numbered(tmp_path: Path) -> None:
    for zone in ("intel-rapl:0:1", "intel-rapl:1:1"):
        folder = tmp_path / "sys/class/powercap" / zone
        folder.mkdir(parents=True)
        (folder / "name").write_text("dram\n")
        (folder / "energy_uj").write_text("2000000\n")

    series = by_series(Rapl(host_paths(tmp_path)).collect())

    assert [line.partition(",")[0] for line in series] == [
        'node_rapl_dram_joules_total{index="0"',
        'node_rapl_dram_joules_total{index="1"',
    ]


def test_unreadable_energy_counters_are_absent(tmp_path: Path) -> None:
    folder = tmp_path / "sys/class/powercap/intel-rapl:0"
    folder.mkdir(parents=True)
    (folder / "name").write_text("package-0\n")

    with pytest.raises(NotAvailable):
        list(Rapl(host_paths(tmp_path)).collect())


@given(st.text())
def test_a_name_is_split_only_before_a_trailing_number(text: str) -> None:
    name, number = split_name(text)

    assert (name == text) if number is None else text.startswith(name + "-")
