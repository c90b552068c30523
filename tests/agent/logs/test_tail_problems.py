"""Files that cannot be followed are reported once and do not affect the others."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.logs.tailing import Reader

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Run as the user `nobody`, because root can read every file."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def make_accessible(folder: Path) -> None:
    """Give other users access to pytest's folder, which is private by default."""
    while folder != Path(tempfile.gettempdir()):
        folder.chmod(0o755)
        folder = folder.parent


def test_a_path_that_is_not_a_file_is_reported_once_and_others_are_followed(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("a\n")
    (tmp_path / "folder.log").mkdir()
    os.mkfifo(tmp_path / "fifo.log")
    (tmp_path / "loop.log").symlink_to(tmp_path / "loop.log")
    (tmp_path / "nothing.log").symlink_to(tmp_path / "missing")
    (tmp_path / "null.log").symlink_to("/dev/null")
    reader = Reader(tmp_path / "*.log")
    reader.poll_for(30)
    assert reader.lines == [b"a"]
    assert {path.rpartition("/")[2]: message for path, message in reader.problems} == {
        "folder.log": "is a directory, not a file",
        "fifo.log": "is a FIFO, not a file",
        "loop.log": "is a link that leads back to itself",
        "nothing.log": "is a link to nothing",
        "null.log": "is a device, not a file",
    }
    assert len(reader.problems) == 5


def test_a_folder_named_without_wildcards_is_reported_once(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    reader = Reader(tmp_path / "app")
    reader.poll_for(60)
    assert [message for _, message in reader.problems] == ["is a directory, not a file"]


@pytest.mark.parametrize("pattern", ["*.log", "app.log", "missing/*.log", "*/app.log", "**/app.log"])
def test_a_pattern_that_matches_nothing_is_reported_once(tmp_path: Path, pattern: str) -> None:
    reader = Reader(tmp_path / pattern)
    reader.poll_for(30)
    assert reader.problems == [(f"{tmp_path}/{pattern}", "matches no file")]
    path = tmp_path / "missing" / "app.log" if "/" in pattern else tmp_path / "app.log"
    path.parent.mkdir(exist_ok=True)
    path.write_text("a\n")
    reader.poll_for(11)
    assert reader.lines == [b"a"]


def test_an_unreadable_file_is_reported_once_and_read_when_it_becomes_readable(tmp_path: Path) -> None:
    make_accessible(tmp_path)
    secret, plain = tmp_path / "secret.log", tmp_path / "plain.log"
    secret.write_text("s\n")
    secret.chmod(0)
    plain.write_text("p\n")
    reader = Reader(tmp_path / "*.log")
    with as_nobody():
        reader.poll_for(20)
        assert reader.problems == [(str(secret), "cannot be read: Permission denied")]
    assert reader.lines == [b"p"]
    secret.chmod(0o644)
    with as_nobody():
        reader.poll_for(10)
    assert reader.lines == [b"p", b"s"]


def test_a_folder_that_is_temporarily_inaccessible_loses_no_position(tmp_path: Path) -> None:
    make_accessible(tmp_path)
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "app.log").write_text("a\n")
    reader = Reader(logs / "app.log")
    reader.poll()
    logs.chmod(0)
    with as_nobody():
        reader.restart()
        reader.poll_for(20)
    assert reader.problems
    logs.chmod(0o755)
    with (logs / "app.log").open("a") as log:
        log.write("b\n")
    with as_nobody():
        reader.poll_for(20)
    assert reader.lines == [b"a", b"b"]


def test_many_files_are_followed_with_few_descriptors(tmp_path: Path) -> None:
    for number in range(1200):
        (tmp_path / f"{number}.log").write_text(f"{number}\n")
    reader = Reader(tmp_path / "*.log")
    reader.poll()
    assert len(reader.lines) == 1200
    assert len(os.listdir("/proc/self/fd")) < 600
    for number in range(1200):
        with (tmp_path / f"{number}.log").open("a") as log:
            log.write(f"more {number}\n")
    reader.poll_for(3)
    assert len(set(reader.lines)) == len(reader.lines) == 2400


def test_no_path_is_followed_twice(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("a\n")
    (tmp_path / "b.log").hardlink_to(tmp_path / "a.log")
    (tmp_path / "c.log").symlink_to(tmp_path / "a.log")
    reader = Reader(tmp_path / "*.log")
    reader.poll_for(12)
    reader.restart()
    reader.poll_for(12)
    assert reader.lines == [b"a"]


def test_positions_of_other_patterns_are_not_changed(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("a\n")
    (tmp_path / "b.txt").write_text("b\n")
    other = Reader(tmp_path / "*.txt")
    other.poll()
    reader = Reader(tmp_path / "*.log")
    reader.positions = other.positions
    reader.restart()
    reader.poll_for(3)
    assert reader.lines == [b"a"]
    assert len(reader.tail.positions()) == 1
