"""The pytest fixtures for applications, loaded as an entry point."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sdk.pytest_entry import run_pytest

if TYPE_CHECKING:
    from pathlib import Path

APPLICATION_TESTS = """
import deckwatch, logging, pytest

orders = deckwatch.counter("orders_total", "Orders.", ["status", "shop"])
waiting = deckwatch.gauge("waiting", "Waiting.")
took = deckwatch.histogram("took_seconds", "Duration.")


@pytest.mark.parametrize("turn", range(2))
def test_counts_of_this_test_are_read(metrics, turn):
    assert metrics["orders_total", {"status": "paid"}] == 0
    orders.labels("paid", "a").inc()
    orders.labels("paid", "b").inc(2)
    orders.labels("open", "b").inc(4)
    assert metrics["orders_total", {"status": "paid", "shop": "b"}] == 2
    assert metrics["orders_total", {"status": "paid"}] == 3
    assert metrics["orders_total"] == 7
    waiting.set(3)
    assert metrics["waiting"] == 3
    took.observe(0.5)
    assert metrics["took_seconds_count"] == 1
    assert metrics["took_seconds_sum"] == 0.5
    with pytest.raises(KeyError, match="similar: orders_total"):
        metrics["order_total"]


@pytest.mark.parametrize("turn", range(2))
def test_events_of_this_test_are_read(events, metrics, turn):
    deckwatch.event("order_placed", amount=12.5)
    logging.warning("no event")
    with deckwatch.job("import"):
        pass
    assert [event["amount"] for event in events["order_placed"]] == [12.5]
    assert events["order_placed"][0]["category"] == "business"
    assert [event["event"] for event in events] == ["order_placed", "job.started", "job.succeeded"]
    assert metrics["app_events_total", {"event": "order_placed"}] == 1
    assert metrics["job_runs_total", {"outcome": "success"}] == 1
"""


def test_the_fixtures_are_there_where_deckwatch_is_installed(tmp_path: Path) -> None:
    (tmp_path / "test_shop.py").write_text(APPLICATION_TESTS)
    done = run_pytest(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
