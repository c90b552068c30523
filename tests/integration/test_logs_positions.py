"""Saved positions: kept when a rule's pattern is edited, reported when they are damaged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from log_shipping import (
    Log,
    await_empty_spool,
    await_lines,
    await_record,
    config,
    following,
    new_job,
    reload,
    shipper,
    stored,
)
from loki import Double, loki
from services import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def double() -> Iterator[Double]:
    with loki() as double:
        yield double


@pytest.mark.parametrize(
    "after", ["{logs}/*.log", "{logs}/{{app,other}}.log", "{link}/app.log", "{logs}/../logs/app.log"]
)
@pytest.mark.parametrize("how", ["reload", "restart"])
def test_an_edited_pattern_reads_nothing_twice(after: str, how: str, double: Double, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "logs")
    job, log = new_job(), Log(tmp_path / "logs" / "app.log")
    log.write(100)
    edited = after.format(logs=tmp_path / "logs", link=tmp_path / "link")
    before, after = (config(double, [following(path, job)]) for path in (log.path, edited))
    with shipper(tmp_path, before) as program:
        await_lines(double, job, log.lines)
        if how == "reload":
            log.write(100)
            reload(program, tmp_path, after)
            log.write(100)
            await_lines(double, job, log.lines)
            reload(program, tmp_path, before, times=2)
            log.write(100)
            await_lines(double, job, log.lines)
    log.write(100)
    for text in (after, before, after):
        log.write(100)
        with shipper(tmp_path, text) as program:
            await_lines(double, job, log.lines)
            await_empty_spool(program)
    assert sorted(stored(double, job)) == sorted(log.lines)


def positions(folder: Path) -> Path:
    return folder / "state" / "logs" / "positions.json"


@pytest.mark.parametrize("content", [bytes(500), b"", b"{", b"[]", b'{"version": 1}'], ids=repr)
def test_damaged_positions_are_reported_and_kept(content: bytes, double: Double, tmp_path: Path) -> None:
    job, log = new_job(), Log(tmp_path / "app.log")
    log.write(10)
    text = config(double, [following(log.path, job)])
    with shipper(tmp_path, text) as program:
        await_lines(double, job, log.lines)
        await_empty_spool(program)
    positions(tmp_path).write_bytes(content)
    log.write(10)
    with shipper(tmp_path, text) as program:
        record = await_record(program, f"{positions(tmp_path)} cannot be read")
        assert record["level"] == "ERROR"
        until(lambda: set(log.lines) <= set(stored(double, job)), what="all lines")
    assert positions(tmp_path).with_suffix(".damaged").read_bytes() == content


def test_positions_of_a_newer_version_are_refused_and_not_changed(double: Double, tmp_path: Path) -> None:
    job, log = new_job(), Log(tmp_path / "app.log")
    log.write(10)
    text = config(double, [following(log.path, job)])
    with shipper(tmp_path, text):
        await_lines(double, job, log.lines)
    saved: dict[str, Any] = json.loads(positions(tmp_path).read_bytes())
    newer = json.dumps({**saved, "version": 2})
    positions(tmp_path).write_text(newer)
    log.write(10)
    with shipper(tmp_path, text) as program:
        await_record(program, "log reading is paused", "newer version of Deckwatch (format 2)")
        assert positions(tmp_path).read_text() == newer
        positions(tmp_path).write_text(json.dumps(saved))
        await_lines(double, job, log.lines)
