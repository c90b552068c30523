"""Where reading begins: `start_at` and `ignore_older`."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from log_shipping import await_lines, config, following, new_job, shipper
from loki import Double, loki

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def double() -> Iterator[Double]:
    with loki() as running:
        yield running


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_start_at_end_skips_what_is_there_and_nothing_that_comes_later(double: Double, tmp_path: Path) -> None:
    job, first, second = new_job(), tmp_path / "app1.log", tmp_path / "app2.log"
    rules = [
        following(tmp_path / "app*.log", job, format="raw", start_at="end", filename_label=False),
        following(tmp_path / "last.log", new_job(), format="raw", filename_label=False),
    ]
    text = config(double, rules)
    first.write_text("old\n")
    (tmp_path / "last.log").write_text("1\n")
    with shipper(tmp_path, text):
        # The line of the last rule shows that all rules have looked for their files.
        await_lines(double, rules[1]["labels"]["job"], ["1"])
        second.write_text("new file\n")
        await_lines(double, job, ["new file"])
        append(first, "new line\n")
        await_lines(double, job, ["new file", "new line"])
    append(first, "while stopped\n")
    (tmp_path / "app3.log").write_text("new while stopped\n")
    with shipper(tmp_path, text):
        await_lines(double, job, ["new file", "new line", "while stopped", "new while stopped"])


def test_start_at_end_goes_on_in_a_file_that_was_not_written_to_before_a_restart(
    double: Double, tmp_path: Path
) -> None:
    job, log, other = new_job(), tmp_path / "a.log", tmp_path / "other.log"
    rules = [
        following(log, job, format="raw", start_at="end", filename_label=False),
        following(other, job, format="raw", filename_label=False),
    ]
    log.write_text("old\n" * 1000)
    with shipper(tmp_path, config(double, rules)):
        other.write_text("1\n")
        await_lines(double, job, ["1"])
    log.rename(tmp_path / "a.log.1")
    append(tmp_path / "a.log.1", "before the rotation\n")
    log.write_text("after the rotation\n")
    with shipper(tmp_path, config(double, rules)):
        await_lines(double, job, ["1", "before the rotation", "after the rotation"])


def test_ignore_older_skips_what_an_old_file_holds_and_reads_what_is_added(double: Double, tmp_path: Path) -> None:
    job, old, new = new_job(), tmp_path / "app1.log", tmp_path / "app2.log"
    old.write_text("old\n")
    yesterday = time.time() - 86400
    os.utime(old, (yesterday, yesterday))
    new.write_text("new\n")
    rule = following(tmp_path / "app*.log", job, format="raw", ignore_older="2h", filename_label=False)
    with shipper(tmp_path, config(double, [rule])):
        await_lines(double, job, ["new"])
        append(old, "added\n")
        await_lines(double, job, ["new", "added"])


def test_start_at_end_in_utf_16(double: Double, tmp_path: Path) -> None:
    job, log, other = new_job(), tmp_path / "a.log", tmp_path / "other.log"
    rules = [
        following(log, job, format="raw", encoding="utf-16", start_at="end", filename_label=False),
        following(other, job, format="raw", filename_label=False),
    ]
    log.write_bytes("old ਊ\n".encode("utf-16"))
    with shipper(tmp_path, config(double, rules)):
        other.write_text("1\n")
        await_lines(double, job, ["1"])
        with log.open("ab") as file:
            file.write("new Ā\n".encode("utf-16-le"))
        await_lines(double, job, ["1", "new Ā"])
