"""Rotation step by step: each line is read once, and the old file's lines come first."""

from __future__ import annotations

import gzip
import os
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from agent.logs.tailing import Reader
from deckwatch.logs.entry import Position
from deckwatch.logs.tailing import path_tracker
from deckwatch.logs.tailing.fingerprint import identity_of, identity_of_empty
from deckwatch.logs.tailing.rotated_names import RotatedFile, find_rotated_files

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, text: str) -> None:
    with open(path, "a") as file:
        file.write(text)


def test_a_file_is_read_from_its_beginning_and_followed(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(log, "a\nb\n")
    reader = Reader(log)
    assert reader.poll() == [b"a", b"b"]
    write(log, "c\nhal")
    assert reader.poll() == [b"c"]
    assert reader.poll() == []
    write(log, "f\n")
    assert reader.poll() == [b"half"]


def test_a_renamed_file_is_read_to_its_end_before_the_new_one(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(log, "a\n")
    reader = Reader(log)
    reader.poll()
    write(log, "b\n")
    log.rename(tmp_path / "app.log.1")
    write(log, "d\n")
    assert reader.poll() == [b"b"]
    write(tmp_path / "app.log.1", "c\nc2")  # by a writer that has not reopened the file yet
    assert reader.poll() == [b"c"]
    reader.poll_for(4)
    assert reader.lines == [b"a", b"b", b"c", b"c2", b"d"]
    assert {path for path, _ in reader.kept} == {str(log)}


def test_late_writes_to_a_renamed_file_are_read(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(log, "a\n")
    reader = Reader(log)
    reader.poll()
    log.rename(tmp_path / "app.log.1")
    write(log, "b\n")
    reader.poll_for(5)
    write(tmp_path / "app.log.1", "late\n")
    reader.poll_for(20)
    assert reader.lines == [b"a", b"b", b"late"]


def test_late_writes_are_read_even_after_another_rotation(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(log, "a\n")
    reader = Reader(log)
    reader.poll()
    log.rename(tmp_path / "app.log.1")
    write(log, "b\n")
    reader.poll_for(5)
    write(tmp_path / "app.log.1", "late\n")
    (tmp_path / "app.log.1").rename(tmp_path / "app.log.2")
    log.rename(tmp_path / "app.log.1")
    write(log, "c\n")
    reader.poll_for(20)
    assert sorted(reader.lines) == [b"a", b"b", b"c", b"late"]


def test_a_writer_that_keeps_the_old_file_open_does_not_delay_the_new_one(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(log, "0\n")
    reader = Reader(log)
    reader.poll()
    log.rename(tmp_path / "app.log.1")
    write(log, "new\n")
    for number in range(30):
        write(tmp_path / "app.log.1", f"{number}\n")
        reader.poll(1.0)
    assert b"new" in reader.lines
    assert len(reader.lines) == 32


def test_a_deleted_file_is_read_to_its_end(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(log, "a\n")
    reader = Reader(log)
    reader.poll()
    write(log, "b\nc")
    log.unlink()
    assert reader.poll() == [b"b"]
    reader.poll_for(15)
    assert reader.lines == [b"a", b"b", b"c"]
    assert reader.tail.positions() == {}
    write(log, "d\n")
    assert reader.poll() == [b"d"]


def test_a_truncated_file_is_read_from_its_beginning(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(log, "a long line\nb\n")
    reader = Reader(log)
    reader.poll()
    log.write_text("c\n")
    reader.poll_for(1)
    assert reader.lines == [b"a long line", b"b", b"c"]


def test_truncation_is_detected_if_the_file_is_longer_than_before(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(log, "a\n")
    reader = Reader(log)
    reader.poll()
    log.write_text("other\nlines\n")
    reader.poll_for(1)
    assert reader.lines == [b"a", b"other", b"lines"]


def test_truncation_is_detected_if_the_file_has_the_same_size(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(log, "a\n")
    reader = Reader(log)
    reader.poll()
    log.write_text("b\n")
    os.utime(log, ns=(1, 1))
    reader.poll_for(1)
    assert reader.lines == [b"a", b"b"]


def test_the_rest_of_a_truncated_file_is_read_from_its_copy(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(log, "a\n")
    reader = Reader(log)
    reader.poll()
    write(log, "b\n")
    shutil.copyfile(log, tmp_path / "app.log.1")
    os.truncate(log, 0)
    write(log, "c\n")
    reader.poll_for(3)
    assert reader.lines == [b"a", b"b", b"c"]


def test_a_truncation_while_the_agent_is_stopped_is_detected(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(log, "a\n")
    reader = Reader(log)
    reader.poll()
    for number in range(3):
        write(log, f"b{number}\n")
        for old in (2, 1):
            if (tmp_path / f"app.log.{old}").exists():
                (tmp_path / f"app.log.{old}").rename(tmp_path / f"app.log.{old + 1}")
        shutil.copyfile(log, tmp_path / "app.log.1")
        os.utime(tmp_path / "app.log.1")
        os.truncate(log, 0)
    write(log, "c\n")
    reader.restart()
    reader.poll_for(3)
    assert reader.lines == [b"a", b"b0", b"b1", b"b2", b"c"]
    reader.restart()
    reader.poll_for(3)
    assert len(reader.lines) == 5


def test_rotations_while_the_agent_is_stopped_are_read_oldest_first(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(tmp_path / "app.log.9", "before its time\n")
    os.utime(tmp_path / "app.log.9", (1, 1))
    write(log, "a\n")
    reader = Reader(log)
    reader.poll()
    write(log, "b\n")
    os.utime(log, (100, 100))
    log.rename(tmp_path / "app.log.3")
    for number in (2, 1):
        write(tmp_path / f"app.log.{number}", f"c{number}\n")
        os.utime(tmp_path / f"app.log.{number}", (200 - number, 200 - number))
    write(log, "d\n")
    reader.restart()
    reader.poll_for(1)
    assert reader.lines == [b"a", b"b", b"c2", b"c1", b"d"]
    reader.restart()
    reader.poll_for(30)
    assert len(reader.lines) == 5


def test_files_with_dated_names_are_recognized_as_rotated(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(log, "a\n")
    reader = Reader(log)
    reader.poll()
    write(log, "b\n")
    log.rename(tmp_path / "app-20260302.log")
    write(tmp_path / "app.2026-03-03.log", "c\n")
    write(log, "d\n")
    reader.restart()
    reader.poll_for(3)
    assert reader.lines == [b"a", b"b", b"c", b"d"]


def test_rotated_files_of_a_new_path_are_not_read(tmp_path: Path) -> None:
    write(tmp_path / "app.log.1", "old\n")
    write(tmp_path / "app.log", "a\n")
    reader = Reader(tmp_path / "app.log")
    reader.poll_for(3)
    assert reader.lines == [b"a"]


def test_a_pattern_that_matches_the_rotated_names_reads_nothing_twice(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(tmp_path / "app.log.1", "0\n")
    write(log, "1\n")
    reader = Reader(tmp_path / "app.log*")
    reader.poll()
    for number in range(2, 6):
        for old in range(number, 0, -1):
            if (tmp_path / f"app.log.{old}").exists():
                (tmp_path / f"app.log.{old}").rename(tmp_path / f"app.log.{old + 1}")
        log.rename(tmp_path / "app.log.1")
        write(log, f"{number}\n")
        if number == 4:
            reader.restart()
        reader.poll_for(4)
    reader.restart()
    reader.poll_for(30)
    assert sorted(reader.lines) == [b"0", b"1", b"2", b"3", b"4", b"5"]


def test_a_copy_that_the_pattern_matches_is_not_read_before_its_original_is_truncated(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(log, "a\n")
    reader = Reader(tmp_path / "app.log*")
    reader.poll()
    write(log, "b\n")
    shutil.copyfile(log, tmp_path / "app.log.1")
    reader.poll_for(12)
    os.truncate(log, 0)
    write(log, "c\n")
    reader.poll_for(12)
    reader.restart()
    reader.poll_for(12)
    assert reader.lines == [b"a", b"b", b"c"]


def test_compressed_files_are_skipped_by_name_and_by_content(tmp_path: Path) -> None:
    (tmp_path / "a.log.gz").write_bytes(b"text\n")
    (tmp_path / "b.log").write_bytes(gzip.compress(b"text\n" * 100))
    write(tmp_path / "c.log", "c\n")
    reader = Reader(tmp_path / "*")
    reader.poll_for(3)
    assert reader.lines == [b"c"]
    assert reader.problems == []


def test_a_file_with_a_reused_inode_number_is_a_different_file(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(log, "a\n")
    reader = Reader(log)
    reader.poll()
    log.rename(tmp_path / "old")
    write(log, "other\n")
    # The file system decides which inode numbers are reused, so set the position's inode to this one.
    ((key, position),) = reader.positions.items()
    reader.positions = {key: position._replace(identity=position.identity._replace(inode=log.stat().st_ino))}
    reader.restart()
    reader.poll_for(3)
    assert reader.lines == [b"a", b"other"]


def test_a_file_renamed_without_a_successor_is_still_followed(tmp_path: Path) -> None:
    write(tmp_path / "a.log", "a\n")
    reader = Reader(tmp_path / "*.log")
    reader.poll()
    (tmp_path / "a.log").rename(tmp_path / "b.log")
    write(tmp_path / "b.log", "b\n")
    reader.poll_for(20)
    write(tmp_path / "b.log", "c\n")
    reader.poll_for(3)
    assert reader.lines == [b"a", b"b", b"c"]


def test_only_uncommitted_lines_are_read_again(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(log, "a\nb\nc\n")
    reader = Reader(log)
    reader.clock.now += 1
    reader.tail.poll()
    (file,) = reader.tail.ready()
    assert reader.tail.read(file).lines == [b"a", b"b", b"c"]
    assert list(reader.tail.lag()) == [(str(log), 6)]
    reader.tail.commit(file, 2)
    assert reader.poll() == []
    assert list(reader.tail.lag()) == [(str(log), 4)]
    reader.positions = reader.tail.positions()
    reader.restart()
    assert reader.poll() == [b"b", b"c"]


def test_a_kubelet_link_is_followed_through_rotation_of_its_target(tmp_path: Path) -> None:
    pod, links = tmp_path / "pod", tmp_path / "containers"
    pod.mkdir()
    links.mkdir()
    (links / "web.log").symlink_to(pod / "0.log")
    write(pod / "0.log", "a\n")
    reader = Reader(links / "*.log")
    reader.poll()
    write(pod / "0.log", "b\n")
    (pod / "0.log").rename(pod / "0.log.20260302-101010")
    write(pod / "0.log", "c\n")
    reader.restart()
    reader.poll_for(4)
    assert reader.kept == [(str(links / "web.log"), line) for line in (b"a", b"b", b"c")]


def test_a_file_that_was_found_but_not_opened_before_a_restart_is_read_although_later_ones_are_known(
    tmp_path: Path,
) -> None:
    log = tmp_path / "app.log"
    write(log, "a\n")
    reader = Reader(log)
    reader.poll()
    for line in ("b\n", "c\n", "d\n"):
        time.sleep(0.01)  # the clock of file times has ticks of 4 ms
        for number in (3, 2, 1):
            if (older := tmp_path / f"app.log.{number}").exists():
                older.rename(tmp_path / f"app.log.{number + 1}")
        log.rename(tmp_path / "app.log.1")
        write(log, line)
    # As a kill leaves it: of these, one was renamed at the moment when it was found, and could not be opened.
    unopened, opened = (tmp_path / f"app.log.{number}" for number in (2, 1))
    status = opened.stat()
    reader.positions["unopened"] = Position(str(log), identity_of_empty(unopened.stat()), 0)
    reader.positions["opened"] = Position(str(log), identity_of(status.st_dev, status.st_ino, opened.read_bytes()), 0)
    reader.restart()
    reader.poll_for(30)
    assert sorted(reader.lines) == [b"a", b"b", b"c", b"d"]


def test_two_rotations_between_a_look_at_the_path_and_at_its_folder_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "app.log"
    write(log, "a\n")
    reader = Reader(log)
    reader.poll()
    rotations = ["c\n", "d\n"]

    def rotate(line: str) -> None:
        time.sleep(0.01)  # the clock of file times has ticks of 4 ms
        for number in (3, 2, 1):
            if (older := tmp_path / f"app.log.{number}").exists():
                older.rename(tmp_path / f"app.log.{number + 1}")
        log.rename(tmp_path / "app.log.1")
        write(log, line)

    def find(path: str) -> list[RotatedFile]:
        while rotations:
            rotate(rotations.pop(0))
        return find_rotated_files(path)

    monkeypatch.setattr(path_tracker, "find_rotated_files", find)
    rotate("b\n")
    reader.poll_for(30)
    assert reader.lines == [b"a", b"b", b"c", b"d"]
