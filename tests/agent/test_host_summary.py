"""The figures of the host on the status page."""

from __future__ import annotations

import psutil
import pytest

from deckwatch.collection.host_summary import HostSummary
from services import until


def test_cpu_usage_is_absent_on_the_first_page_and_known_from_the_second_run() -> None:
    summary = HostSummary()
    assert summary.status.cpu_ratio is None
    summary.collect()
    assert summary.status.cpu_ratio is None
    assert summary.status.memory_ratio is not None

    def is_known() -> bool:
        summary.collect()
        return summary.status.cpu_ratio is not None

    until(is_known)


def test_memory_and_disk_usage_are_those_that_other_tools_show() -> None:
    summary = HostSummary()

    def agrees() -> bool:
        summary.collect()
        found = (summary.status.memory_ratio, summary.status.disk_ratio)
        expected = (psutil.virtual_memory().percent / 100, psutil.disk_usage("/").percent / 100)
        return found == pytest.approx(expected, abs=0.002)

    until(agrees)  # both may change between the two measurements


def test_cpu_usage_is_a_ratio_while_the_host_works() -> None:
    summary = HostSummary()
    summary.collect()

    def is_busy() -> bool:
        sum(range(100_000))
        summary.collect()
        return summary.status.cpu_ratio is not None and 0 < summary.status.cpu_ratio <= 1

    until(is_busy)
