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
from deckwatch_exporters.system.parse_numbers import MalformedValues
from deckwatch_exporters.system.pressure import Pressure, parse_pressure

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


def test_totals_are_in_seconds_and_the_meaningless_cpu_line_is_skipped() -> None:
    assert by_series(Pressure(host_paths(NUMA)).collect()) == ALL


def test_an_older_kernel_without_interrupt_pressure_has_the_others(tmp_path: Path) -> None:
    tree = Path(shutil.copytree(NUMA, tmp_path / "numa"))
    (tree / "proc/pressure/irq").unlink()

    found = by_series(Pressure(host_paths(tree)).collect())

    assert ALL.items() - found.items() == {("node_pressure_irq_stalled_seconds_total", 0.008494)}


def test_a_kernel_without_pressure_files_has_no_series_and_no_error(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable):
        list(Pressure(host_paths(tmp_path)).collect())


@pytest.mark.parametrize("error", [errno.EOPNOTSUPP, errno.EIO])
def test_pressure_disabled_at_boot_is_not_an_error_but_a_read_failure_is(
    error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, *_flags: int) -> int:
        raise OSError(error, os.strerror(error), path)

    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(NotAvailable if error == errno.EOPNOTSUPP else OSError):
        list(Pressure(host_paths(NUMA)).collect())


@pytest.mark.parametrize(
    ("line", "reported"),
    [
        ("full avg10=0.00", ("/proc/pressure/io", "full avg10=0.00")),
        ("many total=5", ("/proc/pressure/io", "many total=5")),
        ("full avg10=0.00 total=", ("/proc/pressure/io: full", "")),
        ("full avg10=0.00 total=5x", ("/proc/pressure/io: full", "5x")),
        ("some total=6", ("/proc/pressure/io", "some total=6")),  # repeated
    ],
)
def test_a_malformed_line_is_reported_and_the_other_is_used(line: str, reported: tuple[str, str]) -> None:
    malformed = MalformedValues()

    assert parse_pressure(f"some total=5\n{line}\n", "/proc/pressure/io", malformed) == {"some": 5}
    assert malformed == [reported]


@given(st.text(), st.text(alphabet="0123= x\nsometal"))
def test_any_text_can_be_parsed(any_text: str, tail: str) -> None:
    for text in (any_text, "some total=" + tail):
        assert all(total >= 0 for total in parse_pressure(text, "file", MalformedValues()).values())
