"""Hanging mounts: one timeout for all of them, a bounded number of threads, and no delay for other mounts."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from deckwatch_exporters.system.filesystem import Filesystem, FilesystemSettings
from deckwatch_exporters.system.paths import Paths

from .support import by_series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ANSWER = os.statvfs_result((4096, 4096, 1000, 400, 300, 5000, 4000, 4000, 0, 255))
MOST_THREADS = 32


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """The event that hanging mounts wait for."""
    release = threading.Event()
    yield release
    release.set()


def _host(tree: Path, points: list[str]) -> Paths:
    (tree / "proc" / "1").mkdir(parents=True)
    lines = [f"{n} 1 0:{n} / {point} rw shared:1 - nfs4 nas:{point} rw" for n, point in enumerate(points, 30)]
    (tree / "proc" / "1" / "mountinfo").write_text("\n".join(lines) + "\n")
    return Paths(proc=str(tree / "proc"))


def _errors(collector: Filesystem) -> dict[str, float]:
    """device_error by mount point."""
    return {
        series.partition('mountpoint="')[2].partition('"')[0]: value
        for series, value in by_series(collector.collect()).items()
        if series.startswith("node_filesystem_device_error")
    }


def _collector(paths: Paths, timeout: str, statvfs: Callable[[str], os.statvfs_result]) -> Filesystem:
    return Filesystem(paths, FilesystemSettings.model_validate({"timeout": timeout}), statvfs)


POINTS = ["/dead1", "/alive1", "/dead2", "/dead3", "/alive2", "/dead4", "/alive3"]


def test_hanging_mounts_are_errors_and_the_others_are_not(tmp_path: Path, release: threading.Event) -> None:
    def statvfs(path: str) -> os.statvfs_result:
        if path.startswith("/dead"):
            release.wait(120)
        return ANSWER

    errors = _errors(_collector(_host(tmp_path, POINTS), "2s", statvfs))

    assert errors == {point: int(point.startswith("/dead")) for point in POINTS}


def test_many_hanging_mounts_share_one_timeout(tmp_path: Path) -> None:
    all_hang = threading.Barrier(4)  # none of them returns before all of them have been queried

    def statvfs(path: str) -> os.statvfs_result:
        if path.startswith("/dead"):
            all_hang.wait(60)
        return ANSWER

    assert set(_errors(_collector(_host(tmp_path, POINTS), "10s", statvfs)).values()) == {0}


def test_a_slow_mount_delays_no_other_and_is_not_an_error(tmp_path: Path) -> None:
    other_was_asked = threading.Event()

    def statvfs(path: str) -> os.statvfs_result:
        if path == "/slow":
            assert other_was_asked.wait(60)  # only another thread can query the other mount now
        else:
            other_was_asked.set()
        return ANSWER

    assert _errors(_collector(_host(tmp_path, ["/slow", "/other"]), "20s", statvfs)) == {"/slow": 0, "/other": 0}


def test_healthy_mounts_are_queried_once_each_by_one_thread(tmp_path: Path) -> None:
    asked: list[tuple[str, threading.Thread]] = []

    def statvfs(path: str) -> os.statvfs_result:
        asked.append((path, threading.current_thread()))
        return ANSWER

    points = [f"/mnt{number}" for number in range(50)]
    collector = _collector(_host(tmp_path, [*points, "/mnt7"]), "60s", statvfs)

    assert set(_errors(collector).values()) == {0}
    assert [path for path, _ in asked] == points
    assert len({thread for _, thread in asked}) == 1
    assert threading.current_thread() not in {thread for _, thread in asked}


def test_threads_are_bounded_and_the_first_mounts_are_still_queried(tmp_path: Path, release: threading.Event) -> None:
    hanging = []

    def statvfs(path: str) -> os.statvfs_result:
        if path.startswith("/dead"):
            hanging.append(path)
            release.wait(120)
        return ANSWER

    points = ["/", *(f"/dead{number}" for number in range(100))]
    collector = _collector(_host(tmp_path, points), "500ms", statvfs)

    for _ in range(8):
        errors = _errors(collector)
        assert errors["/"] == 0
        assert sum(errors.values()) == 100

    assert 1 < len(hanging) <= MOST_THREADS
    assert len(set(hanging)) == len(hanging), "a mount was asked again while it hung"


def test_a_run_does_not_wait_if_no_mount_can_be_queried(tmp_path: Path, release: threading.Event) -> None:
    def statvfs(_path: str) -> os.statvfs_result:
        release.wait(120)
        return ANSWER

    collector = _collector(_host(tmp_path, ["/dead"]), "100ms", statvfs)
    _errors(collector)

    collector._settings = FilesystemSettings.model_validate({"timeout": "1h"})  # how long waiting would take
    assert _errors(collector) == {"/dead": 1}


def test_a_mount_is_read_only_by_its_mount_or_super_block_options(tmp_path: Path) -> None:
    (tmp_path / "proc" / "1").mkdir(parents=True)
    (tmp_path / "proc" / "1" / "mountinfo").write_text(
        "30 1 8:1 / /a rw - ext4 /dev/a rw\n31 1 8:2 / /b ro - ext4 /dev/b rw\n"
        "32 1 8:3 / /c rw - ext4 /dev/c ro\n33 1 8:4 / /d rw - ext4 /dev/d rw,emergency_ro\n"
        "34 1 8:5 / /e rw - ext4 /dev/e rw,errors=remount-ro\n"
    )

    series = by_series(_collector(Paths(proc=str(tmp_path / "proc")), "60s", lambda _path: ANSWER).collect())

    readonly = [value for line, value in series.items() if line.startswith("node_filesystem_readonly")]
    assert readonly == [0, 1, 1, 1, 0]


def test_a_thread_is_only_needed_for_mounts_that_can_hang(tmp_path: Path) -> None:
    threads: dict[str, bool] = {}

    def statvfs(path: str) -> os.statvfs_result:
        threads[path] = threading.current_thread() is not threading.main_thread()
        return ANSWER

    (tmp_path / "proc" / "1").mkdir(parents=True)
    (tmp_path / "proc" / "1" / "mountinfo").write_text(
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "23 22 0:41 / /mnt rw - tmpfs tmpfs rw\n"
        "24 23 0:42 / /mnt/nas rw - nfs4 nas:/ rw\n"
        "25 24 8:2 / /mnt/nas/local rw - ext4 /dev/sdb1 rw\n"
        "26 22 8:3 / /mnt/nasty rw - ext4 /dev/sdb1 rw\n"
    )

    assert set(_errors(_collector(Paths(proc=str(tmp_path / "proc")), "60s", statvfs)).values()) == {0}
    assert threads == {"/": False, "/mnt": False, "/mnt/nas": True, "/mnt/nas/local": True, "/mnt/nasty": False}
