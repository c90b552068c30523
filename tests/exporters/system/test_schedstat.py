"""The time that tasks ran on and waited for each CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.exporter import NotAvailable
from deckwatch_exporters.system.parse_numbers import MalformedValues
from deckwatch_exporters.system.schedstat import Schedstat, parse_schedstat

from .support import FIXTURES, by_series, host_paths


def test_running_and_waiting_times_are_in_seconds_by_cpu() -> None:
    found = by_series(Schedstat(host_paths(FIXTURES / "numa")).collect())

    assert found['node_schedstat_running_seconds_total{cpu="0"}'] == 4267.045366
    assert found['node_schedstat_waiting_seconds_total{cpu="0"}'] == 8.5673408
    assert found['node_schedstat_timeslices_total{cpu="0"}'] == 77123456
    assert found['node_schedstat_timeslices_total{cpu="3"}'] == 74000003
    assert len(found) == 3 * 4


def test_a_kernel_without_the_statistics_has_no_series_and_no_error(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable):
        list(Schedstat(host_paths(tmp_path)).collect())


def test_additional_columns_of_an_old_version_are_ignored() -> None:
    text = "version 14\ncpu0 1 2 3 4 5 6 7 8 9 10 11 12\n"

    assert parse_schedstat(text, MalformedValues()) == {"0": [7, 8, 9]}


@pytest.mark.parametrize(
    "line", ["cpu1 1 2 3", "cpux 1 2 3 4 5 6 7 8 9", "cpu0 1 2 3 4 5 6 7 8 9", "cpu1 1 2 3 4 5 6 7 8 9 9"]
)
def test_a_malformed_line_is_skipped(line: str) -> None:
    malformed = MalformedValues()

    assert parse_schedstat(f"version 15\ncpu0 1 2 3 4 5 6 7 8 9\n{line}\n", malformed) == {"0": [7, 8, 9]}
    assert malformed == [("/proc/schedstat", line)]


def test_a_malformed_value_affects_only_its_series() -> None:
    malformed = MalformedValues()

    assert parse_schedstat("cpu0 1 2 3 4 5 6 7 x 9\n", malformed) == {"0": [7, None, 9]}
    assert malformed == [("/proc/schedstat: cpu0", "x")]


@given(st.text(), st.text(alphabet="0123 x\n"))
def test_any_text_can_be_parsed(any_text: str, tail: str) -> None:
    for text in (any_text, "cpu0 1 2 3 4 5 6 7 8" + tail):
        assert all(len(values) == 3 for values in parse_schedstat(text, MalformedValues()).values())
