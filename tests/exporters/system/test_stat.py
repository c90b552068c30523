"""Host-wide counters."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch_exporters.system.parse_numbers import MalformedValues
from deckwatch_exporters.system.stat import METRICS, Stat, StatSettings, parse_stat

from .support import FIXTURES, by_series, host_paths, malformed

PATHS = host_paths(FIXTURES / "numa")
TOTALS = {
    "node_intr_total": 91234567,
    "node_context_switches_total": 183456789,
    "node_forks_total": 456789,
    "node_boot_time_seconds": 1794000000,
    "node_procs_running": 3,
    "node_procs_blocked": 1,
}


def test_totals_are_exported_and_soft_interrupts_only_if_enabled() -> None:
    assert by_series(Stat(PATHS).collect()) == TOTALS


def test_soft_interrupts_are_named_in_kernel_order_and_their_total_is_omitted() -> None:
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
    ("line", "reported"),
    [
        ("btime", ("/proc/stat: btime", "btime")),
        ("btime x", ("/proc/stat: btime", "x")),
        ("btime -5", ("/proc/stat: btime", "-5")),
        ("ctxt 8", ("/proc/stat: ctxt", "ctxt 8")),  # repeated
    ],
)
def test_a_malformed_line_is_reported_and_the_others_are_exported(
    line: str, reported: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text(f"intr 5 1 2\nctxt 7\n{line}\nprocesses 9\n")

    found = list(Stat(host_paths(tmp_path)).collect())

    assert by_series(found) == {"node_intr_total": 5, "node_context_switches_total": 7, "node_forks_total": 9}
    assert malformed(found) == [reported]


def test_an_empty_file_is_reported() -> None:
    values = MalformedValues()

    assert parse_stat("", False, values) == {}
    assert values == [("/proc/stat", "")]


@given(st.sampled_from(["", "intr ", "softirq ", "btime"]), st.text())
def test_any_text_can_be_parsed(start: str, text: str) -> None:
    fields = parse_stat(start + text, True, MalformedValues())

    assert fields.keys() <= METRICS.keys() | {"softirq"}
    assert all(fields.values())
