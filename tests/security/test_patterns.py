"""Log lines and user-defined patterns cannot cause catastrophic backtracking."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from deckwatch.collection.registry import Registry
from deckwatch.config import ConfigError, load_config
from deckwatch.config.log_settings import FileSettings
from deckwatch.config.patterns import AnyOf, Pattern
from deckwatch.logs.loki.refusals import Refusals, parse
from deckwatch.logs.parsing.counts import Counts
from deckwatch.logs.parsing.parser import Parser
from deckwatch_exporters.redis.key_groups import group_name
from deckwatch_exporters.redis.settings import KeyGroupSettings
from security.hostile_texts import BLOW_UP, PARTS, SIZE, TEXTS, cpu_seconds

if TYPE_CHECKING:
    from pathlib import Path

SLOW = (".*error.*", r"\S+@\S+", "^(a+)+$", "(a|aa)+$", r"(\w+\s?)*!", "(a|a.*b)", ".", r"\d", "(?P<x>a+)(?P<y>a+)b")
ACCESS_LOG = r'(?P<ip>\S+) \S+ (?P<user>\S+) \[(?P<time>[^\]]+)\] "(?P<request>[^"]*)" (?P<status>\d+)'

RULES: dict[str, dict[str, Any]] = {
    **{f"drop {pattern}": {"drop": [{"matches": pattern}]} for pattern in SLOW},
    **{f"keep {pattern}": {"keep": [{"matches": pattern}]} for pattern in SLOW},
    **{f"redact {pattern}": {"redact": [{"matches": pattern}]} for pattern in SLOW},
    **{f"regex {pattern}": {"format": "regex", "pattern": f"(?P<all>{pattern})"} for pattern in (*SLOW, ACCESS_LOG)},
    **{f"first line {pattern}": {"multiline": {"first_line": pattern}} for pattern in SLOW},
    **{kind: {"redact": [{"kind": kind}]} for kind in ("email", "card", "token")},
    **{name: {"format": name} for name in ("json", "logfmt", "cri", "docker")},
}


def parsed(text: str, **settings: Any) -> list[str]:
    parser = Parser(FileSettings(path="/x", **{"format": "raw", **settings}), "/x", {}, Counts())
    lines = text.encode().split(b"\n")
    return [entry.text for entry in (*parser.feed(lines, 0), *parser.flush(final=True))]


@pytest.mark.parametrize("rule", RULES)
def test_no_line_slows_down_a_rule(rule: str) -> None:
    for part, text in zip(PARTS, TEXTS, strict=True):
        assert cpu_seconds(lambda text=text: parsed(text, **RULES[rule])) < BLOW_UP, part  # type: ignore[misc]  # a lambda with a default has no type


@pytest.mark.parametrize(
    "part",
    ["1", "a", "{", "entry for stream '{", "stream '{a=\"", "total ignored: 1 out of 2 for stream: {", 'a="\\'],
)
def test_no_loki_response_slows_down_shipping(part: str) -> None:
    for text in (part * (SIZE // len(part)), 'total ignored: 1 out of 1 for stream: {a="' + part * (SIZE // len(part))):
        assert cpu_seconds(lambda text=text: parse(text)) < BLOW_UP  # type: ignore[misc]  # a lambda with a default has no type


def test_a_loki_response_with_an_oversized_number_is_ignored() -> None:
    text = f"stream '{{a=\"b\"}}' has structured metadata too large: '{'1' * 10_000}' bytes"
    assert parse(text) == Refusals()


def test_no_redis_key_slows_down_its_grouping() -> None:
    settings = KeyGroupSettings(patterns=(Pattern("^(a+)+$"), Pattern(r"(\w+\s?)*!")))
    assert cpu_seconds(lambda: group_name("a" * SIZE + "?", settings)) < BLOW_UP


def test_a_redaction_that_takes_too_long_hides_the_rest_of_the_line() -> None:
    (text,) = parsed("a" * SIZE + " the secret a", redact=[{"matches": "(a|a.*b)"}])
    assert "secret" not in text
    assert text.endswith("***")


@pytest.mark.parametrize(
    ("pattern", "construct"),
    [
        ("error(?=:)", "look-around (?= is not supported"),
        ("(?!debug)", "look-around (?! is not supported"),
        ("(?<=x)y", "look-around (?<= is not supported"),
        ("(?<!x)y", "look-around (?<! is not supported"),
        (r"(a)\1", r"backreference \1 is not supported"),
        ("(?P<n>a)(?P=n)", "backreference (?P= is not supported"),
        ("(?>a+)", "atomic group (?> is not supported"),
        ("a++", "possessive quantifier ++ is not supported"),
        (r"a\Z", r"\Z is not supported, the end of the text is \z"),
        ("(a", "missing )"),
    ],
)
def test_an_expression_that_re2_does_not_support_is_reported_with_its_location(
    tmp_path: Path, pattern: str, construct: str
) -> None:
    config = tmp_path / "deckwatch.yml"
    config.write_text(
        "exporters:\n"
        f"  system: {{processes: [{{name: a, match: '{pattern}'}}]}}\n"
        f"  redis: [{{name: a, url: 'redis://h', key_groups: {{patterns: ['{pattern}']}}}}]\n"
        "logs:\n"
        "  loki: {url: 'http://127.0.0.1:3100'}\n"
        "  files:\n"
        "    - path: /var/log/*.log\n"
        "      format: regex\n"
        f"      pattern: '{pattern}'\n"
        f"      drop: [{{matches: '{pattern}'}}]\n"
        f"      redact: [{{matches: '{pattern}'}}]\n"
        f"      multiline: {{first_line: '{pattern}'}}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(config, os.environ, Registry.installed())
    keys = [problem.key for problem in caught.value.problems]
    assert keys == [
        "exporters.system.processes[0].match",
        "exporters.redis[0].key_groups.patterns[0]",
        "logs.files[0].pattern",
        "logs.files[0].drop[0].matches",
        "logs.files[0].redact[0].matches",
        "logs.files[0].multiline.first_line",
    ]
    for problem in caught.value.problems:
        assert problem.expected.startswith("a regular expression that RE2 accepts (")
        assert construct in problem.expected
        assert problem.file == str(config)


def test_an_expression_that_needs_too_much_memory_is_rejected() -> None:
    with pytest.raises(ValueError, match="a shorter regular expression, or one with smaller repeats"):
        Pattern(r"\pL{1,10}")


def test_combined_expressions_find_the_same_matches_as_separate_ones() -> None:
    patterns = [Pattern(text) for text in ("plain", r"^\d+$", "é+", "(?i)LOUD", r"\pL{3}$", "a.c")]
    for text in ("", "a plain text", "123", "123 ", "café", "loud", "abc", "a\nc", "Ünïcödetëxt", "\udcff"):
        assert AnyOf(patterns).search(text) == any(one.search(text) for one in patterns)
    assert not AnyOf([]).search("text")


def test_more_expressions_than_fit_into_one_pass_find_the_same_matches() -> None:
    patterns = [Pattern(rf"\pL{{3}}{number}$") for number in range(20)]
    together = AnyOf(patterns)
    assert all(together.search(f"abc{number}") for number in range(20))
    assert not together.search("ab1")


@pytest.mark.parametrize(
    ("pattern", "text", "replaced"),
    [
        ("b", "abc", "a*c"),
        ("é.", "caféé ñ", "caf* ñ"),
        (r"\d*", "a12b", "a*b"),  # an empty match redacts nothing
        ("x$", "xx", "x*"),
        ("[^a]", "a\udcffa", "a*a"),
    ],
)
def test_matches_are_replaced(pattern: str, text: str, replaced: str) -> None:
    assert Pattern(pattern).replaced(text, "*") == replaced


def test_settings_with_equal_expressions_are_equal() -> None:
    before, after = (FileSettings(path="/x", drop=[{"matches": "a+"}]) for _ in range(2))
    assert before == after
    assert hash(Pattern("a")) == hash(Pattern("a"))
