"""Lines that are read in columns give the same entries as lines that are read one by one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.config.log_settings import FileSettings
from deckwatch.logs.entry import Columns
from deckwatch.logs.loki.batch import Batcher, decode, values_of
from deckwatch.logs.parsing.counts import Counts
from deckwatch.logs.parsing.parser import Parser

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = 1_800_000_000 * 10**9
TIME = "2026-11-21T08:15:08.123456+00:00"
#: A rule that keeps every line: with rules, lines are read one by one.
ONE_BY_ONE = {"keep": [{"matches": ""}]}


def _parser(counts: Counts, observe: Any = None, **settings: Any) -> Parser:
    known = {"path": "/var/log/*.log", "labels": {"job": "app"}, **settings}
    return Parser(FileSettings.model_validate(known), "/var/log/a.log", {}, counts, lambda: NOW, observe)


def assert_same(lines: Sequence[bytes], **settings: Any) -> None:
    quick, thorough = Counts(), Counts()
    parser = _parser(quick, **settings)
    expected = _parser(thorough, **settings, **ONE_BY_ONE)
    for start in (0, 1000):  # the second time, streams and the form of times are known
        assert parser.feed(lines, start) == expected.feed(lines, start)
    for name in ("read", "unparsed", "messages", "cut", "nuls", "unread_times"):
        assert getattr(quick, name) == getattr(thorough, name), name
    assert parser.problems == expected.problems


ODD = {
    "two lines that are one value together": [b'{"a":[1', b"2]}", b'{"a":{}', b"}"],
    "two lines that are elements of an array together": [b'{"a":[{}', b'{}],"level":"INFO"}', b'{"a":1},{"b":2}'],
    "two values in one line": [b'{"level":"INFO"}{"level":"ERROR"}', b'{"level":"INFO"} {"level":"ERROR"}'],
    "no object": [b"[]", b"1", b'"x"', b"null", b"not JSON"],
    "blank lines": [b"", b" \t", b"\r", b"\v"],
    "CRLF": [b'{"level":"INFO"}\r', b'{"level":"INFO"}\r\r', b'{"level":"INFO"} '],
    "a byte order mark": [b'\xef\xbb\xbf{"level":"INFO"}'],
    "NULs": [b'\0\0{"level":"INFO"}', b'{"level":"INFO"}\0'],
    "no UTF-8": [b'{"level":"INFO","x":"\xff"}', b'{"level":"\xff"}', b'{"\xed\xa0\x80":1}'],
    "half a surrogate pair": [b'{"level":"INFO","x":"\\ud800"}', b'{"level":"\\udc00"}'],
    "levels that are no text": [b'{"level":%s}' % it for it in (b"30", b"1", b"true", b"1.0", b"0", b'["x"]', b"{}")],
    "levels in other fields": [b'{"levelname":"INFO"}', b'{"level":null,"severity":"W"}', b'{"level":"","lvl":"W"}'],
    "a level beside its number": [b'{"levelno":30,"level":20}', b'{"level":20,"severity":"ERROR"}'],
    "labels that are equal but not the same": [b'{"x":%s}' % it for it in (b"2", b"2.0", b"1", b"true", b"1.0", b"[]")],
    "metadata": [b'{"user":%s}' % it for it in (b'"u"', b'{"id":1}', b"7", b"null", b'""', b"1.5", b"[]")],
    "integers of more than 64 bits": [
        b'{"%s":%s}' % (name, value)
        for name in (b"level", b"user", b"time")
        for value in (b"18446744073709551616", b"9" * 400, b"1" * 5000, b"[1%s]" % (b"0" * 30))
    ],
    "a field twice": [b'{"level":"INFO","level":"ERROR"}'],
    "an escaped name": [b'{"\\u006cevel":"INFO","t\\u0069me":"2026-11-21T08:15:08.123456Z"}'],
    "nesting": [b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}"],
    "times before and after": [
        b'{"time":"%s"}' % it
        for it in (
            b"2026-11-21T08:15:08.123456Z", b"2026-11-21T08:15:08.000001Z", b"2026-11-21T08:15:08.12345Z",
            b"2026-11-21T08:15:08.123456", b"2026-11-21T08:15:08.123456+01:00", b"2026-11-21T08:15:08.12345xZ",
            b"2026-11-21T08:15:09.123456Z", b"2026-11-21T08:15:60.123456Z", "2026-11-21T08:15:08.12345٣Z".encode(),
            b"1970-01-01T00:00:00.000001Z", b"2001-09-09T01:46:39.999999Z", b"2001-09-09T01:46:40.000000Z", b"soon",
        )
    ],
    "times that are no text": [b'{"time":%s}' % it for it in (b"1795248908.25", b"1795248908", b"5", b"true", b"[]")],
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_an_odd_line_among_others_is_read_as_if_it_were_alone(name: str) -> None:
    plain = [f'{{"level":"INFO","time":"2026-11-21T08:15:08.{n:06}Z","x":"a"}}'.encode() for n in range(3)]
    lines = [*plain, *(line for odd in ODD[name] for line in (odd, plain[0]))]
    assert_same(lines)
    assert_same(lines, label_fields={"level": "level", "x": "x"}, levels="unchanged")
    assert_same(ODD[name])


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_line_of_the_longest_size_is_sent_whole_and_a_longer_one_is_cut(size: int) -> None:
    lines = [b'{"level":"INFO"}', b'{"level":"%s"}' % (b"x" * (2000 + size)), b"{}"]
    assert_same(lines, max_line_bytes=2014)


def test_a_name_that_cannot_be_decoded_in_columns_is_read_line_by_line() -> None:
    assert_same([b'{"a\\"b":"x","level":"INFO"}'], metadata_fields=['a"b'])


def test_lines_without_a_time_get_the_time_when_they_are_read() -> None:
    entries = _parser(Counts()).feed([b'{"level":"INFO"}'], 0)
    assert [entry.time for entry in entries] == [NOW]


def test_metrics_see_the_fields_they_need_in_the_order_of_the_lines() -> None:
    metric = {"name": "x_total", "field": "d", "match": {"event": "."}, "labels": {"route": "r"}}
    lines = [
        b'{"d":1.5,"event":"a","r":"/","level":"INFO"}', b"text", b'{"d":10,"r":{"x":1}}', b'{"d":%s}' % (b"9" * 30),
    ]  # fmt: skip
    wanted = ("d", "event", "r")
    seen: list[list[Any]] = [[], []]
    for found, more in zip(seen, ({}, ONE_BY_ONE), strict=True):
        parser = _parser(
            Counts(),
            lambda fields, level, text, found=found: found.append(({it: fields.get(it) for it in wanted}, level, text)),
            metrics=[metric],
            **more,
        )
        parser.feed(lines, 0)
    assert seen[0] == seen[1]
    assert len(seen[0]) == len(lines)


TIMES = st.integers(0, 3).map(lambda n: f"2026-11-21T08:15:08.00000{n}Z") | st.sampled_from(
    ["2026-11-21T08:15:08.001Z", "2026-11-21T08:15:07.5+00:00", "1970-01-01T00:00:00.000001Z", "soon"]
)
FIELDS = st.fixed_dictionaries(
    {"level": st.sampled_from(["INFO", "info", "ERROR"]), "time": TIMES},
    optional={"trace_id": st.text("ab", max_size=3), "x": st.sampled_from(["1", 2, True])},
)


@given(st.lists(st.lists(FIELDS, max_size=6), max_size=4))
def test_columns_and_entries_give_the_same_payload(blocks: list[list[dict[str, Any]]]) -> None:
    by_column, by_entry = Batcher(), Batcher()
    by_column._repeats = by_entry._repeats
    columns, entries = _parser(Counts()), _parser(Counts())
    for block in blocks:
        lines = [json.dumps(fields).encode() for fields in block]
        found = columns.columns(b"\n".join(lines), 0) if lines else []
        assert isinstance(found, Columns) or not lines or any(b"1970" in line for line in lines)
        by_column.add(found)
        by_entry.add(entries.feed(lines, 0))
    assert by_column.lines == by_entry.lines
    first, second = (
        {tuple(part.labels.items()): (values_of(part), part.entries, part.oldest, part.newest) for part in decode(it)}
        for it in (by_column.take({}), by_entry.take({}))
    )
    assert first == second
