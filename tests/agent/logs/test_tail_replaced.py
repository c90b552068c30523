"""A file that is replaced by a copy of itself with more lines, as rsync and editors do, is not sent again."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from agent.logs.tailing import Reader

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def replace(log: Path, more: str) -> None:
    copy = log.with_name(".t")
    shutil.copyfile(log, copy)
    write(copy, more)
    copy.rename(log)


LONG = "".join(f"line {number}\n" for number in range(500))


@pytest.mark.parametrize("content", ["a\n", LONG], ids=["short", "long"])
@pytest.mark.parametrize("pattern", ["app.log", "*.log"])
@pytest.mark.parametrize("way", ["running", "restarted", "closed"])
def test_only_the_new_lines_of_a_replaced_file_are_read(tmp_path: Path, content: str, pattern: str, way: str) -> None:
    log = tmp_path / "app.log"
    write(log, content)
    reader = Reader(tmp_path / pattern)
    reader.poll()
    for number in range(3):
        if way == "restarted":
            reader.tail.close()
        if way == "closed":
            for file in reader.tail.files():
                file.close()
        write(log, f"before {number}\n")
        replace(log, f"new {number}\n")
        if way == "restarted":
            reader.restart()
        reader.poll_for(15)
    expected = content.encode().splitlines()
    for number in range(3):
        expected += [b"before %d" % number, b"new %d" % number]
    assert reader.lines == expected


def test_a_replacement_with_other_content_is_read_from_its_beginning(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(log, LONG)
    reader = Reader(log)
    reader.poll()
    (tmp_path / ".t").write_text(LONG.replace("line 499", "LINE 499") + "new\n")
    (tmp_path / ".t").rename(log)
    reader.poll_for(15)
    assert len(reader.lines) == 500 + 501


def test_a_replacement_that_lacks_unread_lines_loses_none(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(log, LONG)
    reader = Reader(log)
    reader.poll()
    shutil.copyfile(log, tmp_path / ".t")
    write(tmp_path / ".t", "new\n")
    write(log, "written after the copy\n")
    (tmp_path / ".t").rename(log)
    reader.poll_for(15)
    assert b"new" in reader.lines
    assert b"written after the copy" in reader.lines


def test_a_new_file_that_begins_as_the_renamed_one_is_read_completely(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(log, LONG)
    reader = Reader(log)
    reader.poll()
    log.rename(tmp_path / "app.log.1")
    write(log, LONG + "more\n")
    reader.poll_for(15)
    assert len(reader.lines) == 500 + 501
