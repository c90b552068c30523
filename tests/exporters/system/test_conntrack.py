"""Connection tracking."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.exporter import NotAvailable
from deckwatch_exporters.system.conntrack import Conntrack, parse_statistics
from deckwatch_exporters.system.parse_numbers import MalformedValues

from .support import by_series, host_paths, malformed

STATISTICS = """\
entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop search_restart
00000005  00000001 00000002 0 00000003 00000004 0 0 00000005 00000006 00000007 00000008 0000000a
00000005  00000000 00000010 0 00000000 00000000 0 0 00000000 00000000 00000000 00000000 00000001
"""


def host(tree: Path, statistics: str | None) -> Path:
    limits = tree / "proc/sys/net/netfilter"
    limits.mkdir(parents=True)
    (limits / "nf_conntrack_count").write_text("5\n")
    (limits / "nf_conntrack_max").write_text("262144\n")
    if statistics is not None:
        (tree / "proc/net/stat").mkdir(parents=True)
        (tree / "proc/net/stat/nf_conntrack").write_text(statistics)
    return tree


def test_statistics_are_summed_over_all_cpus_and_parsed_as_hexadecimal(tmp_path: Path) -> None:
    assert by_series(Conntrack(host_paths(host(tmp_path, STATISTICS))).collect()) == {
        "node_nf_conntrack_entries": 5,
        "node_nf_conntrack_entries_limit": 262144,
        "node_nf_conntrack_stat_found": 0x12,
        "node_nf_conntrack_stat_invalid": 3,
        "node_nf_conntrack_stat_ignore": 4,
        "node_nf_conntrack_stat_insert": 5,
        "node_nf_conntrack_stat_insert_failed": 6,
        "node_nf_conntrack_stat_drop": 7,
        "node_nf_conntrack_stat_early_drop": 8,
        "node_nf_conntrack_stat_search_restart": 11,
    }


def test_a_kernel_without_the_statistics_still_exports_the_table_usage(tmp_path: Path) -> None:
    found = by_series(Conntrack(host_paths(host(tmp_path, None))).collect())

    assert found == {"node_nf_conntrack_entries": 5, "node_nf_conntrack_entries_limit": 262144}


def test_a_column_that_the_kernel_does_not_have_is_absent_rather_than_0(tmp_path: Path) -> None:
    found = by_series(Conntrack(host_paths(host(tmp_path, "entries drop\n00000005 00000002\n"))).collect())

    assert {series for series in found if "stat" in series} == {"node_nf_conntrack_stat_drop"}


def test_a_host_without_connection_tracking_has_no_metrics_and_no_error(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable):
        list(Conntrack(host_paths(tmp_path)).collect())


def test_a_column_with_a_malformed_value_is_absent_and_the_others_are_exported(tmp_path: Path) -> None:
    tree = host(tmp_path, "entries drop found\n00000005 00000002 00000001\n00000005 zz 00000003\n")

    found = list(Conntrack(host_paths(tree)).collect())

    assert by_series(found)["node_nf_conntrack_stat_found"] == 4
    assert "node_nf_conntrack_stat_drop" not in by_series(found)
    assert malformed(found) == [("/proc/net/stat/nf_conntrack: drop", "zz")]


@pytest.mark.parametrize("row", ["1", "1 2 3"])
def test_a_row_that_does_not_match_its_heading_makes_all_sums_absent(row: str) -> None:
    values = MalformedValues()

    assert parse_statistics(f"entries drop\n{row}\n", values) == {}
    assert values == [("/proc/net/stat/nf_conntrack", row)]


@given(st.text())
def test_any_text_can_be_parsed(text: str) -> None:
    assert all(isinstance(total, int) for total in parse_statistics(text, MalformedValues()).values())
