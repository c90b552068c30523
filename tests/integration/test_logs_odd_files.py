"""Files with odd names and contents, read by a running agent: each costs no other file a line."""

from __future__ import annotations

import os
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


def filenames(double: Double, job: str) -> dict[str, list[str]]:
    """The stored lines by the label `filename`."""
    return {
        dict(labels)["filename"]: [line for _, line, _ in entries]
        for labels, entries in double.stored.items()
        if dict(labels).get("job") == job
    }


@pytest.mark.parametrize("name", [b"caf\xe9.log", b"\xff\xfe.log", b"two\nlines.log", b'quote".log'])
def test_a_file_with_any_name_is_shipped_once_with_a_readable_label_and_stops_no_other(
    name: bytes, double: Double, tmp_path: Path
) -> None:
    folder = tmp_path / "logs"
    job, good = new_job(), Log(folder / "good.log")
    good.write(50)
    odd = os.path.join(os.fsencode(folder), name)
    shown = odd.decode("utf-8", "backslashreplace")
    rule = following(folder / "*.log", job, path_labels="/(?P<app>[^/]+)[.]log$")
    text = config(double, [rule])
    for run in range(3):
        with open(odd, "a") as file:
            file.write(f"line {run}\n")
        with shipper(tmp_path, text) as program:
            good.write(50)
            until_lines = good.lines + [f"line {one}" for one in range(run + 1)]
            await_lines(double, job, until_lines)
            await_empty_spool(program)
            assert "log reading is paused" not in program.printed
    assert filenames(double, job)[shown] == ["line 0", "line 1", "line 2"]


def test_a_problem_with_a_file_that_has_an_undecodable_name_is_reported(double: Double, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    job, good = new_job(), Log(folder / "good.log")
    good.write(10)
    (folder / os.fsdecode(b"caf\xe9.log")).mkdir()
    with shipper(tmp_path, config(double, [following(folder / "*.log", job)])) as program:
        await_record(program, f"{folder}/caf\\xe9.log: is a directory")
        await_lines(double, job, good.lines)
    assert stored(double, job) == good.lines


def test_a_line_that_a_truncation_left_after_nuls_keeps_its_level_and_time(double: Double, tmp_path: Path) -> None:
    job, log = new_job(), tmp_path / "app.log"
    line = '{"level": "error", "timestamp": "2026-11-21T12:00:00Z"}'
    with shipper(tmp_path, config(double, [following(log, job)])) as program, log.open("w") as writer:
        writer.write("x" * 3000 + "\n")
        writer.flush()
        until(lambda: len(stored(double, job)) == 1, what="the first line")
        os.truncate(log, 0)
        writer.write(line + "\n")
        writer.flush()
        until(lambda: len(stored(double, job)) == 2, what="the second line")
        assert figures(program)["deckwatch_log_nul_bytes_total"] == 3001
    (labels,) = [dict(labels) for labels, entries in double.stored.items() if entries[0][1] == line]
    assert labels["level"] == "error"


def test_a_last_line_without_a_newline_is_shipped_and_marked(double: Double, tmp_path: Path) -> None:
    job, log = new_job(), tmp_path / "app.log"
    log.write_text("first\nlast")
    with shipper(tmp_path, config(double, [following(log, job, format="raw")])):
        until(lambda: len(stored(double, job)) == 2, what="the last line")
    found = {line: metadata for entries in double.stored.values() for _, line, metadata in entries}
    assert {line: dict(metadata) for line, metadata in found.items()} == {
        "first": {},
        "last": {"deckwatch_partial": "true"},
    }


def test_utf_16_with_a_byte_order_mark_is_shipped_as_text_with_its_level(double: Double, tmp_path: Path) -> None:
    job, log = new_job(), tmp_path / "app.log"
    lines = [f'{{"level": "error", "password": "S3 {number}", "city": "Zürich"}}' for number in range(10)]
    log.write_bytes("\n".join(["\ufeff" + lines[0], *lines[1:], ""]).encode("utf-16-le"))
    rule = following(log, job, redact=[{"kind": "token"}])
    with shipper(tmp_path, config(double, [rule])):
        until(lambda: len(stored(double, job)) == 10, what="the lines")
    assert stored(double, job) == ['{"level": "error", "password": "***", "city": "Zürich"}'] * 10
    assert all(dict(labels)["level"] == "error" for labels in double.stored)


def test_a_container_line_that_is_split_within_a_character_is_joined(double: Double, tmp_path: Path) -> None:
    job, log = new_job(), tmp_path / "0.log"
    text = "aé€😀" * 5
    data = text.encode()
    with log.open("wb") as writer:
        for split in range(1, len(data)):
            for part, tag in ((data[:split], b"P"), (data[split:], b"F")):
                writer.write(b"2026-11-21T12:00:00Z stdout " + tag + b" " + part + b"\n")
        writer.write(b"2026-11-21T12:00:00Z stdout F \xff\n")
    with shipper(tmp_path, config(double, [following(log, job, format="cri")])):
        until(lambda: len(stored(double, job)) == len(data), what="the lines")
    assert stored(double, job) == [text] * (len(data) - 1) + ["\ufffd"]
