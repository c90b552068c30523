"""The agent's own log, reloads, and the metrics at the end."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pytest

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
    reload,
    shipper,
    stored,
    total,
)
from loki import Fault, assert_exactly_once, loki
from services import fetch, until

if TYPE_CHECKING:
    from pathlib import Path


def test_the_agents_own_log_is_shipped_except_messages_about_shipping(tmp_path: Path) -> None:
    with loki() as double:
        double.next_faults = [Fault("status", 500)] * 3
        text = config(double, [following(tmp_path / "none-*.log", "app")], own=True)
        with shipper(tmp_path, text) as program:
            await_record(program, "matches no file")
            await_record(program, "are failing")
            await_record(program, "succeed again")
            reload(program, tmp_path, text.replace('"250ms"', '"300ms"'), 1)
            text = config(double, [following(tmp_path / "none-*.log", "app")], own=True, own_labels={"job": "watch"})
            reload(program, tmp_path, text, 2)
            reload(program, tmp_path, text.replace('"own": true', '"own": false'), 3)
            own = [record for record in log_records(program) if not record["logger"].startswith("deckwatch.logs")]
            expected = [json.dumps(record) for record in own][:-1]  # the last record was logged after own: false

            def arrived() -> list[str]:
                return [json.dumps(json.loads(line)) for line in double.stored_lines]

            until(lambda: len(arrived()) >= len(expected), what="the own log")
            assert_exactly_once(expected, [line for line in arrived() if line in expected])
            assert not [line for line in arrived() if "deckwatch.logs" in line]
        labels = {(name, value) for stream in double.stored for name, value in stream if name != "level"}
        assert labels == {("job", "deckwatch"), ("instance", socket.gethostname()), ("job", "watch")}
        assert len(double.requests) < 30  # no push causes another push


def test_a_reload_loses_and_duplicates_nothing_and_no_counter_decreases(tmp_path: Path) -> None:
    first, second, third = (Log(tmp_path / f"{name}.log", name) for name in ("first", "second", "third"))
    logs = (first, second, third)
    jobs = [new_job() for _ in logs]
    follow = [following(log.path, job) for log, job in zip(logs, jobs, strict=True)]
    followed = [follow, follow[:2], follow[1:], follow, [], follow[::-1], follow]
    with loki() as double, shipper(tmp_path, config(double, follow)) as program:
        counters: dict[str, float] = {}
        for turn, files in enumerate(followed, 1):
            for log in logs:
                log.write(700)
            if turn % 2:
                double.next_faults = [Fault("store_and_close"), Fault("status", 500)]
            reload(program, tmp_path, config(double, files, poll_interval=f"{50 + turn}ms"), turn)
            now = {name: value for name, value in figures(program).items() if name.partition("{")[0].endswith("_total")}
            assert {name for name in counters if now.get(name, 0) < counters[name]} == set()
            counters = now
        for log, job in zip(logs, jobs, strict=True):
            await_lines(double, job, log.lines)
        await_empty_spool(program)
        until(lambda: total(program, "deckwatch_log_lines_sent_total") == 3 * first.written, what="the count")
        assert total(program, "deckwatch_log_lines_read_total") == 3 * first.written
        assert total(program, "deckwatch_log_lines_dropped_total") == 0
    for log, job in zip(logs, jobs, strict=True):
        assert_exactly_once(log.lines, stored(double, job))


def test_two_rules_with_the_same_pattern_have_separate_positions(tmp_path: Path) -> None:
    one, other, log = new_job(), new_job(), Log(tmp_path / "app.log")
    errors = following(log.path, other, keep=[{"field": "level", "matches": "^error$"}])
    with loki() as double:
        text = config(double, [following(log.path, one), errors])
        for _ in range(3):
            with shipper(tmp_path, text):
                log.write(500)
                with log.path.open("a") as file:
                    file.write(json.dumps({"level": "error", "at": log.written}) + "\n")
                until(lambda: len(stored(double, other)) == log.written // 500, what="the error")
        failed = [json.dumps({"level": "error", "at": at}) for at in (500, 1000, 1500)]
        await_lines(double, one, log.lines + failed)
        await_lines(double, other, failed)


def test_a_destination_added_or_renamed_by_a_reload_gets_all_missing_entries(tmp_path: Path) -> None:
    job, log = new_job(), Log(tmp_path / "app.log")
    files = [following(log.path, job)]
    with loki() as first, loki() as second, shipper(tmp_path, config(first, files)) as program:
        second.fault = Fault("status", 503)
        log.write(500)
        await_lines(first, job, log.lines)
        reload(program, tmp_path, config([{"url": first.url}, {"url": second.url}], files), 1)
        before = log.written
        log.write(500)
        await_lines(first, job, log.lines)
        # The remaining destination has no name. It must not be mistaken for the removed one, which had everything.
        reload(program, tmp_path, config(second, files), 2)
        second.fault = None
        until(lambda: set(log.lines[before:]) <= set(stored(second, job)), what="what it lacks")
        assert len(set(stored(second, job))) == len(stored(second, job))


def test_the_metrics_match_the_shipped_lines(tmp_path: Path) -> None:
    job = new_job()
    good, debug = Log(tmp_path / "app.log"), Log(tmp_path / "app.log", "debug", level="DEBUG")
    bad = Log(tmp_path / "app.log", "bad", level="ERROR")
    rules = {
        "drop": [{"field": "level", "matches": "^debug$"}],
        "redact": [{"kind": "email"}],
        "max_line_bytes": "1KiB",
    }
    with loki() as double:
        double.next_faults = [Fault("status", 500)]
        text = config(double, [following(good.path, job, **rules)])
        with shipper(tmp_path, text) as program:
            good.write(100)
            debug.write(30)
            bad.write(20)
            with good.path.open("a") as file:
                file.write("no JSON\n\n")
                file.write(json.dumps({"level": "info", "mail": "ann@example.com"}) + "\n")
                file.write(json.dumps({"level": "warning", "long": "x" * 5000}) + "\n")
            until(lambda: total(program, "deckwatch_log_lines_sent_total") == 123, what="the count")
            await_empty_spool(program)
            path = f'{{file="{good.path}"}}'
            until(lambda: figures(program).get(f"deckwatch_log_lag_bytes{path}") == 0, what="the lag")
            found = figures(program)
            for name in ("bytes_sent", "bytes_spooled"):
                assert (
                    sum(value for key, value in found.items() if key.startswith(f"deckwatch_log_{name}_total")) > 5000
                )
            expected = {
                "deckwatch_log_lines_read_total": 153,
                "deckwatch_log_lines_cut_total": 1,
                "deckwatch_log_lines_redacted_total": 1,
                'deckwatch_log_lines_dropped_total{reason="drop"}': 30,
                'deckwatch_log_lines_sent_total{destination="127.0.0.1"}': 123,
                'deckwatch_log_push_failures_total{destination="127.0.0.1",reason="server_error"}': 1,
                'deckwatch_log_shipping{destination="127.0.0.1"}': 1,
                "deckwatch_log_spool_bytes": 0,
                "deckwatch_log_spool_limit_bytes": 1024**3,
                "deckwatch_log_spool_write_failures_total": 0,
                "deckwatch_log_spool_damaged_total": 0,
                f'log_messages_total{{job="{job}",level="info"}}': 101,
                f'log_messages_total{{job="{job}",level="debug"}}': 30,
                f'log_messages_total{{job="{job}",level="error"}}': 20,
            }
            assert {name: found.get(name) for name in expected} == expected
            assert found["deckwatch_log_lines_unparsed_total"] == pytest.approx(
                2, abs=1
            )  # a truncated line is not valid JSON
            pushes = found['deckwatch_log_push_duration_seconds_count{destination="127.0.0.1"}']
            assert pushes == len(double.requests)
        assert "ann@example.com" not in "".join(double.stored_lines)


def test_metrics_are_served_while_loki_hangs(tmp_path: Path) -> None:
    log = Log(tmp_path / "app.log")
    log.write(5000)
    with loki() as double:
        double.fault = Fault("hang")
        with shipper(tmp_path, config(double, [following(log.path, new_job())])) as program:
            until(lambda: double.requests, what="a push")
            for _ in range(5):
                assert fetch(program.url + "/metrics")[0] == 200
            assert double.stored_lines == []  # it hangs for minutes
