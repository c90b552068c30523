"""Whatever a file contains, the options of a rule lose no line: each gives one entry, with the right offset."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.config.log_settings import FileSettings
from deckwatch.logs.parsing.counts import Counts
from deckwatch.logs.parsing.parser import Parser

NOW = 1_800_000_000 * 10**9
RULES: list[dict[str, Any]] = [
    {"fields": {"a": "a.b", "b": "tags[0]", "c": "sort(tags)", "d": "join(',', tags)"}, "metadata_fields": ["a", "c"]},
    {"parse": [{"field": "line", "format": "logfmt"}, {"field": "a", "format": "json"}], "output": "{a} {line}{level}"},
    {"format": "regex", "pattern": "(?P<a>[^ ]*)", "output": "{a}", "tenant_field": "a", "timezone": "Europe/Berlin"},
    {"decolorize": True, "redact": [{"matches": "a(?P<secret>.)b"}], "levels": "unchanged", "time_field": ["a"]},
    {"format": "logfmt", "encoding": "utf-16", "output": "{a}"},
    {"encoding": "shift_jis", "drop": [{"match": {"a": "x", "line": "y"}, "longer_than": 1000}]},
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("ab") | st.text(), inner),
)
LINES = st.lists(
    st.binary().map(lambda data: data.replace(b"\n", b""))
    | st.dictionaries(st.sampled_from(["a", "b", "tags", "line", "level", "ts"]), VALUES).map(
        lambda fields: json.dumps(fields).encode()
    )
)


@pytest.mark.parametrize("number", range(len(RULES)))
@given(lines=LINES)
def test_every_line_gives_one_entry_with_its_offset(number: int, lines: list[bytes]) -> None:
    settings = FileSettings.model_validate({"path": "/a", **RULES[number]})
    counts = Counts()
    parser = Parser(settings, "/a", {}, counts, lambda: NOW)
    size = 2 if settings.encoding == "utf-16" else 1
    ends, end = [], 0
    for line in lines:
        end += len(line) + size
        ends.append(end)
    entries = parser.feed(lines, 0) + parser.flush(final=True)

    assert len(entries) == counts.read
    assert {entry.end for entry in entries} <= set(ends)
    assert all(entry.text and 0 <= entry.time < 2**63 for entry in entries)
    assert all(isinstance(text, str) for entry in entries for text in (*entry.metadata.values(), entry.text))
