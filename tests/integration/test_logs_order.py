"""Timestamps that go back, repeat or are a day old: every line arrives exactly once."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from log_shipping import Log, await_empty_spool, await_lines, config, following, new_job, shipper, stored
from loki import Double, Loki, assert_exactly_once, loki_under_test
from services import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HOUR = 3600 * 10**9


@pytest.fixture
def destination() -> Iterator[Loki]:
    with loki_under_test() as destination:
        yield destination


def assert_nothing_refused(destination: Loki) -> None:
    if isinstance(destination, Double):
        assert not +destination.discarded


def test_a_backlog_of_a_day_is_sent_oldest_first_while_new_lines_are_written(destination: Loki, tmp_path: Path) -> None:
    job, now = new_job(), time.time_ns()
    day = 24 * _HOUR
    # Rotated files that each cover some hours, overlap, and are longer than one read.
    old = [
        Log(tmp_path / f"app-{turn}.log", begin=now - day + turn * 5 * _HOUR, step=6 * _HOUR // 5000)
        for turn in (3, 0, 2, 1)
    ]
    live = Log(tmp_path / "app.log", begin=now)
    for log in (live, *old):
        log.write(5000 if log is not live else 10)
        with log.path.open() as file:  # a line without a timestamp gets the time when it is read, which is the newest
            lines = [line for line in file if "timestamp" in line]
        log.path.write_text("".join(lines))
    expected = [line for log in (*old, live) for line in log.lines if "timestamp" in line]
    text = config(destination, [following(tmp_path / "app*.log", job, filename_label=False)])
    with shipper(tmp_path, text) as program:
        for _ in range(10):
            live.write(9)  # those with a timestamp
            live.written += 1
            time.sleep(0.1)
        expected += [line for line in live.lines[10:] if "timestamp" in line]
        await_lines(destination, job, expected)
        await_empty_spool(program)
    assert_exactly_once(expected, stored(destination, job))
    assert_nothing_refused(destination)
    if isinstance(destination, Double):
        times = [moment for entries in destination.stored.values() for moment, _, _ in entries]
        assert all(moment > newest - _HOUR for moment, newest in zip(times[1:], running_maximum(times), strict=False))


def running_maximum(times: list[int]) -> Iterator[int]:
    newest = 0
    for moment in times:
        newest = max(newest, moment)
        yield newest


def test_a_clock_set_back_by_minutes_loses_no_line(destination: Loki, tmp_path: Path) -> None:
    job, now = new_job(), time.time_ns()
    text = config(destination, [following(tmp_path / "app.log", job)])
    first = Log(tmp_path / "app.log", "before", begin=now)
    # The same times and further ones, from ten minutes earlier until after them.
    then = Log(tmp_path / "app.log", "then", begin=now - _HOUR // 6, step=_HOUR // 6 // 1000)
    with shipper(tmp_path, text):
        first.write(1000)
        await_lines(destination, job, first.lines)
        then.write(2000)
        await_lines(destination, job, first.lines + then.lines)
    with shipper(tmp_path, text) as program:
        first.write(500)
        await_lines(destination, job, first.lines + then.lines)
        await_empty_spool(program)
    assert_exactly_once(first.lines + then.lines, stored(destination, job))
    assert_nothing_refused(destination)


def test_with_a_clock_set_back_by_a_day_every_rejected_line_is_quarantined(tmp_path: Path) -> None:
    """Loki accepts none of them in that stream: they are quarantined, and all other lines arrive."""
    job, now = new_job(), time.time_ns()
    log, back = Log(tmp_path / "app.log", begin=now), Log(tmp_path / "app.log", "back", begin=now - 24 * _HOUR)
    with loki_under_test() as destination, shipper(tmp_path, config(destination, [following(log.path, job)])):
        log.write(100)
        await_lines(destination, job, log.lines)
        back.write(100)
        log.write(100)
        quarantine = tmp_path / "state/logs/quarantine.jsonl"
        until(
            lambda: quarantine.exists() and len(quarantine.read_text().splitlines()) == 90, what="90 quarantined lines"
        )
        rejected = [json.loads(line) for line in quarantine.read_text().splitlines()]
        assert {entry["reason"] for entry in rejected} == {"too_far_behind"}
        untimed = [line for line in back.lines if "timestamp" not in line]
        await_lines(destination, job, log.lines + untimed)
        assert_exactly_once(log.lines + back.lines, stored(destination, job) + [entry["line"] for entry in rejected])


@pytest.mark.parametrize("back", [False, True], ids=["forwards", "with the clock set back"])
def test_equal_lines_with_equal_times_are_all_stored_even_across_restarts(
    back: bool, destination: Loki, tmp_path: Path
) -> None:
    job, log = new_job(), tmp_path / "app.log"
    moment = datetime.now(UTC)
    line = json.dumps({"timestamp": moment.isoformat(), "level": "info", "message": "again"})
    later = json.dumps(
        {"timestamp": datetime.fromtimestamp(moment.timestamp() + 300, UTC).isoformat(), "level": "info"}
    )
    lines = [later] if back else []
    log.write_text("".join(f"{one}\n" for one in lines))
    for _ in range(2):
        # A kill leaves the last lines in the spool; an orderly stop ships them.
        with shipper(tmp_path, config(destination, [following(log, job)])) as program:
            for _ in range(2):
                with log.open("a") as file:
                    file.write(f"{line}\n" * 5)
                lines += [line] * 5
                await_lines(destination, job, lines)
            program.process.kill()
        with log.open("a") as file:
            file.write(f"{line}\n" * 2)
        lines += [line] * 2
        with shipper(tmp_path, config(destination, [following(log, job)])):
            await_lines(destination, job, lines)
