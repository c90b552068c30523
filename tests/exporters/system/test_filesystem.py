"""File systems: a mount that hangs is reported and costs nobody else anything."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch_exporters.system.filesystem import Filesystem, FilesystemSettings, Mount, parse_mountinfo
from deckwatch_exporters.system.parse_numbers import MalformedValues
from services import until

from .support import by_series, host_paths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = '{device="/dev/sda1",fstype="ext4",mountpoint="/",device_error=""}'
DATA = '{device="/dev/sda2",fstype="xfs",mountpoint="/srv/my data",device_error=""}'
NFS = '{device="server:/export",fstype="nfs4",mountpoint="/mnt/nfs",device_error=""}'
NFS_TIMED_OUT = NFS.replace('device_error=""', 'device_error="mountpoint timeout"')
NFS_REFUSED = NFS.replace('device_error=""', 'device_error="input/output error"')


class FakeDisks:
    """statvfs as a file system would answer, hang, or refuse."""

    def __init__(self) -> None:
        self.hanging = threading.Event()
        self.released = threading.Event()
        self.asked: list[str] = []
        self.refuses: set[str] = set()

    def __call__(self, path: str) -> os.statvfs_result:
        self.asked.append(path)
        if path.endswith("/mnt/nfs") and self.hanging.is_set():
            self.released.wait(120)
        if any(path.endswith(refused) for refused in self.refuses):
            raise OSError(5, "Input/output error")
        return os.statvfs_result((4096, 4096, 1000, 400, 300, 5000, 4000, 4000, 0, 255))


@pytest.fixture
def disks() -> Iterator[FakeDisks]:
    disks = FakeDisks()
    yield disks
    disks.released.set()


def _collector(disks: Callable[[str], os.statvfs_result], **settings: object) -> Filesystem:
    return Filesystem(host_paths(), FilesystemSettings.model_validate({"timeout": "2s", **settings}), disks)


def test_sizes_are_in_bytes_and_escapes_in_mount_points_are_undone(disks: FakeDisks) -> None:
    series = by_series(_collector(disks).collect())

    assert series[f"node_filesystem_size_bytes{DATA}"] == 4_096_000
    assert series[f"node_filesystem_free_bytes{DATA}"] == 1_638_400
    assert series[f"node_filesystem_avail_bytes{DATA}"] == 1_228_800
    assert series[f"node_filesystem_files{DATA}"] == 5000
    assert series[f"node_filesystem_files_free{DATA}"] == 4000
    assert (series[f"node_filesystem_readonly{DATA}"], series[f"node_filesystem_readonly{ROOT}"]) == (1, 0)


def test_pseudo_file_systems_are_left_out_and_a_mount_that_stands_twice_comes_once(disks: FakeDisks) -> None:
    points = [line for line in by_series(_collector(disks).collect()) if line.startswith("node_filesystem_size_bytes")]

    assert len(points) == 5
    assert not any("proc" in point or "sysfs" in point for point in points)


def test_a_mount_that_hangs_is_reported_as_an_error_and_the_others_as_ever(disks: FakeDisks) -> None:
    disks.hanging.set()
    collector = _collector(disks)

    series = by_series(collector.collect())

    assert series[f"node_filesystem_device_error{NFS_TIMED_OUT}"] == 1
    assert f"node_filesystem_readonly{NFS_TIMED_OUT}" in series
    assert [line for line in series if "size_bytes" in line and "/mnt/nfs" in line] == []
    for other in (ROOT, DATA):
        assert series[f"node_filesystem_device_error{other}"] == 0
        assert f"node_filesystem_size_bytes{other}" in series


def test_a_mount_that_hangs_is_left_alone_until_it_answers_and_then_back(disks: FakeDisks) -> None:
    disks.hanging.set()
    collector = _collector(disks)
    for _ in range(5):
        assert by_series(collector.collect())[f"node_filesystem_device_error{NFS_TIMED_OUT}"] == 1
    assert sum(path.endswith("/mnt/nfs") for path in disks.asked) == 1
    threads = threading.active_count()
    by_series(collector.collect())
    assert threading.active_count() <= threads

    disks.hanging.clear()
    disks.released.set()
    until(
        lambda: f"node_filesystem_device_error{NFS_TIMED_OUT}" not in by_series(collector.collect()), what="an answer"
    )

    assert by_series(collector.collect())[f"node_filesystem_device_error{NFS}"] == 0


def test_a_mount_that_refuses_is_an_error_with_the_reason_and_without_figures(disks: FakeDisks) -> None:
    disks.refuses.add("/mnt/nfs")

    series = by_series(_collector(disks).collect())

    assert series[f"node_filesystem_device_error{NFS_REFUSED}"] == 1
    assert [line for line in series if "avail_bytes" in line and "/mnt/nfs" in line] == []


def test_the_mounts_of_a_host_are_asked_for_below_its_root_mount(disks: FakeDisks) -> None:
    by_series(_collector(disks).collect())

    assert f"{host_paths().root}/mnt/nfs" in disks.asked


def test_exclusions_are_settings(disks: FakeDisks) -> None:
    series = by_series(_collector(disks, fs_types_exclude="^(ext4|xfs|tmpfs|proc|sysfs)$").collect())

    assert [line for line in series if line.startswith("node_filesystem_size_bytes")] == [
        f"node_filesystem_size_bytes{NFS}"
    ]


@given(st.text())
def test_any_mountinfo_can_be_parsed(text: str) -> None:
    assert all(isinstance(mount, Mount) for mount in parse_mountinfo(text, MalformedValues()))
