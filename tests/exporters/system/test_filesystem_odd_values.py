"""Odd lines of mountinfo and odd results of statvfs(3): each affects only its own series."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deckwatch_exporters.system.filesystem import Filesystem, FilesystemSettings
from deckwatch_exporters.system.paths import Paths

from .support import FIXTURES, by_series, malformed

if TYPE_CHECKING:
    from pathlib import Path

    from deckwatch.exporter import Malformed, Sample

LINES = (FIXTURES / "host/proc/1/mountinfo").read_bytes().splitlines()
ODD = (
    b"", b"-5", b"(null)", b"18446744073709551616", b"\xff\xfe", b"\\000", b"\\777", b"8:", b":1", b"/", b"- -", b" ",
    b"-", b"\xe2\x80\xa8",
)  # fmt: skip
#: Block size, fragment size, blocks, free, available, files, free files, available files, flags, longest name.
STATVFS = (4096, 4096, 1000, 400, 300, 5000, 4000, 4000, 0, 255)
SERIES = {
    2: "node_filesystem_size_bytes",
    3: "node_filesystem_free_bytes",
    4: "node_filesystem_avail_bytes",
    5: "node_filesystem_files",
    6: "node_filesystem_files_free",
}
EVERY = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Host:
    """A host with these lines in mountinfo."""

    def __init__(self, folder: Path) -> None:
        self._mountinfo = folder / "1/mountinfo"
        self._mountinfo.parent.mkdir()
        self._paths = Paths(proc=str(folder))

    def collect(self, lines: list[bytes], *, statvfs: tuple[int, ...] = STATVFS) -> list[Sample | Malformed]:
        """What is collected if statvfs gives this result for /srv/my data."""
        self._mountinfo.write_bytes(b"".join(line + b"\n" for line in lines))

        def answer(path: str) -> os.statvfs_result:
            if "\0" in path:
                raise ValueError("embedded null byte")  # as os.statvfs() does
            return os.statvfs_result(statvfs if path == "/srv/my data" else STATVFS)

        return list(Filesystem(self._paths, FilesystemSettings(), answer).collect())

    def series(self, lines: list[bytes]) -> dict[str, float]:
        return by_series(self.collect(lines))


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return Host(tmp_path_factory.mktemp("proc"))


@given(data=st.data())
@EVERY
def test_an_odd_field_of_a_mount_affects_only_that_mount(host: Host, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(LINES) - 1))
    fields = LINES[number].split(b" ")
    position = data.draw(st.integers(0, len(fields) - 1))
    odd = data.draw(st.sampled_from(ODD))
    how = data.draw(st.sampled_from(["replace", "drop", "repeat", "insert"]))
    fields[position : position + 1] = {
        "replace": [odd],
        "drop": [],
        "repeat": [fields[position]] * 2,
        "insert": [odd, fields[position]],
    }[how]
    changed = [*LINES[:number], b" ".join(fields), *LINES[number + 1 :]]

    found = host.series(changed)

    # The mutated mount may take the place of the root, which is mounted below it.
    others = host.series([*LINES[:number], *LINES[number + 1 :]])
    assert {
        series for series in others if found.get(series) != others[series] and 'mountpoint="/"' not in series
    } == set()


@given(data=st.data())
@EVERY
def test_a_missing_repeated_or_unknown_line_affects_no_other_mount(host: Host, data: st.DataObject) -> None:
    lines = list(LINES)
    garbage = data.draw(st.sampled_from([b"garbage", b"1 2 3", b"\xff", b"(null)", b" ", b" - "]))
    lines.insert(data.draw(st.integers(0, len(lines))), garbage)
    lines.insert(data.draw(st.integers(0, len(lines))), LINES[3])

    found = host.collect(lines)

    assert by_series(found) == host.series(LINES)
    assert [what for what, _ in malformed(found)] == ["mountinfo"]


@given(field=st.sampled_from(sorted(SERIES)), value=st.integers(0, 2**64 - 1))
@EVERY
def test_any_result_of_statvfs_affects_only_the_series_of_its_field(host: Host, field: int, value: int) -> None:
    found = host.collect(LINES, statvfs=(*STATVFS[:field], value, *STATVFS[field + 1 :]))

    name = SERIES[field] + '{device="/dev/sda2",fstype="xfs",mountpoint="/srv/my data",device_error=""}'
    assert {**by_series(found), name: 0} == {**host.series(LINES), name: 0}
    is_wrapped = 2**63 <= value < 2**64 - 1
    assert (name in by_series(found)) is (value < 2**63)
    assert len(malformed(found)) == is_wrapped


def test_negative_and_unknown_numbers_of_a_file_system_are_absent(host: Host) -> None:
    found = host.collect(LINES, statvfs=(4096, 4096, 1000, 400, 2**64 - 300, 2**64 - 1, 2**64 - 1, 2**64 - 1, 0, 255))

    assert malformed(found) == [("statvfs: /srv/my data: f_bavail", str(2**64 - 300))]
    absent = host.series(LINES).keys() - by_series(found).keys()
    assert {series.partition("{")[0] for series in absent} == {SERIES[4], SERIES[5], SERIES[6]}
