"""Rules: dropping lines and redacting text."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.config.log_settings import FileSettings
from deckwatch.config.log_settings_parts import RedactSettings
from deckwatch.logs.parsing.levels import normalized
from deckwatch.logs.parsing.redaction import Redaction, passes_luhn
from deckwatch.logs.parsing.rules import Rules, Sample


def _refused(rules: dict[str, Any], text: str, fields: dict[str, Any]) -> str | None:
    level = fields.get("level")
    settings = FileSettings.model_validate({"path": "x", **rules})
    return Rules(settings).refuse(text, fields, level, normalized(level))


def _redacted(text: str, *kinds: str) -> str:
    return Redaction(tuple(RedactSettings.model_validate({"kind": kind}) for kind in kinds)).text(text)


def test_drop_removes_lines_that_match_any_rule_by_field_level_or_text() -> None:
    rules = {
        "drop": [
            {"field": "path", "matches": "^/health"},
            {"field": "level", "matches": "^debug$"},
            {"matches": "ping"},
        ]
    }
    assert _refused(rules, "x", {"path": "/healthz"}) == "drop"
    assert _refused(rules, "x", {"level": "DEBUG"}) == "drop"
    assert _refused(rules, "a ping", {}) == "drop"
    assert _refused(rules, "x", {"path": "/a/health", "level": "INFO"}) is None
    assert _refused(rules, "x", {"path": None, "level": ["debug"]}) is None


def test_keep_removes_lines_that_match_none_of_its_rules() -> None:
    rules = {"keep": [{"field": "status", "matches": "^5"}, {"field": "level", "matches": "error"}]}
    assert _refused(rules, "x", {"status": 503}) is None
    assert _refused(rules, "x", {"level": "ERROR"}) is None
    assert _refused(rules, "x", {"status": 200, "level": "INFO"}) == "keep"


def test_sample_applies_only_to_its_level() -> None:
    rules = Rules(FileSettings.model_validate({"path": "x", "sample": [{"level": "INFO", "ratio": 0.25}]}))
    said = [rules.refuse("x", {}, "info", "info") for _ in range(8)]
    assert said == [None, "sample", "sample", "sample"] * 2
    assert rules.refuse("x", {}, "error", "error") is None


@given(st.integers(0, 100), st.integers(1, 500))
def test_sample_keeps_its_ratio_exactly_and_the_first_line(percent: int, lines: int) -> None:
    sample = Sample(percent / 100)
    kept = [sample.keeps() for _ in range(lines)]
    assert kept[0] is (percent > 0)
    assert sum(kept) == -(-percent * lines // 100)  # rounded up: the first line is kept


@given(st.integers(0, 10**17))
def test_luhn_accepts_one_check_digit_of_ten(number: int) -> None:
    assert [passes_luhn(f"{number}{digit}") for digit in range(10)].count(True) == 1


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("mail bob.smith+x@example.co.uk now", "mail *** now"),
        (r'{"m": "a\nbob@example.org"}', r'{"m": "a\n***"}'),
        (r'{"m": "\u00e9 bob@example.org"}', r'{"m": "\u00e9 ***"}'),
        (r"CORP\user@example.org", r"CORP\***"),
        ("<bob@example.org>,<eve@example.org>", "<***>,<***>"),
        ("no @ address@ here @x", "no @ address@ here @x"),
    ],
)
def test_email_addresses_are_redacted(text: str, clean: str) -> None:
    assert _redacted(text, "email") == clean


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("card 4111111111111111.", "card ***."),
        ("card 4111 1111 1111 1111 25", "card *** 25"),
        ("5432 4111-1111-1111-1111", "5432 ***"),
        ("2345 4111 1111 1111 1111", "2345 ***"),
        ("amex 3782 822463 10005", "amex ***"),
        (r'"m": "x\n4111111111111111"', r'"m": "x\n***"'),
        ("4111111111111112", "4111111111111112"),
        ("1795248908123456785", "1795248908123456785"),
        ("id a4111111111111111", "id a4111111111111111"),
        ("0.4111111111111111", "0.4111111111111111"),
    ],
)
def test_card_numbers_with_a_valid_check_digit_are_redacted(text: str, clean: str) -> None:
    assert _redacted(text, "card") == clean


JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dBjftJeZ4CVP"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Authorization: Bearer abc.def-123456", "Authorization: ***"),
        ('{"authorization": "Basic dXNlcjpwYXNz"}', '{"authorization": "***"}'),
        ("sent bearer abcdefgh12345 on", "sent bearer *** on"),
        (f"jwt {JWT} end", "jwt *** end"),
        ("id AKIAIOSFODNN7EXAMPLE end", "id *** end"),
        ("GET /?api_key=s3cr3t&x=1", "GET /?api_key=***&x=1"),
        ("password=hunter2, user=bob", "password=***, user=bob"),
        ('{"password": "correct \\"horse\\" battery", "a": 1}', '{"password": "***", "a": 1}'),
        (r'{"m": "{\"token\": \"abc def\"}"}', r'{"m": "{\"token\": \"***\"}"}'),
        ("db_password: 'it is'", "db_password: '***'"),
        ("postgresql://app:s3cret@db/x", "postgresql://app:***@db/x"),
        ("max_tokens: 512, tokens=3", "max_tokens: 512, tokens=3"),
        ("the password was wrong", "the password was wrong"),
    ],
)
def test_credentials_are_redacted_and_their_names_are_kept(text: str, clean: str) -> None:
    assert _redacted(text, "token") == clean


def test_the_replacement_of_a_custom_pattern_is_literal() -> None:
    rule = RedactSettings(kind="pattern", matches=r"\d+", replacement=r"\1<n>")
    assert Redaction((rule,)).text("a 12 b 3") == r"a \1<n> b \1<n>"


@pytest.mark.parametrize(
    "unit", ["a", "a.", "1", "4", "4111 ", "a@", "\\", '\\"', "eyJa", "password=", 'token="', "bearer ", "://a:"]
)
def test_redacting_a_line_is_linear_in_its_length(unit: str) -> None:
    """Takes a second or two; quadratic time would be hours."""
    _redacted((unit * 1_000_000)[:1_000_000], "email", "card", "token")


@given(st.text())
def test_redaction_never_raises(text: str) -> None:
    assert isinstance(_redacted(text, "email", "card", "token"), str)
    assert re.search(r"\bbob@example\.org\b", _redacted(f"{text} bob@example.org", "email")) is None
