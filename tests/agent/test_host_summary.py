"""The figures of the host on the status page."""

from __future__ import annotations

from deckwatch.collection.host_summary import HostSummary


def test_cpu_usage_is_absent_on_the_first_page_and_known_from_the_second_run() -> None:
    summary = HostSummary()
    assert summary.status.cpu_ratio is None
    summary.collect()
    assert summary.status.cpu_ratio is None
    assert summary.status.memory_ratio is not None

    summary.collect()

    assert summary.status.cpu_ratio is not None
