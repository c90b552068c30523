"""Pressure stall information."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.exporter import NotAvailable
from deckwatch_exporters.system.pressure import RESOURCES, Pressure, parse_pressure

from .support import FIXTURES, by_series, host_paths

NUMA = FIXTURES / "numa"
ALL = {
    "node_pressure_cpu_waiting_seconds_total": 14.036781,
    "node_pressure_io_waiting_seconds_total": 159.229614,
    "node_pressure_io_stalled_seconds_total": 150.000001,
    "node_pressure_memory_waiting_seconds_total": 0.25,
    "node_pressure_memory_stalled_seconds_total": 0.125,
    "node_pressure_irq_stalled_seconds_total": 0.008494,
}


def test_totals_are_in_seconds_and_the_cpus_meaningless_line_is_left_out() -> None:
    assert by_series(Pressure(host_paths(NUMA)).collect()) == ALL


def test_an_older_kernel_that_does_not_know_of_interrupts_has_the_others(tmp_path: Path) -> None:
    tree = Path(shutil.copytree(NUMA, tmp_path / "numa"))
    (tree / "proc/pressure/irq").unlink()

    found = by_series(Pressure(host_paths(tree)).collect())

    assert ALL.items() - found.items() == {("node_pressure_irq_stalled_seconds_total", 0.008494)}


def test_a_kernel_without_it_has_no_figures_and_no_fault(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable):
        list(Pressure(host_paths(tmp_path)).collect())


@pytest.mark.parametrize("error", [errno.EOPNOTSUPP, errno.EIO])
def test_a_kernel_that_was_booted_without_it_is_no_fault_and_one_that_fails_is(
    error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, *_flags: int) -> int:
        raise OSError(error, os.strerror(error), path)

    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(NotAvailable if error == errno.EOPNOTSUPP else OSError):
        list(Pressure(host_paths(NUMA)).collect())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "/proc/pressure/io is empty"),
        ("some avg10=0.00", "/proc/pressure/io: no total of some or full: 'some avg10=0.00'"),
        ("many total=5", "/proc/pressure/io: no total of some or full: 'many total=5'"),
        ("some avg10=0.00 total=", "/proc/pressure/io: not figures: ''"),
        ("some avg10=0.00 total=5x", "/proc/pressure/io: not figures: '5x'"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_name(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^{complaint}$"):
        parse_pressure(text, "io")


@given(st.text(), st.text(alphabet="0123= x\nsometal"), st.sampled_from(RESOURCES))
def test_any_text_is_figures_or_a_value_error_that_names_the_file(any_text: str, tail: str, resource: str) -> None:
    for text in (any_text, "some total=" + tail):
        complaint = ""
        try:
            assert all(total >= 0 for total in parse_pressure(text, resource).values())
        except ValueError as fault:
            complaint = str(fault)
        assert not complaint or complaint.startswith(f"/proc/pressure/{resource}")
