"""Packet processing by CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.exporter import NotAvailable
from deckwatch_exporters.system.parse_numbers import MalformedValues
from deckwatch_exporters.system.softnet import Softnet, parse_softnet

from .support import by_series, host_paths


def collected(tree: Path, text: str) -> dict[str, float]:
    (tree / "proc/net").mkdir(parents=True)
    (tree / "proc/net/softnet_stat").write_text(text)
    return by_series(Softnet(host_paths(tree)).collect())


def test_the_cpu_number_in_the_line_is_used_because_offline_cpus_have_no_line(tmp_path: Path) -> None:
    line = "00002139 00000002 00000001 0 0 0 0 0 00000003 00000004 00000005 00000006 {cpu:08x} 00000000 00000000\n"

    found = collected(tmp_path, line.format(cpu=0) + line.format(cpu=11))

    assert {series: value for series, value in found.items() if 'cpu="11"' in series} == {
        'node_softnet_processed_total{cpu="11"}': 0x2139,
        'node_softnet_dropped_total{cpu="11"}': 2,
        'node_softnet_times_squeezed_total{cpu="11"}': 1,
        'node_softnet_cpu_collision_total{cpu="11"}': 3,
        'node_softnet_received_rps_total{cpu="11"}': 4,
        'node_softnet_flow_limit_count_total{cpu="11"}': 5,
        'node_softnet_backlog_len{cpu="11"}': 6,
    }


def test_on_an_old_kernel_cpus_are_numbered_by_line_and_backlog_is_absent(tmp_path: Path) -> None:
    found = collected(tmp_path, "0000000a 0 0 0 0 0 0 0 0 0 0\n0000000b 0 0 0 0 0 0 0 0 0 0\n")

    assert found['node_softnet_processed_total{cpu="0"}'] == 10
    assert found['node_softnet_processed_total{cpu="1"}'] == 11
    assert {series for series in found if "backlog" in series} == set()


def test_a_kernel_without_networking_has_no_series_and_no_error(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable):
        list(Softnet(host_paths(tmp_path)).collect())


@pytest.mark.parametrize("line", ["0 0", "0 0 1 2"])
def test_a_line_with_an_unexpected_number_of_fields_is_skipped(line: str) -> None:
    malformed = MalformedValues()

    assert parse_softnet(f"1 2 3\n{line}\n4 5 6\n", malformed) == {0: [1, 2, 3], 2: [4, 5, 6]}
    assert malformed == [("/proc/net/softnet_stat", line)]


def test_a_malformed_value_affects_only_its_series() -> None:
    malformed = MalformedValues()

    assert parse_softnet("1 2 3\n4 zz 6\n", malformed) == {0: [1, 2, 3], 1: [4, None, 6]}
    assert malformed == [("/proc/net/softnet_stat", "zz")]


@given(st.text())
def test_any_text_can_be_parsed(text: str) -> None:
    assert all(len(values) >= 3 for values in parse_softnet(text, MalformedValues()).values())
