"""Software RAID: states, members and progress of arrays from mdstat and sysfs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch_exporters.system.mdadm import STATES, Mdadm, parse_mdstat
from deckwatch_exporters.system.parse_numbers import MalformedValues

from .support import FIXTURES, by_series, host_paths


@pytest.fixture
def series() -> dict[str, float]:
    return by_series(Mdadm(host_paths(FIXTURES / "hardware")).collect())


def _disks(series: dict[str, float], device: str) -> tuple[float, ...]:
    """Required, active, failed, spare."""
    members = [series[f'node_md_disks{{device="{device}",state="{state}"}}'] for state in ("active", "failed", "spare")]
    return (series[f'node_md_disks_required{{device="{device}"}}'], *members)


@pytest.mark.parametrize(
    ("device", "state"),
    [
        ("md0", "active"),
        ("md1", "recovering"),
        ("md2", "active"),
        ("md3", "check"),
        ("md4", "resync"),
        ("md10", "active"),
        ("md127", "inactive"),
    ],
)
def test_an_array_is_in_exactly_one_state(series: dict[str, float], device: str, state: str) -> None:
    states = {name: series[f'node_md_state{{device="{device}",state="{name}"}}'] for name in STATES}

    assert states == {name: int(name == state) for name in STATES}


@pytest.mark.parametrize(
    ("device", "disks"),
    [
        ("md0", (2, 2, 0, 0)),
        ("md1", (2, 1, 0, 0)),  # a disk is being filled
        ("md2", (4, 3, 1, 1)),  # one failed, one spare
        ("md10", (2, 2, 0, 0)),  # striped: requires every member
        ("md127", (0, 0, 0, 2)),  # a BIOS RAID container requires no members
    ],
)
def test_members_are_counted(series: dict[str, float], device: str, disks: tuple[int, ...]) -> None:
    assert _disks(series, device) == disks


@pytest.mark.parametrize(
    ("device", "synced", "blocks"),
    [
        ("md0", 248896, 248896),
        ("md1", 16775552, 195310144),
        ("md3", 114176, 3986944),
        ("md4", 0, 4190208),  # waits for another array's resync
    ],
)
def test_progress_is_in_blocks(series: dict[str, float], device: str, synced: int, blocks: int) -> None:
    assert series[f'node_md_blocks_synced{{device="{device}"}}'] == synced
    assert series[f'node_md_blocks{{device="{device}"}}'] == blocks


def test_sysfs_values_are_exported_for_the_arrays_that_have_them(series: dict[str, float]) -> None:
    assert series['node_md_degraded{device="md2"}'] == 1
    assert series['node_md_raid_disks{device="md2"}'] == 4  # `4 (3)`: a reshape is in progress
    assert 'node_md_degraded{device="md10"}' not in series


def test_an_array_without_a_size_has_all_other_series() -> None:
    (array,) = parse_mdstat("md0 : active raid1 sda1[0]\n", MalformedValues())

    assert (array.blocks, array.synced, array.required, array.active) == (None, None, 1, 1)


@pytest.mark.parametrize(
    "block",
    [
        "md1 :",
        "md1 : (null) raid1 sda1[0]\n      5 blocks",
        "md0 : active raid0 sda1[0]\n      5 blocks",  # repeated
        "md1 : active raid1 sda1[0] sdb1[1]\n      5 blocks [2/x] [U_]",
        "md1 : active raid1 sda1[0] sdb1[1]\n      5 blocks [2/1] [U_]\n      recovery = x% (1/5)",
    ],
)
def test_a_malformed_array_is_reported_and_the_others_are_exported(block: str) -> None:
    malformed = MalformedValues()

    arrays = parse_mdstat(f"md0 : active raid0 sda1[0]\n      7 blocks\n\n{block}\n\nmd2 : inactive\n", malformed)

    assert [array.name for array in arrays] == ["md0", "md2"]
    assert malformed == [("/proc/mdstat", block)]


def test_unraid_files_have_no_arrays_and_are_not_malformed() -> None:
    malformed = MalformedValues()

    assert parse_mdstat("sbName=/boot/config/super.dat\nmdVersion=2.9.25\nmdState=STARTED\n", malformed) == []
    assert malformed == []


def test_a_file_without_arrays_has_no_samples() -> None:
    assert parse_mdstat("Personalities : \nunused devices: <none>\n", MalformedValues()) == []


@given(st.one_of(st.text(), st.from_regex(r"md[0-9] : (in)?active raid[0-9](.|\n){0,40}[0-9] blocks.{0,20}\n")))
def test_any_mdstat_can_be_parsed(text: str) -> None:
    arrays = parse_mdstat(text, MalformedValues())

    assert len({array.name for array in arrays}) == len(arrays)
    assert all(array.state in STATES for array in arrays)
