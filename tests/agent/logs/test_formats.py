"""Parsing lines into fields, and unwrapping the formats of container runtimes."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.config.patterns import Pattern
from deckwatch.logs.parsing.formats import (
    Piece,
    cri_piece,
    docker_piece,
    json_fields,
    logfmt_fields,
    regex_fields,
    scalar_text,
)
from deckwatch.logs.parsing.levels import normalized

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deckwatch.config.log_settings import LevelNumbers


@pytest.mark.parametrize(
    "text", ["", "[1]", "1", '"a"', "null", "{", '{"a":1', '{"a":1}x', "{'a':1}", "[" * 10**5, '{"a":' * 10**5]
)
def test_only_a_json_object_has_fields(text: str) -> None:
    assert json_fields(text) is None


def test_deeply_nested_huge_and_duplicate_json_is_safe() -> None:
    assert json_fields('{"a": 1, "a": 2}') == {"a": 2}
    assert json_fields('{"a":' * 10**5 + "1" + "}" * 10**5) is None
    fields = json_fields('{"a": NaN, "b": -Infinity, "c": 3}')
    assert fields is not None
    assert math.isnan(fields["a"])


def test_an_unpaired_surrogate_is_replaced_by_encodable_text() -> None:
    assert json_fields(r'{"a": "x\ud800y", "b": "\ud83d\ude00"}') == {"a": "x\ufffdy", "b": "😀"}


@given(st.dictionaries(st.text(), st.one_of(st.none(), st.booleans(), st.text(), st.lists(st.text()))))
def test_json_written_by_python_is_parsed(fields: dict[str, object]) -> None:
    text = json.dumps(fields)
    found = json_fields(text)
    assert found is not None
    assert "\\ud" in text or found == fields


def test_logfmt_accepts_bare_quoted_and_empty_values() -> None:
    line = r'level=info msg="a \"b\" c\n" empty= quoted="" flag url=http://x/?a=b é=ü'
    assert logfmt_fields(line) == {
        "level": "info",
        "msg": 'a "b" c\n',
        "empty": "",
        "quoted": "",
        "flag": "true",
        "url": "http://x/?a=b",
        "é": "ü",
    }


@pytest.mark.parametrize("text", ["", "just some words", '"quoted"', "= ="])
def test_logfmt_requires_a_key_and_a_value(text: str) -> None:
    assert logfmt_fields(text) is None


WORDS = st.text(st.characters(codec="utf-8", exclude_characters='="\\', exclude_categories=["Z", "C"]), min_size=1)


@given(st.dictionaries(WORDS, st.text(st.characters(codec="utf-8")), min_size=1))
def test_logfmt_values_quoted_as_json_parse_back(fields: dict[str, str]) -> None:
    assert logfmt_fields(" ".join(f"{key}={json.dumps(value)}" for key, value in fields.items())) == fields


@given(st.text())
def test_any_text_is_safe_in_every_format(text: str) -> None:
    for read in (json_fields, logfmt_fields, cri_piece, docker_piece):
        read(text)


def test_regex_gives_the_named_groups_that_matched() -> None:
    pattern = Pattern(r"(?P<level>\w+): (?P<message>.*?)(?: \[(?P<id>\d+)\])?$")
    assert regex_fields(pattern, "ERROR: it broke") == {"level": "ERROR", "message": "it broke"}
    assert regex_fields(pattern, "nothing") is None


def test_cri_lines_are_full_or_partial() -> None:
    assert cri_piece("2026-11-21T08:15:08.1Z stdout F hello  world") == Piece(
        "hello  world", "stdout", "2026-11-21T08:15:08.1Z", False
    )
    assert cri_piece("2026-11-21T08:15:08.1Z stderr P hel") == Piece("hel", "stderr", "2026-11-21T08:15:08.1Z", True)
    assert cri_piece("2026-11-21T08:15:08.1Z stdout F ") == Piece("", "stdout", "2026-11-21T08:15:08.1Z", False)
    assert cri_piece("2026-11-21T08:15:08.1Z stdin F x") is None
    assert cri_piece("hello") is None


def test_docker_lines_without_a_newline_are_continued() -> None:
    assert docker_piece('{"log":"a\\r\\n","stream":"stderr","time":"T"}') == Piece("a", "stderr", "T", False)
    assert docker_piece('{"log":"a","stream":"stdout","time":"T"}') == Piece("a", "stdout", "T", True)
    assert docker_piece('{"log":"\\n"}') == Piece("", "", "", False)
    assert docker_piece('{"log":1}') is None
    assert docker_piece("[]") is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "a"),
        (True, "true"),
        (False, "false"),
        (3, "3"),
        (3.0, "3"),
        (2.5, "2.5"),
        (None, None),
        ([], None),
        ({}, None),
    ],
)
def test_scalars_are_converted_to_text(value: object, text: str | None) -> None:
    assert scalar_text(value) == text


@pytest.mark.parametrize(
    ("level", "name"),
    [
        ("INFO", "info"), ("WARNING", "warning"), ("Warn", "warning"), ("FATAL", "critical"), (" err ", "error"),
        ("E", "error"), ("notice", "info"), (10, "trace"), (20, "debug"), (30, "info"), (40, "warning"), (50, "error"),
        (60, "critical"), (30.0, "info"), ("30", "info"), (35, "info"), (0, "critical"), (3, "error"), ("7", "debug"),
        (8, "unknown"), (70, "unknown"), (-1, "unknown"), (10**40, "unknown"), (float("nan"), "unknown"),
        (True, "unknown"), (None, "unknown"), ("", "unknown"), ("loud", "unknown"), ([], "unknown"),
        ("9" * 5000, "unknown"),
    ],
)  # fmt: skip
def test_level_names_of_all_libraries_are_normalized(level: object, name: str) -> None:
    assert normalized(level) == name


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ("auto", {3: "error", "7": "debug", 30: "info", 50: "error", 8: "unknown"}),
        ("python", {5: "trace", 10: "debug", 20: "info", "30": "warning", 40: "error", 50: "critical"}),
        ("pino", {10: "trace", 30: "info", 40: "warning", 60: "critical", 3: "unknown"}),
        ("syslog", {0: "critical", 4: "warning", 6: "info", 40: "unknown"}),
        ("otel", {1: "trace", 9: "info", 13: "warning", 17: "error", 24: "critical", 25: "unknown", 0: "unknown"}),
    ],
)
def test_numbers_mean_what_the_config_says(numbers: LevelNumbers, expected: Mapping[object, str]) -> None:
    assert {level: normalized(level, numbers) for level in expected} == expected


@pytest.mark.parametrize("text", ["[ERROR]", "ERROR:", "\x1b[31mERROR\x1b[0m", "<error>", "\x1b[1;31m[error]\x1b[0m"])
def test_levels_in_brackets_or_colors_are_recognized(text: str) -> None:
    assert normalized(text) == "error"
