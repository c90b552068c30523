"""File systems: a hanging mount is reported and does not affect the others."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch_exporters.system.filesystem import Filesystem, FilesystemSettings, Mount, parse_mountinfo
from deckwatch_exporters.system.parse_numbers import MalformedValues
from deckwatch_exporters.system.paths import Paths
from services import until

from .support import by_series, host_paths, malformed, only_samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ROOT = '{device="/dev/sda1",fstype="ext4",mountpoint="/",device_error=""}'
DATA = '{device="/dev/sda2",fstype="xfs",mountpoint="/srv/my data",device_error=""}'
NFS = '{device="server:/export",fstype="nfs4",mountpoint="/mnt/nfs",device_error=""}'
NFS_TIMED_OUT = NFS.replace('device_error=""', 'device_error="mountpoint timeout"')
NFS_REFUSED = NFS.replace('device_error=""', 'device_error="input/output error"')


class FakeDisks:
    """A statvfs that answers, hangs or fails like a file system."""

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


def test_sizes_are_in_bytes_and_mount_points_are_unescaped(disks: FakeDisks) -> None:
    series = by_series(_collector(disks).collect())

    assert series[f"node_filesystem_size_bytes{DATA}"] == 4_096_000
    assert series[f"node_filesystem_free_bytes{DATA}"] == 1_638_400
    assert series[f"node_filesystem_avail_bytes{DATA}"] == 1_228_800
    assert series[f"node_filesystem_files{DATA}"] == 5000
    assert series[f"node_filesystem_files_free{DATA}"] == 4000
    assert (series[f"node_filesystem_readonly{DATA}"], series[f"node_filesystem_readonly{ROOT}"]) == (1, 0)


def test_pseudo_file_systems_are_excluded_and_duplicate_mounts_are_exported_once(disks: FakeDisks) -> None:
    points = [line for line in by_series(_collector(disks).collect()) if line.startswith("node_filesystem_size_bytes")]

    assert len(points) == 5
    assert not any("proc" in point or "sysfs" in point for point in points)


def test_a_hanging_mount_is_an_error_and_the_others_are_unaffected(disks: FakeDisks) -> None:
    disks.hanging.set()
    collector = _collector(disks)

    series = by_series(collector.collect())

    assert series[f"node_filesystem_device_error{NFS_TIMED_OUT}"] == 1
    assert f"node_filesystem_readonly{NFS_TIMED_OUT}" in series
    assert [line for line in series if "size_bytes" in line and "/mnt/nfs" in line] == []
    for other in (ROOT, DATA):
        assert series[f"node_filesystem_device_error{other}"] == 0
        assert f"node_filesystem_size_bytes{other}" in series


def test_a_hanging_mount_is_not_queried_until_it_answers(disks: FakeDisks) -> None:
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


def test_a_failing_mount_is_an_error_with_the_reason_and_without_sizes(disks: FakeDisks) -> None:
    disks.refuses.add("/mnt/nfs")

    series = by_series(_collector(disks).collect())

    assert series[f"node_filesystem_device_error{NFS_REFUSED}"] == 1
    assert [line for line in series if "avail_bytes" in line and "/mnt/nfs" in line] == []


def test_the_mounts_of_a_host_are_queried_below_its_root_mount(disks: FakeDisks) -> None:
    by_series(_collector(disks).collect())

    assert f"{host_paths().root}/mnt/nfs" in disks.asked


def test_exclusions_are_configurable(disks: FakeDisks) -> None:
    series = by_series(_collector(disks, fs_types_exclude="^(ext4|xfs|tmpfs|proc|sysfs)$").collect())

    assert [line for line in series if line.startswith("node_filesystem_size_bytes")] == [
        f"node_filesystem_size_bytes{NFS}"
    ]


def test_the_mount_points_to_exclude_are_configurable(disks: FakeDisks) -> None:
    before = by_series(_collector(disks).collect())

    after = by_series(_collector(disks, mount_points_exclude="^/mnt").collect())

    assert {series for series in before if 'mountpoint="/mnt' not in series} == after.keys() < before.keys()


CONTAINER = """900 800 0:50 / / rw - overlay overlay rw,lowerdir=/a
901 900 254:0 / /host ro - ext4 /dev/vda rw
902 901 254:1 / /host/srv ro,relatime - xfs /dev/vdb ro
903 900 254:2 /var/lib/docker/containers/1/hosts /etc/hosts rw - ext4 /dev/vda rw
904 900 0:51 / /hostile rw - tmpfs tmpfs rw
"""


def test_a_container_exports_the_mounts_of_its_host_with_the_hosts_flags(disks: FakeDisks, tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1/mountinfo").write_text(CONTAINER)

    series = by_series(Filesystem(Paths(proc=str(tmp_path), root="/host"), FilesystemSettings(), disks).collect())

    assert {line: value for line, value in series.items() if "readonly" in line} == {
        'node_filesystem_readonly{device="/dev/vda",fstype="ext4",mountpoint="/",device_error=""}': 0,
        'node_filesystem_readonly{device="/dev/vdb",fstype="xfs",mountpoint="/srv",device_error=""}': 1,
    }
    assert disks.asked == ["/host/", "/host/srv"]


def test_all_mounts_of_a_host_without_a_mount_at_rootfs_are_exported(disks: FakeDisks, tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1/mountinfo").write_text("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:2 / /srv ro - xfs /dev/sda2 rw\n")

    series = by_series(Filesystem(Paths(proc=str(tmp_path), root="/host"), FilesystemSettings(), disks).collect())

    assert {line: value for line, value in series.items() if "readonly" in line} == {
        'node_filesystem_readonly{device="/dev/sda1",fstype="ext4",mountpoint="/",device_error=""}': 0,
        'node_filesystem_readonly{device="/dev/sda2",fstype="xfs",mountpoint="/srv",device_error=""}': 1,
    }


def test_a_sandboxed_service_does_not_report_its_own_mount_flags_as_the_hosts(disks: FakeDisks, tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/mountinfo").write_text(
        "1 0 8:1 / / ro - ext4 /dev/sda1 rw\n2 1 8:2 / /srv ro - xfs /dev/sda2 ro\n"
    )

    series = by_series(Filesystem(Paths(proc=str(tmp_path)), FilesystemSettings(), disks).collect())

    assert [value for line, value in series.items() if "readonly" in line] == [0, 1]


def test_mounts_that_differ_only_in_undecodable_bytes_are_distinct(disks: FakeDisks, tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1/mountinfo").write_bytes(
        b"1 0 8:1 / /mnt/\xff rw - ext4 /dev/\xe4 rw\n2 0 8:1 / /mnt/\xfe rw - ext4 /dev/\xe4 rw\n"
        b"3 0 8:1 / /mnt/caf\xc3\xa9 rw - ext4 /dev/\xe4 rw\n"
    )

    series = by_series(Filesystem(Paths(proc=str(tmp_path)), FilesystemSettings(), disks).collect())

    assert [line for line in series if "readonly" in line] == [
        f'node_filesystem_readonly{{device="/dev/\\\\xe4",fstype="ext4",mountpoint="/mnt/{name}",device_error=""}}'
        for name in (r"\\xff", r"\\xfe", "caf\u00e9")
    ]
    assert [os.fsencode(path) for path in disks.asked] == [b"/mnt/\xff", b"/mnt/\xfe", b"/mnt/caf\xc3\xa9"]


@pytest.mark.parametrize(
    "line",
    [
        "garbage",
        "3 0 8:1 / /mnt rw - ext4 /dev/sdb",
        "3 0 8 / /mnt rw - ext4 /dev/sdb rw",
        "3 0 8:1 / (null) rw - ext4 /dev/sdb rw",
        "3 0 8:1 / /mnt rw ext4 /dev/sdb rw",
    ],
)
def test_a_malformed_mount_is_reported_in_each_run_and_the_others_are_exported(
    line: str, disks: FakeDisks, tmp_path: Path
) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1/mountinfo").write_text(f"1 0 8:1 / / rw - ext4 sda rw\n{line}\n2 0 8:2 / /srv rw - xfs sdc rw\n")
    collector = Filesystem(Paths(proc=str(tmp_path)), FilesystemSettings(), disks)

    for _ in range(2):
        found = list(collector.collect())
        assert sum("readonly" in series for series in by_series(found)) == 2
        assert malformed(found) == [("mountinfo", line)]


def test_a_mount_listed_twice_with_different_types_is_exported_once(disks: FakeDisks, tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1/mountinfo").write_text("1 0 8:1 / / rw - ext4 /dev/sda rw\n2 0 8:1 / / rw - ext3 /dev/sda rw\n")

    samples = only_samples(Filesystem(Paths(proc=str(tmp_path)), FilesystemSettings(), disks).collect())

    assert len({sample.series.text for sample in samples}) == len(samples)


@pytest.mark.parametrize(
    "options", ["rw,aname=drvfs;path=C:\\134;metadata", "rw,path=C:\\134Program Files"], ids=["escaped", "with a blank"]
)
def test_mount_options_can_contain_spaces(options: str) -> None:
    rejected = MalformedValues()

    (mount,) = parse_mountinfo(f"1 0 8:1 / /mnt/c rw - 9p C:\\134 {options}\n", rejected)

    assert (mount.device, mount.is_readonly, rejected) == ("C:\\", False, [])


@given(st.text())
def test_any_mountinfo_can_be_parsed(text: str) -> None:
    assert all(isinstance(mount, Mount) for mount in parse_mountinfo(text, MalformedValues()))
