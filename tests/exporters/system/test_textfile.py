"""Textfile metrics: valid files are exposed unchanged; a broken file fails alone and is named."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.exporter import Incomplete
from deckwatch_exporters.system.paths import Paths
from deckwatch_exporters.system.textfile import Textfile, TextfileSettings, parse

from .support import by_series, exposed, only_samples


@pytest.fixture
def textfile(tmp_path: Path) -> Textfile:
    return Textfile(Paths(), TextfileSettings(directories=(str(tmp_path),)), logging.getLogger("textfile"))


def test_a_broken_file_fails_alone_and_is_reported_once(
    textfile: Textfile, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "good.prom").write_text("good 1\n")
    (tmp_path / "broken.prom").write_text("good 1\nbroken {{{\n")

    for _ in range(3):
        series = by_series(textfile.collect())

    assert series["good"] == 1
    assert series["node_textfile_scrape_error"] == 1
    assert series[f'deckwatch_textfile_error{{file="{tmp_path}/broken.prom"}}'] == 1
    assert series[f'deckwatch_textfile_error{{file="{tmp_path}/good.prom"}}'] == 0
    assert f'node_textfile_mtime_seconds{{file="{tmp_path}/broken.prom"}}' not in series
    assert len(caplog.records) == 1
    assert "broken.prom: ValueError: line 2" in caplog.text


def test_a_fixed_file_is_exposed_again(textfile: Textfile, tmp_path: Path) -> None:
    file = tmp_path / "a.prom"
    file.write_text("broken {\n")
    assert by_series(textfile.collect())["node_textfile_scrape_error"] == 1
    file.write_text("mended 5\n")

    series = by_series(textfile.collect())

    assert (series["mended"], series["node_textfile_scrape_error"]) == (5, 0)


def test_changed_and_deleted_files_are_detected(textfile: Textfile, tmp_path: Path) -> None:
    file = tmp_path / "a.prom"
    file.write_text("a 1\n")
    assert by_series(textfile.collect())["a"] == 1
    file.write_text("a 22\n")
    assert by_series(textfile.collect())["a"] == 22
    file.unlink()

    assert "a" not in by_series(textfile.collect())


@pytest.mark.parametrize("name", ["a.prom.tmp", ".hidden", "a.txt"])
def test_files_with_another_extension_are_ignored(textfile: Textfile, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("nonsense {")

    assert by_series(textfile.collect()) == {"node_textfile_scrape_error": 0}


def test_an_unreadable_file_is_an_error_of_that_file(textfile: Textfile, tmp_path: Path) -> None:
    (tmp_path / "dangling.prom").symlink_to("/does/not/exist")
    (tmp_path / "folder.prom").mkdir()

    series = by_series(textfile.collect())

    assert series[f'deckwatch_textfile_error{{file="{tmp_path}/dangling.prom"}}'] == 1
    assert series[f'deckwatch_textfile_error{{file="{tmp_path}/folder.prom"}}'] == 1


def test_a_missing_folder_is_not_an_error() -> None:
    textfile = Textfile(Paths(), TextfileSettings(directories=("/does/not/exist",)), logging.getLogger("textfile"))

    assert by_series(textfile.collect()) == {"node_textfile_scrape_error": 0}


def test_a_series_in_two_files_is_exposed_once(textfile: Textfile, tmp_path: Path) -> None:
    (tmp_path / "a.prom").write_text("x 1\n")
    (tmp_path / "b.prom").write_text("x 2\ny 2\n")

    lines = exposed(textfile.collect())

    assert [line for line in lines if line.startswith(("x", "y"))] == ["x 1.0", "y 2.0"]


def test_a_metric_with_series_in_several_files_is_exposed_once_with_all_of_them(
    textfile: Textfile, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.prom").write_text('# HELP m Help.\n# TYPE m gauge\nm{f="1"} 1\n')
    (tmp_path / "b.prom").write_text('# HELP m Other help.\n# TYPE m gauge\nm{f="2"} 2\n')
    (tmp_path / "c.prom").write_text('m{f="3"} 3\n')

    samples = only_samples(textfile.collect())

    assert len({sample.series.metric for sample in samples if sample.series.name == "m"}) == 1
    assert by_series(samples)['m{f="1"}'] == 1
    assert by_series(samples)['m{f="2"}'] == 2
    assert by_series(samples)['m{f="3"}'] == 3
    assert by_series(samples)["node_textfile_scrape_error"] == 0
    assert caplog.records == []


@pytest.mark.parametrize("first", ["a", "c"])
def test_a_declared_type_applies_to_all_files(first: str, textfile: Textfile, tmp_path: Path) -> None:
    (tmp_path / f"{first}.prom").write_text('m{f="1"} 1\n')
    (tmp_path / "b.prom").write_text('# TYPE m counter\nm{f="2"} 2\n')

    found = {sample.series.metric.type for sample in only_samples(textfile.collect()) if sample.series.name == "m"}

    assert found == {"counter"}


@pytest.mark.parametrize(
    ("content", "conflict"),
    [
        ('# TYPE m counter\nm{f="2"} 2\nn 1\n', "m is a counter here and a gauge in {}/a.prom"),
        ('m{f="1"} 2\nn 1\n', 'm{{f="1"}} is also in {}/a.prom'),
        ("# TYPE m histogram\nm_count 1\nn 1\n", "m is a histogram here and a gauge in {}/a.prom"),
        ("node_textfile_scrape_error 0\nn 1\n", "node_textfile_scrape_error is a metric of Deckwatch"),
    ],
)
def test_a_conflict_between_files_is_reported_once_with_both_names(
    content: str, conflict: str, textfile: Textfile, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.prom").write_text('# TYPE m gauge\nm{f="1"} 1\n')
    (tmp_path / "b.prom").write_text(content)

    for _ in range(3):
        found = list(textfile.collect())
    samples = only_samples(found)
    (lack,) = (item for item in found if isinstance(item, Incomplete))
    assert lack.what.startswith(f"textfile {tmp_path}/b.prom: ")

    series = by_series(samples)
    assert len({sample.series.text for sample in samples}) == len(samples)
    assert (series['m{f="1"}'], series["n"]) == (1, 1)
    assert series["node_textfile_scrape_error"] == 1
    assert series[f'deckwatch_textfile_error{{file="{tmp_path}/a.prom"}}'] == 0
    assert series[f'deckwatch_textfile_error{{file="{tmp_path}/b.prom"}}'] == 1
    (record,) = caplog.records
    assert f"{tmp_path}/b.prom: {conflict.format(tmp_path)}" in record.getMessage()

    (tmp_path / "b.prom").write_text("n 2\n")
    series = by_series(textfile.collect())
    assert (series["n"], series["node_textfile_scrape_error"]) == (2, 0)


def test_a_byte_order_mark_is_skipped(textfile: Textfile, tmp_path: Path) -> None:
    (tmp_path / "a.prom").write_bytes(b"\xef\xbb\xbf# TYPE m gauge\r\nm 1\r\n")

    series = by_series(textfile.collect())

    assert (series["m"], series["node_textfile_scrape_error"]) == (1, 0)


def test_a_file_that_is_not_utf_8_is_an_error(textfile: Textfile, tmp_path: Path) -> None:
    (tmp_path / "a.prom").write_bytes(b'm{a="\xff"} 1\n')

    assert by_series(textfile.collect())["node_textfile_scrape_error"] == 1


def test_file_names_that_differ_only_in_undecodable_bytes_are_distinct(textfile: Textfile, tmp_path: Path) -> None:
    for name, metric in ((b"\xfe.prom", "a"), (b"\xff.prom", "b")):
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_text(f"{metric} 1\n")

    series = by_series(textfile.collect())

    assert {line for line in series if line.startswith("node_textfile_mtime")} == {
        f'node_textfile_mtime_seconds{{file="{tmp_path}/{name}.prom"}}' for name in (r"\\xfe", r"\\xff")
    }


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a 1 1700000000000", "timestamps are not supported"),
        ("# TYPE a thing\na 1", "unknown type"),
        ("a one", "malformed number"),
        ("a 1_000", "malformed number"),
        ('a{b="c" 1', "malformed sample"),
        ("a{b=c} 1", "malformed labels"),
        ('a{b="1",b="2"} 1', "malformed labels"),
        ("a 1\na 2", "repeated series"),
        ("9a 1", "malformed sample"),
    ],
)
def test_malformed_content_is_rejected_with_its_line(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=r"^line \d+: .*" + fault):
        list(parse(text, "x.prom"))


@given(st.text())
def test_any_text_gives_samples_or_a_value_error(text: str) -> None:
    try:
        samples = list(parse(text, "x.prom"))
    except ValueError:
        samples = []
    assert all(sample.series.name for sample in samples)
