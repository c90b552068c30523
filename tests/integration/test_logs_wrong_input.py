"""Files and spools that cannot be used are reported in one clear log message and affect no others."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    shipper,
    stored,
    total,
)
from loki import Double, assert_exactly_once, loki
from services import deckwatch_command, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def double() -> Iterator[Double]:
    with loki() as double:
        yield double


def link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target or path)


#: Invalid paths by kind, and their log messages.
WRONG: dict[str, tuple[Callable[[Path], Any], str]] = {
    "folder.log": (Path.mkdir, "is a directory, not a file"),
    "fifo.log": (os.mkfifo, "is a FIFO, not a file"),
    "device.log": (link_to("/dev/zero"), "is a device, not a file"),
    "itself.log": (link_to(""), "is a link that leads back to itself"),
    "nothing.log": (link_to("/nowhere/at/all"), "is a link to nothing"),
}


@pytest.mark.parametrize("by_name", [True, False], ids=["by their names", "by a pattern"])
def test_a_path_that_is_not_a_file_is_reported_once_and_others_are_followed(
    by_name: bool, double: Double, tmp_path: Path
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    for name, (make, _) in WRONG.items():
        make(folder / name)
    job, log = new_job(), Log(folder / "good.log")
    log.write(100)
    files = [following(folder / name, job) for name in ((*WRONG, "good.log") if by_name else ("*.log",))]
    with shipper(tmp_path, config(double, files)) as program:
        for name, (_, message) in WRONG.items():
            assert await_record(program, f"{folder / name}: {message}")["level"] == "WARNING"
        await_lines(double, job, log.lines)
        log.write(100)
        await_lines(double, job, log.lines)
        assert sum(str(folder) in record["message"] for record in log_records(program)) == len(WRONG)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_an_unreadable_file_is_reported_and_read_when_it_becomes_readable(double: Double, tmp_path: Path) -> None:
    job, log, good = new_job(), Log(tmp_path / "closed.log"), Log(tmp_path / "good.log")
    log.write(100)
    good.write(100)
    log.path.chmod(0)
    files = [following(log.path, job), following(good.path, job)]
    with shipper(tmp_path, config(double, files)) as program:
        await_record(program, f"{log.path}: cannot be read: Permission denied")
        await_lines(double, job, good.lines)
        log.path.chmod(0o600)
        await_lines(double, job, good.lines + log.lines)


def test_a_pattern_that_matches_nothing_is_reported_and_matches_later_files(double: Double, tmp_path: Path) -> None:
    job, log = new_job(), Log(tmp_path / "later" / "app.log")
    with shipper(tmp_path, config(double, [following(tmp_path / "later" / "*.log", job)])) as program:
        await_record(program, f"{tmp_path}/later/*.log: matches no file")
        log.write(100)
        await_lines(double, job, log.lines)


def test_a_loop_of_folders_is_walked_once(double: Double, tmp_path: Path) -> None:
    job, log = new_job(), Log(tmp_path / "logs" / "app.log")
    log.write(100)
    (tmp_path / "logs" / "loop").symlink_to(tmp_path / "logs")
    with shipper(tmp_path, config(double, [following(tmp_path / "logs" / "**" / "*.log", job)])) as program:
        await_lines(double, job, log.lines)
        await_empty_spool(program)
    assert_exactly_once(log.lines, stored(double, job))


def test_labels_beyond_lokis_limit_are_dropped_with_a_message(double: Double, tmp_path: Path) -> None:
    log = Log(tmp_path / "app.log")
    log.write(10)
    labels = {f"label_{number:02}": "x" for number in range(17)}
    with shipper(tmp_path, config(double, [{"path": str(log.path), "labels": labels}])) as program:
        until(lambda: len(double.stored_lines) == 10, what="the lines")
        assert await_record(program, str(log.path), "Loki takes 15 labels a stream: left out")["level"] == "WARNING"
        assert not +double.discarded


def test_entries_with_too_many_labels_including_the_destinations_are_quarantined(
    double: Double, tmp_path: Path
) -> None:
    job, log, good = new_job(), Log(tmp_path / "app.log"), Log(tmp_path / "good.log")
    log.write(10)
    good.write(10)
    labels = {f"label_{number:02}": "x" for number in range(13)}
    files = [following(good.path, job), {"path": str(log.path), "labels": labels}]
    text = config([{"url": double.url, "labels": {"env": "test", "host": "here"}}], files)
    with shipper(tmp_path, text) as program:
        await_lines(double, job, good.lines)
        await_record(program, "rejected log lines", "max_label_names_per_series", "quarantine.jsonl")
        reason = 'reason="max_label_names_per_series"'
        until(lambda: total(program, "deckwatch_log_lines_dropped_total", reason) == 10, what="the count")


def test_a_label_value_that_is_too_long_is_truncated_to_lokis_limit(double: Double, tmp_path: Path) -> None:
    job, log = new_job(), Log(tmp_path / "app.log")
    log.write(10)
    with shipper(tmp_path, config(double, [{"path": str(log.path), "labels": {"job": job, "long": "ä" * 3000}}])):
        await_lines(double, job, log.lines)
        assert {dict(labels)["long"] for labels in double.stored} == {"ä" * 1024}


@pytest.mark.parametrize("kind", ["with a file in its place", "of another version"])
def test_an_unusable_spool_is_reported_and_used_when_it_is_fixed(kind: str, double: Double, tmp_path: Path) -> None:
    job, log = new_job(), Log(tmp_path / "app.log")
    log.write(100)
    wrong, said = tmp_path / "spool", "a file has that name"
    if kind == "of another version":
        wrong.mkdir()
        wrong, said = wrong / "0001700000000000.log", "was written by another version of Deckwatch"
    wrong.write_bytes(b"DWSPOOL9 of the future\n" * 3)
    content = wrong.read_bytes()
    text = config(double, [following(log.path, job)], spool={"dir": str(tmp_path / "spool")})
    with shipper(tmp_path, text) as program:
        record = await_record(program, "log reading is paused because the spool cannot be used", str(wrong), said)
        assert record["level"] == "ERROR"
        until(lambda: figures(program).get(SUCCESS) == 0, what="the metric")
        assert wrong.read_bytes() == content  # it is rejected, not overwritten
        wrong.unlink()
        await_lines(double, job, log.lines)
        await_record(program, "log reading has resumed")
        until(lambda: figures(program).get(SUCCESS) == 1, what="the metric")
        assert sum(it.get("event") == "logs.failing" for it in log_records(program)) == 1


SUCCESS = 'deckwatch_collector_success{collector="deckwatch.logs"}'


def test_a_spool_in_use_by_another_agent_is_used_after_that_agent_ends(double: Double, tmp_path: Path) -> None:
    job, log, other = new_job(), Log(tmp_path / "app.log"), tmp_path / "other"
    log.write(100)
    other.mkdir()
    spool = {"dir": str(tmp_path / "spool")}
    with shipper(other, config(double, [], spool=spool)) as first:
        until((tmp_path / "spool" / "lock").exists, what="its lock")
        with shipper(tmp_path, config(double, [following(log.path, job)], spool=spool)) as second:
            await_record(second, "is in use by another agent", str(first.process.pid))
            first.process.terminate()
            await_lines(double, job, log.lines)


def test_a_missing_state_folder_is_created(double: Double, tmp_path: Path) -> None:
    job, log = new_job(), Log(tmp_path / "app.log")
    log.write(100)
    text = config(double, [following(log.path, job)], spool={"dir": str(tmp_path / "elsewhere" / "spool")})
    assert not (tmp_path / "state").exists()
    with shipper(tmp_path, text) as program:
        await_lines(double, job, log.lines)
        positions = tmp_path / "state" / "logs" / "positions.json"
        until(positions.exists, what="the positions")
        assert figures(program)["deckwatch_log_spool_write_failures_total"] == 0
    assert (tmp_path / "elsewhere" / "spool").is_dir()
    assert (tmp_path / "state" / "logs").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("rule", "destination", "is_accepted"),
    [
        ({"filename_label": False}, {}, False),
        ({"filename_label": False, "labels": {"job": ""}}, {"labels": {"env": ""}}, False),
        ({"filename_label": False, "label_fields": {"level": "level"}}, {}, False),
        ({"filename_label": False, "labels": {"job": "a"}}, {}, True),
        ({"filename_label": False}, {"labels": {"env": "prod"}}, True),
        ({}, {}, True),
    ],
)
def test_a_rule_without_a_fixed_label_is_refused(
    rule: dict[str, Any], destination: dict[str, Any], is_accepted: bool, tmp_path: Path
) -> None:
    file = tmp_path / "deckwatch.yml"
    text = {"logs": {"loki": {"url": "http://127.0.0.1:9", **destination}, "files": [{"path": "/a.log", **rule}]}}
    file.write_text(json.dumps(text))
    printed = subprocess.run([*deckwatch_command(), "check", "--config", str(file)], capture_output=True, text=True)
    assert ("a fixed label for /a.log" in printed.stdout + printed.stderr) is not is_accepted
    assert is_accepted or printed.returncode == 2
