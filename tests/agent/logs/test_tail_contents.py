"""Contents that are not lines of text: NULs of truncated files, a last line without a newline, UTF-16."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from agent.logs.tailing import Reader

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("lines", [10, 100_000], ids=["small", "large"])
def test_lines_after_the_nuls_of_a_truncated_file_are_read_without_them(tmp_path: Path, lines: int) -> None:
    """As a shell's `>` writes: without O_APPEND, so that copytruncate leaves a hole."""
    log = tmp_path / "app.log"
    reader = Reader(log)
    expected = []
    with log.open("w") as writer:
        for run in range(4):
            for number in range(lines):
                writer.write(f"line {run} {number}\n")
            writer.flush()
            expected += [f"line {run} {number}".encode() for number in range(lines)]
            if run != 2:  # otherwise the rest is read from the copy
                reader.poll()
            shutil.copyfile(log, tmp_path / "app.log.1")
            os.truncate(log, 0)
            reader.poll_for(3)
        writer.write("last\n")
    reader.poll_for(5)
    assert reader.lines == [*expected, b"last"]


def test_a_restart_continues_after_the_nuls(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    with log.open("w") as writer:
        writer.write("a" * 5000 + "\n")
        writer.flush()
        os.truncate(log, 0)
        writer.write("b\n")
    reader = Reader(log)
    reader.poll()
    reader.restart()
    with log.open("a") as writer:
        writer.write("c\n")
    reader.poll_for(5)
    assert reader.lines == [b"b", b"c"]


def test_lines_written_into_allocated_space_are_read_as_they_come(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(bytes(600_000))
    reader = Reader(log)
    reader.poll()
    with log.open("r+b") as writer:
        for number in range(5):
            writer.write(b"line %d\n" % number)
            writer.flush()
            reader.poll()
            assert reader.lines[-1:] == [b"line %d" % number]
    assert len(reader.lines) == 5


def test_nuls_that_fill_more_than_one_read_are_skipped_up_to_the_next_line(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(b"a\n" + bytes(40_000_000) + b"b\n")
    reader = Reader(log)
    reader.poll_for(2)
    assert reader.lines == [b"a", b"b"]


def test_a_last_line_without_a_newline_is_read_when_nothing_follows(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_bytes(b"a\nlast")
    reader = Reader(log)
    reader.poll_for(4)
    assert reader.lines == [b"a"]
    reader.poll_for(4)
    assert reader.lines == [b"a", b"last"]
    reader.restart()
    reader.poll_for(20)
    with log.open("ab") as writer:
        writer.write(b" rest\nb\n")
    reader.poll()
    assert reader.lines == [b"a", b"last", b" rest", b"b"]


def test_a_line_that_is_written_slowly_stays_one_line(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    reader = Reader(log)
    for part in (b"a", b"b", b"c", b"\n"):
        with log.open("ab") as writer:
            writer.write(part)
        reader.poll_for(4)
    assert reader.lines == [b"abc"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_recognized_by_its_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    log = tmp_path / "app.log"
    log.write_bytes("\ufeffé\r\n\u0a0a\n".encode(encoding))
    reader = Reader(log)
    reader.poll()
    reader.restart()
    with log.open("ab") as writer:
        writer.write("c\n".encode(encoding))
    reader.poll()
    assert [line.decode("utf-16-le") for line in reader.lines] == ["\ufeffé\r", "\u0a0a", "c"]
    assert {file.encoding for file in reader.tail.files()} == {"utf-16"}
