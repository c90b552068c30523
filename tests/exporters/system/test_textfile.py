"""Drop-in files: a good one is exposed as it is, a broken one fails alone and is named."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch_exporters.system.paths import Paths
from deckwatch_exporters.system.textfile import Textfile, TextfileSettings, parse

from .support import by_series, exposed


@pytest.fixture
def textfile(tmp_path: Path) -> Textfile:
    return Textfile(Paths(), TextfileSettings(directories=(str(tmp_path),)), logging.getLogger("textfile"))


def test_a_broken_file_fails_alone_and_is_named_once(
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
    assert "broken.prom is left out: ValueError: line 2" in caplog.text


def test_a_file_that_was_mended_is_exposed_again(textfile: Textfile, tmp_path: Path) -> None:
    file = tmp_path / "a.prom"
    file.write_text("broken {\n")
    assert by_series(textfile.collect())["node_textfile_scrape_error"] == 1
    file.write_text("mended 5\n")

    series = by_series(textfile.collect())

    assert (series["mended"], series["node_textfile_scrape_error"]) == (5, 0)


def test_a_change_is_seen_and_a_deleted_file_is_gone(textfile: Textfile, tmp_path: Path) -> None:
    file = tmp_path / "a.prom"
    file.write_text("a 1\n")
    assert by_series(textfile.collect())["a"] == 1
    file.write_text("a 22\n")
    assert by_series(textfile.collect())["a"] == 22
    file.unlink()

    assert "a" not in by_series(textfile.collect())


@pytest.mark.parametrize("name", ["a.prom.tmp", ".hidden", "a.txt"])
def test_files_with_another_ending_are_left_alone(textfile: Textfile, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("nonsense {")

    assert by_series(textfile.collect()) == {"node_textfile_scrape_error": 0}


def test_a_file_that_cannot_be_read_is_an_error_of_that_file(textfile: Textfile, tmp_path: Path) -> None:
    (tmp_path / "dangling.prom").symlink_to("/does/not/exist")
    (tmp_path / "folder.prom").mkdir()

    series = by_series(textfile.collect())

    assert series[f'deckwatch_textfile_error{{file="{tmp_path}/dangling.prom"}}'] == 1
    assert series[f'deckwatch_textfile_error{{file="{tmp_path}/folder.prom"}}'] == 1


def test_a_missing_folder_is_no_error() -> None:
    textfile = Textfile(Paths(), TextfileSettings(directories=("/does/not/exist",)), logging.getLogger("textfile"))

    assert by_series(textfile.collect()) == {"node_textfile_scrape_error": 0}


def test_a_series_in_two_files_is_exposed_once(textfile: Textfile, tmp_path: Path) -> None:
    (tmp_path / "a.prom").write_text("x 1\n")
    (tmp_path / "b.prom").write_text("x 2\ny 2\n")

    lines = exposed(textfile.collect())

    assert [line for line in lines if line.startswith(("x", "y"))] == ["x 1.0", "y 2.0"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a 1 1700000000000", "timestamps are not supported"),
        ("# TYPE a thing\na 1", "unknown type"),
        ("a one", "not a number"),
        ("a 1_000", "not a number"),
        ('a{b="c" 1', "not a sample"),
        ("a{b=c} 1", "not labels"),
        ('a{b="1",b="2"} 1', "not labels"),
        ("a 1\na 2", "stands twice"),
        ("9a 1", "not a sample"),
    ],
)
def test_what_is_no_exposition_is_refused_with_its_line(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=r"^line \d+: .*" + fault):
        list(parse(text, "x.prom"))


@given(st.text())
def test_any_text_gives_samples_or_a_value_error(text: str) -> None:
    try:
        samples = list(parse(text, "x.prom"))
    except ValueError:
        samples = []
    assert all(sample.series.name for sample in samples)
