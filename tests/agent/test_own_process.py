"""The metrics of the agent's own process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest

from deckwatch.collection.own_process import OwnProcess

if TYPE_CHECKING:
    from pathlib import Path


def _values() -> dict[str, float]:
    return {sample.series.name: sample.value for sample in OwnProcess().collect()}


def test_the_figures_are_those_that_other_tools_show() -> None:
    process = psutil.Process()
    before, values, after = process.cpu_times(), _values(), process.cpu_times()

    assert before.user + before.system <= values["process_cpu_seconds_total"] <= after.user + after.system
    assert values["process_resident_memory_bytes"] == pytest.approx(process.memory_info().rss, rel=0.1)
    assert values["process_virtual_memory_bytes"] == pytest.approx(process.memory_info().vms, rel=0.1)
    assert values["process_start_time_seconds"] == pytest.approx(process.create_time(), abs=1.5)


def test_an_opened_file_is_counted(tmp_path: Path) -> None:
    before = _values()["process_open_fds"]
    with (tmp_path / "file").open("w"):
        assert _values()["process_open_fds"] == before + 1
