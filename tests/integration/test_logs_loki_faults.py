"""Whatever errors Loki returns, every line is eventually stored exactly once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from deckwatch.logs.loki.quarantine import entries as quarantined
from log_shipping import (
    Log,
    await_empty_spool,
    await_lines,
    await_record,
    config,
    figures,
    following,
    log_records,
    new_job,
    shipper,
    stored,
    total,
)
from loki import Fault, loki
from services import free_port, until

if TYPE_CHECKING:
    from pathlib import Path

#: Faults and the value of the metric's label `reason`.
FAULTS = {
    "answers 500": (Fault("status", 500), "server_error"),
    "answers 503 with a page": (Fault("status", 503, "<html>", content_type="text/html"), "server_error"),
    "answers 429": (Fault("status", 429, "too many requests"), "rate_limited"),
    "hangs": (Fault("hang"), "timeout"),
    "trickles its answer": (Fault("slow", seconds=0.2), "timeout"),
    "closes at once": (Fault("refuse"), "connection"),
    "closes in the middle of the body": (Fault("close_in_body"), "connection"),
    "stores and answers nothing": (Fault("store_and_close"), "connection"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_every_line_arrives_once_though_loki(name: str, tmp_path: Path) -> None:
    fault, reason = FAULTS[name]
    job, log = new_job(), Log(tmp_path / "app.json")
    log.write(3000)
    with loki() as double:
        double.next_faults = [fault] * 2
        with shipper(tmp_path, config(double, [following(log.path, job)])) as program:
            until(lambda: len(double.requests) >= 2, what="pushes that fail")
            log.write(2000)
            await_lines(double, job, log.lines)
            await_empty_spool(program)
            until(lambda: total(program, "deckwatch_log_lines_sent_total") == 5000, what="the count")
            assert total(program, "deckwatch_log_push_failures_total", f'reason="{reason}"') >= 1
            assert total(program, "deckwatch_log_lines_dropped_total") == 0
            assert figures(program)['deckwatch_log_shipping{destination="127.0.0.1"}'] == 1
            # Entries stored without a response are sent again, identical to the byte, so Loki stores them once.
            assert (double.sent_again > 0) == (fault.kind in ("store_and_close", "slow"))
        await_lines(double, job, log.lines)
        assert not +double.discarded


def test_retry_after_is_honored(tmp_path: Path) -> None:
    job, log = new_job(), Log(tmp_path / "app.json")
    log.write(10)
    with loki() as double:
        double.next_faults = [Fault("status", 429, "slow down", retry_after="2")]
        with shipper(tmp_path, config(double, [following(log.path, job)])):
            await_lines(double, job, log.lines)
        first, second = double.requests[:2]
        assert second.at - first.at >= 1.95


def test_lines_written_while_loki_is_down_arrive_when_it_is_up(tmp_path: Path) -> None:
    port, job, log = free_port(), new_job(), Log(tmp_path / "app.json")
    log.write(1000)
    with shipper(tmp_path, config(f"http://127.0.0.1:{port}", [following(log.path, job)])) as program:
        until(lambda: total(program, "deckwatch_log_push_failures_total") >= 3, what="pushes that fail")
        for _ in range(10):
            log.write(1000)
            time.sleep(0.1)
        assert figures(program)['deckwatch_log_shipping{destination="127.0.0.1"}'] == 0
        assert figures(program)["deckwatch_log_spool_oldest_timestamp_seconds"] == pytest.approx(
            log.numbered.begin / 1e9, abs=2
        )
        with loki(port=port) as double:
            await_lines(double, job, log.lines)
            await_empty_spool(program)
            until(lambda: "deckwatch_log_spool_oldest_timestamp_seconds" not in figures(program), what="no oldest line")
        with loki(port=port) as double:  # it is stopped and restarted without its data
            log.write(500)
            await_lines(double, job, log.lines[-500:])
    events = [record.get("event") for record in log_records(program)]
    assert events.count("loki.failing") == events.count("loki.recovered")
    assert events.count("loki.failing") in (1, 2)  # state changes are logged, not each failure


def test_a_destination_that_is_down_does_not_delay_the_other(tmp_path: Path) -> None:
    port, job, log = free_port(), new_job(), Log(tmp_path / "app.json")
    log.write(2000)
    with loki() as first:
        destinations: list[dict[str, Any]] = [
            {"name": "first", "url": first.url},
            {"name": "second", "url": f"http://127.0.0.1:{port}", "labels": {"copy": "yes"}},
        ]
        with shipper(tmp_path, config(destinations, [following(log.path, job)])) as program:
            await_lines(first, job, log.lines)
            log.write(1000)
            await_lines(first, job, log.lines)
            assert figures(program)["deckwatch_log_spool_bytes"] > 0
            with loki(port=port) as second:
                await_lines(second, job, log.lines)
                await_empty_spool(program)
                for name in ("first", "second"):
                    until(
                        lambda name=name: total(program, "deckwatch_log_lines_sent_total", name) == 3000,  # type: ignore[misc]
                        what="the count",
                    )
                assert all(("copy", "yes") in labels for labels in second.stored)
                assert first.sent_again == 0
        assert len(stored(first, job)) == 3000


def test_entries_that_loki_rejects_are_quarantined_and_all_others_arrive(tmp_path: Path) -> None:
    job, good = new_job(), Log(tmp_path / "app.json")
    week = 7 * 24 * 3600 * 10**9
    old = Log(tmp_path / "app.json", "old", begin=time.time_ns() - 2 * week)
    good.write(100)
    old.write(9)
    good.write(100)
    with loki() as double, shipper(tmp_path, config(double, [following(good.path, job)])) as program:
        await_lines(double, job, good.lines)
        reason = 'reason="greater_than_max_sample_age"'
        until(lambda: total(program, "deckwatch_log_lines_dropped_total", reason) == 9, what="the count")
        assert total(program, "deckwatch_log_lines_sent_total") == 200
    set_aside = [entry["line"] for entry in quarantined(tmp_path / "state" / "logs")]
    assert set_aside == old.lines


@pytest.mark.parametrize("kind", ["bearer_token_file", "password_file"])
def test_a_credential_that_is_replaced_in_its_file_is_used_without_a_reload(kind: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("old-secret\n")
    job, log = new_job(), Log(tmp_path / "app.log")
    rotated: dict[str, Any] = (
        {"bearer": "new-secret"} if kind == "bearer_token_file" else {"basic": ("deckwatch", "new-secret")}
    )
    with loki(**rotated) as double:
        destination = {"url": double.url, kind: "secret"}
        if kind == "password_file":
            destination["username"] = "deckwatch"
        with shipper(tmp_path, config([destination], [following(log.path, job)])) as program:
            log.write(10)
            await_record(program, "unauthorized")
            secret.write_text("new-secret\n")
            await_lines(double, job, log.lines)
            await_record(program, "succeed again")
            assert "new-secret" not in program.printed
