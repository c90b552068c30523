"""The operating system."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.exporter import NotAvailable
from deckwatch_exporters.system.os_release import OsRelease, parse_os_release
from deckwatch_exporters.system.parse_numbers import MalformedValues

from .support import by_series, host_paths, malformed

RELEASE = """\
# a comment
NAME="Debian GNU/Linux"
VERSION_ID="12"
ID=debian
SUPPORT_END=2028-06-30
PRETTY_NAME='Debian "bookworm"'
"""


def collected(tree: Path, file: str, text: str) -> dict[str, float]:
    path = tree / "root" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return by_series(OsRelease(host_paths(tree)).collect())


def test_fields_become_labels_and_missing_fields_are_empty(tmp_path: Path) -> None:
    assert collected(tmp_path, "etc/os-release", RELEASE) == {
        'node_os_info{build_id="",id="debian",id_like="",image_id="",image_version="",name="Debian GNU/Linux",'
        'pretty_name="Debian \\"bookworm\\"",variant="",variant_id="",version="",version_codename="",'
        'version_id="12"}': 1,
        'node_os_version{id="debian",id_like="",name="Debian GNU/Linux"}': 12,
        "node_os_support_end_timestamp_seconds": 1_845_936_000,  # date -u -d 2028-06-30 +%s
    }


def test_the_vendors_file_is_read_if_etc_has_none(tmp_path: Path) -> None:
    found = collected(tmp_path, "usr/lib/os-release", "ID=vendor\nVERSION_ID=1\n")
    assert found['node_os_version{id="vendor",id_like="",name=""}'] == 1

    found = collected(tmp_path, "etc/os-release", "ID=admin\nVERSION_ID=2\n")
    assert found['node_os_version{id="admin",id_like="",name=""}'] == 2


def test_a_system_update_is_exported_in_the_next_run(tmp_path: Path) -> None:
    file = tmp_path / "root/etc/os-release"
    file.parent.mkdir(parents=True)
    file.write_text("ID=x\nVERSION_ID=1\n")
    collector = OsRelease(host_paths(tmp_path))
    before = [by_series(collector.collect()) for _ in range(2)]
    file.write_text("ID=x\nVERSION_ID=2\n")

    assert before[0] == before[1]
    assert by_series(collector.collect())['node_os_version{id="x",id_like="",name=""}'] == 2


@pytest.mark.parametrize(("version", "figure"), [("9.2", 9.2), ("22.04.1", 22.04), ("40beta", 40)])
def test_the_numeric_version_has_the_first_two_parts(version: str, figure: float, tmp_path: Path) -> None:
    found = collected(tmp_path, "etc/os-release", f"ID=x\nVERSION_ID={version}\n")

    assert found['node_os_version{id="x",id_like="",name=""}'] == figure


@pytest.mark.parametrize("line", ["", "VERSION_ID=sid", "VERSION_ID=0"])
def test_a_rolling_release_has_no_version(line: str, tmp_path: Path) -> None:
    found = collected(tmp_path, "etc/os-release", f"ID=x\n{line}\n")

    assert {series.partition("{")[0] for series in found} == {"node_os_info"}


def test_a_root_without_the_file_has_no_metrics_and_no_error(tmp_path: Path) -> None:
    with pytest.raises(NotAvailable):
        list(OsRelease(host_paths(tmp_path)).collect())


@pytest.mark.parametrize("date", ["soon", "2028-13-01", "20280630"])
def test_a_malformed_date_is_reported_and_the_rest_is_exported(date: str, tmp_path: Path) -> None:
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/os-release").write_text(f"ID=x\nVERSION_ID=12\nSUPPORT_END={date}\n")
    collector = OsRelease(host_paths(tmp_path))

    for _ in range(2):
        found = list(collector.collect())
        assert [series.partition("{")[0] for series in by_series(found)] == ["node_os_info", "node_os_version"]
        assert malformed(found) == [("os-release: SUPPORT_END", date)]


def test_a_line_with_an_unclosed_quote_affects_only_itself() -> None:
    values = MalformedValues()

    assert parse_os_release('ID=x\nNAME="Y\nVERSION_ID=12\n', values) == {"ID": "x", "VERSION_ID": "12"}
    assert values == [("os-release: NAME", '"Y')]


@given(st.text())
def test_any_text_can_be_parsed(text: str) -> None:
    assert all(isinstance(value, str) for value in parse_os_release(text, MalformedValues()).values())
