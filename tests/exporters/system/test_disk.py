"""Block devices: values in base units, and properties from udev."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.exporter import Pattern
from deckwatch_exporters.system.disk import Disk, DiskSettings, parse_diskstats, parse_udev
from deckwatch_exporters.system.parse_numbers import MalformedValues

from .support import FIXTURES, by_series, host_paths

NOTHING = Pattern("^$")
LINE = "8 0 sda 1 2 3 4 5 6 7 8 9 10 11"


@pytest.fixture
def series() -> dict[str, float]:
    return by_series(Disk(host_paths(FIXTURES / "hardware"), DiskSettings()).collect())


def test_sectors_are_converted_to_bytes_and_milliseconds_to_seconds(series: dict[str, float]) -> None:
    assert series['node_disk_read_bytes_total{device="sda"}'] == 1003346126 * 512
    assert series['node_disk_read_time_seconds_total{device="sda"}'] == pytest.approx(18492.372)
    assert series['node_disk_io_now{device="sda"}'] == 2
    assert series['node_disk_discarded_sectors_total{device="sda"}'] == 13
    assert series['node_disk_flush_requests_time_seconds_total{device="nvme0n1"}'] == 3


def test_fields_that_an_older_kernel_does_not_have_are_absent(series: dict[str, float]) -> None:
    assert 'node_disk_io_time_weighted_seconds_total{device="dm-0"}' in series
    assert 'node_disk_discards_completed_total{device="dm-0"}' not in series


def test_partitions_and_loop_devices_are_excluded_by_default(series: dict[str, float]) -> None:
    devices = {line.partition('device="')[2].partition('"')[0] for line in series}

    assert devices == {"sda", "nvme0n1", "dm-0"}


def test_udev_and_sysfs_properties_become_labels(series: dict[str, float]) -> None:
    info = [line for line in series if line.startswith("node_disk_info")]

    assert info[0] == (
        'node_disk_info{device="sda",major="8",minor="0",path="pci-0000:00:1f.2-ata-1.0",wwn="0x50014ee2b1234567",'
        'model="WDC_WD40EFRX-68N32N0",serial="WD-WCC7K1234567",revision="82.00A82",rotational="1"}'
    )
    assert ['rotational="0"' in info[1], 'rotational=""' in info[2]] == [True, True]
    assert series['node_disk_ata_rotation_rate_rpm{device="sda"}'] == 5400
    assert series['node_disk_ata_write_cache_enabled{device="sda"}'] == 0
    assert 'node_disk_ata_write_cache{device="nvme0n1"}' not in series
    assert [line for line in series if line.startswith("node_disk_device_mapper_info")] == [
        'node_disk_device_mapper_info{device="dm-0",name="vg0-data",uuid="LVM-AbCdEf0123456789AbCdEf0123456789'
        'AbCdEf0123456789AbCdEf0123456789",vg_name="vg0",lv_name="data",lv_layer=""}'
    ]


@pytest.mark.parametrize("text", ["8 0 sda 1 2", f"{LINE} 5", "garbage"])
def test_a_line_with_an_unknown_number_of_fields_is_skipped(text: str) -> None:
    malformed = MalformedValues()

    assert parse_diskstats(text, NOTHING, malformed) == []
    assert malformed == [("/proc/diskstats", text)]


@pytest.mark.parametrize("word", ["seven", "-7", "(null)", "99999999999999999999", "7_0"])
def test_a_malformed_value_affects_only_its_series(word: str) -> None:
    malformed = MalformedValues()
    fields = LINE.split()
    fields[3] = word

    (device,) = parse_diskstats(" ".join(fields), NOTHING, malformed)

    assert device.values == [None, *map(int, fields[4:])]
    assert malformed == [(f"/proc/diskstats: {fields[2]}", word)]


def test_only_the_first_line_of_a_device_is_used() -> None:
    malformed = MalformedValues()

    assert len(parse_diskstats(f"{LINE}\n{LINE}\n", NOTHING, malformed)) == 1
    assert len(malformed) == 1


@given(st.text())
def test_any_diskstats_can_be_parsed(text: str) -> None:
    assert all(len(device.values) >= 11 for device in parse_diskstats(text, NOTHING, MalformedValues()))


@given(st.text())
def test_any_udev_file_gives_properties(text: str) -> None:
    assert all(f"E:{key}" in text for key in parse_udev(text))


def test_properties_follow_udev_and_sysfs_in_the_next_run(tmp_path: Path) -> None:
    for file, text in (
        ("proc/diskstats", LINE),
        ("udev/b8:0", "E:ID_MODEL=old"),
        ("sys/block/sda/queue/rotational", "1"),
    ):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    disk = Disk(host_paths(tmp_path), DiskSettings())

    def info() -> str:
        (found,) = (line for line in by_series(disk.collect()) if line.startswith("node_disk_info"))
        return found

    assert info() == info()
    assert 'model="old"' in info()
    (tmp_path / "udev/b8:0").write_text("E:ID_MODEL=new")
    assert 'model="new"' in info()
    (tmp_path / "sys/block/sda/queue/rotational").write_text("0")
    assert 'rotational="0"' in info()
