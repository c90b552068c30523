"""Files beside a rotated one: which are its successors, and which are files of others."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

import pytest

from agent.logs.tailing import Reader

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


@pytest.mark.parametrize(
    "neighbor", ["app.access.log", "app-errors.log", "app.log.bak", "app.log.json", "app_worker.log"]
)
@pytest.mark.parametrize("is_restarted", [False, True], ids=["running", "restarted"])
def test_a_neighbor_with_a_similar_name_is_not_read_after_a_rotation(
    tmp_path: Path, neighbor: str, is_restarted: bool
) -> None:
    log = tmp_path / "app.log"
    write(log, "a\n")
    reader = Reader(log)
    reader.poll()
    write(tmp_path / neighbor, "of another\n")
    log.rename(tmp_path / "app.log.1")
    write(log, "b\n")
    write(tmp_path / neighbor, "of another\n")
    if is_restarted:
        reader.restart()
    reader.poll_for(20)
    assert reader.lines == [b"a", b"b"]


@pytest.mark.parametrize(
    "rotated",
    [
        "app.log.1",
        "app.log-20261125",
        "app.log-20261125-1700000000",
        "app-20261125.log",
        "app_1.log",
        "app.log.2026-11-25",
        "app.log.2026-11-25_10-30",
        "app.2026-11-25.log",
        "app.2026-11-25_10-30-00_123456.log",
        "app-2026-11-25T10-30-00.000.log",
        "app.log.old",
    ],
)
@pytest.mark.parametrize("pattern", ["app.log", "app*"])
def test_files_rotated_while_the_agent_is_stopped_are_read_once_under_every_usual_name(
    tmp_path: Path, rotated: str, pattern: str
) -> None:
    log = tmp_path / "app.log"
    write(log, "a\n")
    reader = Reader(tmp_path / pattern)
    reader.poll()
    reader.tail.close()
    log.rename(tmp_path / "app.log.9")
    (tmp_path / "app.log.9").unlink()
    time.sleep(0.01)  # the clock of file times has ticks of 4 ms
    write(log, "b\n")
    log.rename(tmp_path / rotated)
    write(log, "c\n")
    reader.restart()
    reader.poll_for(20)
    assert reader.lines == [b"a", b"b", b"c"]
    assert {path for path, _ in reader.kept} == {str(log)}


@pytest.mark.parametrize("exclude", ["app-2.log", "*-?.log", "{folder}/app-2.log"])
def test_an_excluded_file_is_not_taken_for_a_rotated_one(tmp_path: Path, exclude: str) -> None:
    log = tmp_path / "app.log"
    write(log, "a\n")
    reader = Reader(log, [exclude.format(folder=tmp_path)])
    reader.poll()
    log.rename(tmp_path / "app.log.1")
    write(log, "b\n")
    write(tmp_path / "app-2.log", "excluded\n")
    reader.poll_for(20)
    assert reader.lines == [b"a", b"b"]


def test_a_file_of_another_rule_is_not_taken_for_a_rotated_one(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(log, "a\n")
    reader = Reader(log, other_rules=[str(tmp_path / "app-*.log")])
    reader.poll()
    log.rename(tmp_path / "app.log.1")
    write(log, "b\n")
    write(tmp_path / "app-2.log", "of another rule\n")
    reader.poll_for(20)
    assert reader.lines == [b"a", b"b"]


def test_a_file_that_is_renamed_to_an_excluded_name_is_read_to_its_end(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(log, "a\n")
    reader = Reader(log, ["*.1"])
    reader.poll()
    write(log, "b\n")
    reader.tail.close()
    log.rename(tmp_path / "app.log.1")
    write(log, "c\n")
    reader.restart()
    reader.poll_for(20)
    assert reader.lines == [b"a", b"b", b"c"]


BANNER = "# A banner that each file of this program begins with.\n" * 40


def test_live_files_with_the_same_beginning_are_both_read_as_soon_as_they_differ(tmp_path: Path) -> None:
    one, two = tmp_path / "worker.log", tmp_path / "worker-2.log"
    write(one, BANNER)
    reader = Reader(tmp_path / "*.log")
    reader.poll()
    write(two, BANNER)
    reader.poll_for(10)
    write(one, "of one\n")
    write(two, "of two\n")
    write(one, "of one\n")
    reader.poll_for(10)
    assert reader.kept.count((str(one), b"of one")) == 2
    assert reader.kept.count((str(two), b"of two")) == 1
    assert len(reader.kept) == 2 * 40 + 3


@pytest.mark.parametrize("same", [BANNER, "x\n"])
def test_live_files_with_the_same_content_are_both_read_when_they_keep_growing(tmp_path: Path, same: str) -> None:
    one, two = tmp_path / "worker.log", tmp_path / "worker-2.log"
    write(one, same)
    reader = Reader(tmp_path / "*.log")
    reader.poll()
    write(two, same)
    for _ in range(10):
        write(one, "tick\n")
        write(two, "tick\n")
        reader.poll_for(6)
    assert reader.kept.count((str(one), b"tick")) == 10
    assert reader.kept.count((str(two), b"tick")) == 10


def test_a_file_that_stays_equal_to_another_is_reported_once(tmp_path: Path) -> None:
    write(tmp_path / "worker.log", BANNER)
    reader = Reader(tmp_path / "*.log")
    reader.poll()
    write(tmp_path / "worker-2.log", BANNER)
    reader.poll_for(180)
    assert [path for path, _ in reader.problems] == [str(tmp_path / "worker-2.log")]
    write(tmp_path / "worker-2.log", "more\n")
    reader.poll_for(10)
    assert len(reader.problems) == 1
    assert len(reader.lines) == 2 * 40 + 1


@pytest.mark.parametrize("is_restarted", [False, True], ids=["running", "restarted"])
def test_rotated_files_with_the_same_beginning_are_all_read(tmp_path: Path, is_restarted: bool) -> None:
    log = tmp_path / "app.log"
    write(log, BANNER + "0\n")
    reader = Reader(log)
    reader.poll()
    for number in range(1, 5):
        for other in range(5, 0, -1):
            rotated = tmp_path / f"app.log.{other}"
            if rotated.exists():
                rotated.rename(tmp_path / f"app.log.{other + 1}")
        log.rename(tmp_path / "app.log.1")
        time.sleep(0.01)
        write(log, BANNER + f"{number}\n")
    if is_restarted:
        reader.restart()
    reader.poll_for(30)
    assert [line for line in reader.lines if not line.startswith(b"#")] == [b"0", b"1", b"2", b"3", b"4"]
    assert len(reader.lines) == 5 * 41


@pytest.mark.parametrize("is_restarted", [False, True], ids=["running", "restarted"])
def test_copies_with_the_same_beginning_are_told_apart_after_truncations(tmp_path: Path, is_restarted: bool) -> None:
    log = tmp_path / "app.log"
    write(log, BANNER + "a\n")
    reader = Reader(log)
    reader.poll()
    write(log, "b\n")
    shutil.copyfile(log, tmp_path / "app.log.1")
    log.write_text("")
    write(log, BANNER + "a longer line than before\n" * 20)
    if is_restarted:
        reader.restart()
    reader.poll_for(30)
    assert [line for line in reader.lines if not line.startswith(b"#")] == [b"a", b"b"] + [
        b"a longer line than before"
    ] * 20
    assert len(reader.lines) == 2 * 40 + 22
