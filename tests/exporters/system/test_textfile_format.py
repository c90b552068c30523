"""Textfile metrics: names, types and labels are exposed unchanged, and a file is exposed completely or not at all."""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from deckwatch.metrics.declaration import escape_label
from deckwatch.metrics.encoding import Encoder, text_header
from deckwatch_exporters.system.paths import Paths
from deckwatch_exporters.system.textfile import Textfile, TextfileSettings, parse

from .support import by_series, exposed

EVERYTHING = """\
# HELP jobs_total Jobs so far.\\nAll of them.
# TYPE jobs_total counter
jobs_total{kind="mail",state="done"} 3
# TYPE plain counter
plain 4
# HELP took_seconds Seconds.
# TYPE took_seconds histogram
took_seconds_bucket{le="1"} 1
took_seconds_bucket{le="+Inf"} 2
took_seconds_sum 3.5
took_seconds_count 2
# TYPE size_bytes summary
size_bytes{quantile="0.5"} 10
size_bytes_sum 30
size_bytes_count 2
# any other comment
untyped_one -5
temperature{} NaN
"""


def _textfile(*directories: str) -> Textfile:
    return Textfile(Paths(), TextfileSettings(directories=directories), logging.getLogger("textfile"))


def test_names_types_and_samples_are_exposed_unchanged() -> None:
    text = "".join(text_header(family.metric) + family.text for family in Encoder().families(parse(EVERYTHING, "x")))

    types = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert types == [
        "# TYPE jobs_total counter",
        "# TYPE plain counter",
        "# TYPE took_seconds histogram",
        "# TYPE size_bytes summary",
        "# TYPE untyped_one untyped",
        "# TYPE temperature untyped",
    ]
    assert "# HELP jobs_total Jobs so far.\\nAll of them.\n" in text
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        'jobs_total{kind="mail",state="done"} 3.0',
        "plain 4.0",
        'took_seconds_bucket{le="1"} 1.0',
        'took_seconds_bucket{le="+Inf"} 2.0',
        "took_seconds_sum 3.5",
        "took_seconds_count 2.0",
        'size_bytes{quantile="0.5"} 10.0',
        "size_bytes_sum 30.0",
        "size_bytes_count 2.0",
        "untyped_one -5.0",
        "temperature NaN",
    ]
    ours = [(s.name, s.labels) for family in text_string_to_metric_families(text) for s in family.samples]
    theirs = [(s.name, s.labels) for family in text_string_to_metric_families(EVERYTHING) for s in family.samples]
    assert ours == theirs


def test_the_default_help_names_the_source_file() -> None:
    (sample,) = parse("# TYPE a gauge\na 1\n", "/var/lib/a.prom")

    assert (sample.series.metric.type, sample.series.metric.help) == ("gauge", "Metric read from /var/lib/a.prom")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a 1\nb 12", "line 2: no line feed at the end"),  # perhaps a truncated 12345
        ("foo1\n", "line 1: malformed sample"),
        ("foo\n", "line 1: malformed sample"),
        ("foo_inf\n", "line 1: malformed sample"),
        ("a 1\n# TYPE a gauge\n", "line 2: TYPE is repeated or follows the samples of its metric"),
        ("# TYPE a gauge\n# TYPE a counter\n", "line 2: TYPE is repeated"),
        ("# HELP a x\n# HELP a y\n", "line 2: repeated HELP"),
        ("# TYPE a\n", "line 1: unknown type"),
        ('a{b="1",c="2"} 1\na{c="2",b="1"} 2\n', "line 2: repeated series"),
        ('a 1\na{b=""} 2\n', "line 2: repeated series"),
        ('a{__name__="b"} 2\n', "line 1: malformed labels"),
        ('a 1 # {trace="b"} 2\n', "line 1: malformed sample"),
    ],
)
def test_content_that_prometheus_would_misread_is_rejected(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        list(parse(text, "x.prom"))


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.floats(allow_nan=False))
def test_any_label_value_and_number_is_preserved(label: str, value: float) -> None:
    (sample,) = parse(f'a{{b="{escape_label(label)}"}} {value!r}\n', "x")

    assert sample.series.labels == (("b", label),)
    assert sample.value == value


@pytest.mark.parametrize("number", ["NaN", "nan", "+Inf", "-Inf", "Inf"])
def test_non_finite_numbers_are_accepted(number: str) -> None:
    (sample,) = parse(f"a {number}\n", "x")

    assert not math.isfinite(sample.value)


def test_the_mtime_is_in_whole_seconds(tmp_path: Path) -> None:
    file = tmp_path / "a.prom"
    file.write_text("a 1\n")
    os.utime(file, ns=(0, 1_700_000_000_900_000_000))

    assert (
        by_series(_textfile(str(tmp_path)).collect())[f'node_textfile_mtime_seconds{{file="{file}"}}'] == 1_700_000_000
    )


@pytest.mark.parametrize(("first", "second"), [("good 1\n", "good 2\n"), ("broken {\n", "good 123\n")])
def test_an_unchanged_file_is_not_read_again(tmp_path: Path, first: str, second: str) -> None:
    file = tmp_path / "a.prom"
    file.write_text(first)
    os.utime(file, (1_700_000_000, 1_700_000_000))
    textfile = _textfile(str(tmp_path))
    before = exposed(textfile.collect())

    file.write_text(second)
    os.utime(file, (1_700_000_000, 1_700_000_000))
    assert exposed(textfile.collect()) == before

    os.utime(file, (1_700_000_015, 1_700_000_015))
    assert by_series(textfile.collect())["good"] == float(second.split()[1])


def test_a_path_that_is_not_a_folder_is_an_error_and_the_others_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.prom").write_text("a 1\n")
    textfile = _textfile(str(tmp_path / "a.prom"), str(tmp_path))

    for _ in range(3):
        series = by_series(textfile.collect())

    assert (series["a"], series["node_textfile_scrape_error"]) == (1, 1)
    assert len(caplog.records) == 1


def test_folders_can_be_given_by_a_pattern(tmp_path: Path) -> None:
    for name in ("cron", "backup", "other"):
        (tmp_path / name / "metrics").mkdir(parents=True)
        (tmp_path / name / "metrics" / "x.prom").write_text(f"{name} 1\n")

    series = by_series(_textfile(f"{tmp_path}/[cb]*/metrics").collect())

    assert (series["cron"], series["backup"], "other" in series) == (1, 1, False)


def test_a_pipe_is_an_error_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.prom")

    series = by_series(_textfile(str(tmp_path)).collect())

    assert series[f'deckwatch_textfile_error{{file="{tmp_path}/pipe.prom"}}'] == 1


def test_breaking_and_fixing_a_file_are_logged_once_each(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    file = tmp_path / "a.prom"
    textfile = _textfile(str(tmp_path))
    for text in ("a 1\n", "broken {\n", "broken otherwise\n", "a 12345\n", "a 123456\n"):
        file.write_text(text)
        list(textfile.collect())
        list(textfile.collect())

    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
