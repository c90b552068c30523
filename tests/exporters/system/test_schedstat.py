"""The time that tasks ran and waited for the CPUs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.exporter import NotAvailable
from deckwatch_exporters.system.schedstat import RunQueue, Schedstat, parse_schedstat

from .support import FIXTURES, by_series, host_paths


def test_running_and_waiting_are_in_seconds_for_each_cpu() -> None:
    found = by_series(Schedstat(host_paths(FIXTURES / "numa")).collect())

    assert found['node_schedstat_running_seconds_total{cpu="0"}'] == 4267.045366
    assert found['node_schedstat_waiting_seconds_total{cpu="0"}'] == 8.5673408
    assert found['node_schedstat_timeslices_total{cpu="0"}'] == 77123456
    assert found['node_schedstat_timeslices_total{cpu="3"}'] == 74000003
    assert len(found) == 3 * 4


def test_a_kernel_without_the_statistics_has_no_figures_and_no_fault(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable):
        list(Schedstat(host_paths(tmp_path)).collect())


def test_the_figures_of_an_old_kernel_that_prints_more_stand_in_the_same_place() -> None:
    assert parse_schedstat("version 14\ncpu0 1 2 3 4 5 6 7 8 9 10 11 12\n") == {"0": RunQueue(7, 8, 9)}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("version 16\n", "/proc/schedstat names no CPU"),
        ("cpu0 1 2 3\n", "/proc/schedstat: not a CPU with nine figures: 'cpu0 1 2 3'"),
        ("cpux 1 2 3 4 5 6 7 8 9\n", "/proc/schedstat: not a CPU with nine figures: 'cpux 1 2 3 4 5 6 7 8 9'"),
        ("cpu0 1 2 3 4 5 6 7 8 x\n", "/proc/schedstat: not figures: '7 8 x'"),
    ],
)
def test_what_is_wrong_with_the_file_is_said(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^{complaint}$"):
        parse_schedstat(text)


@given(st.text(), st.text(alphabet="0123 x\n"))
def test_any_text_is_figures_or_a_value_error_that_names_the_file(any_text: str, tail: str) -> None:
    for text in (any_text, "cpu0 1 2 3 4 5 6 7 8" + tail):
        complaint = ""
        try:
            assert all(min(queue) >= 0 for queue in parse_schedstat(text).values())
        except ValueError as fault:
            complaint = str(fault)
        assert not complaint or complaint.startswith("/proc/schedstat")
