"""Without free space: a full spool drops and counts lines or blocks, and a full disk pauses reading."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
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
    new_job,
    shipper,
    stored,
    total,
)
from loki import assert_exactly_once, loki, loki_under_test
from services import free_port, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services import Program


@pytest.mark.parametrize("when_full", ["drop_oldest", "drop_newest"])
def test_a_full_spool_drops_and_counts_each_line(when_full: str, tmp_path: Path) -> None:
    port, job, log = free_port(), new_job(), Log(tmp_path / "app.log")
    destination = {"url": f"http://127.0.0.1:{port}", "batch_bytes": "64KiB"}
    spool = {"max_bytes": "1MiB", "when_full": when_full}
    with shipper(tmp_path, config([destination], [following(log.path, job)], spool=spool)) as program:
        log.write(3000)
        # One batch is now in flight and counts as sent, even if its records are dropped from the spool.
        until(lambda: total(program, "deckwatch_log_push_failures_total") > 0, what="a push that fails")
        log.write(37_000)
        until(lambda: total(program, "deckwatch_log_lines_read_total") == log.written, what="reading")
        until(lambda: figures(program).get("deckwatch_log_spool_bytes", 0) > 500_000, what="a full spool")
        assert folder_size(tmp_path / "state/logs/spool") <= 1024 * 1024 + 4096
        with loki(port=port) as double:
            await_empty_spool(program)
            arrived = stored(double, job)
            until(lambda: sent(program) == len(arrived), what="the count")
            assert sent(program) + dropped(program) == log.written
            assert 3000 < len(arrived) < 20_000
            assert_each_at_most_once(arrived, log.lines)
            assert log.lines[-1 if when_full == "drop_oldest" else 0] in arrived
            before = log.written
            log.write(100)  # there is space again
            await_lines(double, job, arrived + log.numbered.lines(before, log.written))


def assert_each_at_most_once(arrived: list[str], written: list[str]) -> None:
    assert len(set(arrived)) == len(arrived)
    assert not set(arrived) - set(written)


def test_a_full_spool_that_blocks_drops_nothing(tmp_path: Path) -> None:
    port, job, log = free_port(), new_job(), Log(tmp_path / "app.log")
    spool = {"max_bytes": "400KiB", "when_full": "block"}
    text = config(f"http://127.0.0.1:{port}", [following(log.path, job)], spool=spool)
    log.write(10_000)  # before the start, so that how much fits into the spool does not depend on timing
    with shipper(tmp_path, text) as program:
        until(lambda: figures(program).get("deckwatch_log_spool_bytes", 0) > 200_000, what="a full spool")
        until(lambda: total(program, "deckwatch_log_lag_bytes") > 100_000, what="the lag")
    with shipper(tmp_path, text) as program, loki(port=port) as double:  # a stop does not wait indefinitely for space
        log.write(1000)
        await_lines(double, job, log.lines)
        await_empty_spool(program)
        assert dropped(program) == 0
    assert_exactly_once(log.lines, stored(double, job))


def sent(program: Program) -> float:
    return total(program, "deckwatch_log_lines_sent_total")


def dropped(program: Program) -> float:
    return total(program, "deckwatch_log_lines_dropped_total")


def folder_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    disk = folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("restarted", [False, True], ids=["running on", "restarted while it is full"])
def test_a_full_disk_pauses_reading_and_loses_no_line(restarted: bool, tmp_path: Path) -> None:
    job, log = new_job(), Log(tmp_path / "app.log")
    with small_disk(tmp_path) as disk, loki_under_test() as destination:
        (tmp_path / "state").symlink_to(disk)
        text = config(destination, [following(log.path, job)])
        with shipper(tmp_path, text) as program:
            log.write(100)
            await_lines(destination, job, log.lines)
            fill(disk / "full")
            log.write(20_000)
            await_record(program, "cannot write to the spool", "No space left")
            until(lambda: figures(program)["deckwatch_log_spool_write_failures_total"] > 0, what="the metric")
            log.write(5000)
            if not restarted:
                (disk / "full").unlink()
                await_lines(destination, job, log.lines)
        with shipper(tmp_path, text) as program:
            if restarted:
                await_record(program, "cannot write to the spool")
                (disk / "full").unlink()
            await_lines(destination, job, log.lines)
            log.write(100)
            await_lines(destination, job, log.lines)
            await_empty_spool(program)
            assert dropped(program) == 0


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 1024)
