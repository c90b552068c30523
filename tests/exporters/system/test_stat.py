"""The counters of the whole host."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch_exporters.system.stat import METRICS, Stat, StatSettings, parse_stat

from .support import FIXTURES, by_series, host_paths

PATHS = host_paths(FIXTURES / "numa")
TOTALS = {
    "node_intr_total": 91234567,
    "node_context_switches_total": 183456789,
    "node_forks_total": 456789,
    "node_boot_time_seconds": 1794000000,
    "node_procs_running": 3,
    "node_procs_blocked": 1,
}


def test_totals_are_exported_and_no_soft_interrupts_unless_asked_for() -> None:
    assert by_series(Stat(PATHS).collect()) == TOTALS


def test_soft_interrupts_are_named_by_the_kernels_order_of_vectors_and_their_total_is_left_out() -> None:
    assert by_series(Stat(PATHS, StatSettings(softirq=True)).collect()) == TOTALS | {
        'node_softirqs_total{vector="hi"}': 12,
        'node_softirqs_total{vector="timer"}': 10203040,
        'node_softirqs_total{vector="net_tx"}': 456,
        'node_softirqs_total{vector="net_rx"}': 7654321,
        'node_softirqs_total{vector="block"}': 3000100,
        'node_softirqs_total{vector="block_iopoll"}': 0,
        'node_softirqs_total{vector="tasklet"}': 7890,
        'node_softirqs_total{vector="sched"}': 12345678,
        'node_softirqs_total{vector="hrtimer"}': 901,
        'node_softirqs_total{vector="rcu"}': 12466503,
    }


def test_a_field_that_the_kernel_does_not_have_is_absent(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text("cpu0 1 2 3 4\nctxt 5\nbtime 6\n")

    assert by_series(Stat(host_paths(tmp_path)).collect()) == {
        "node_context_switches_total": 5,
        "node_boot_time_seconds": 6,
    }


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "/proc/stat has none of the fields that are exported"),
        ("btime\n", "/proc/stat: btime has no figure"),
        ("intr x 1 2\n", "/proc/stat: not figures: 'x'"),
        ("ctxt -5\n", "/proc/stat: not figures: '-5'"),
    ],
)
def test_what_is_wrong_with_the_file_is_said(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^{complaint}$"):
        parse_stat(text)


@given(st.sampled_from(["", "intr ", "softirq ", "btime"]), st.text())
def test_any_text_is_figures_or_a_value_error_that_names_the_file(start: str, text: str) -> None:
    complaint = ""
    try:
        fields = parse_stat(start + text)
        assert fields.keys() <= METRICS.keys() | {"softirq"}
        assert all(fields.values())
    except ValueError as fault:
        complaint = str(fault)
    assert not complaint or complaint.startswith("/proc/stat")
