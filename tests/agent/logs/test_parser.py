"""Parsing lines of a file into entries: text, labels, timestamp, and the offset to continue from."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.config.log_settings import FileSettings
from deckwatch.logs.parsing.counts import Counts
from deckwatch.logs.parsing.parser import Parser

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deckwatch.logs.entry import Entry

NOW = 1_800_000_000 * 10**9
MOMENT = 1_795_248_908 * 10**9
TIME = "2026-11-21T08:15:08Z"


def _parser(counts: Counts | None = None, **settings: Any) -> Parser:
    known = {"path": "/var/log/*.log", "labels": {"job": "app"}, "filename_label": False, **settings}
    return Parser(FileSettings.model_validate(known), "/var/log/a.log", {}, counts or Counts(), lambda: NOW)


def _one(line: bytes | dict[str, Any], **settings: Any) -> Entry:
    data = json.dumps(line).encode() if isinstance(line, dict) else line
    parser = _parser(**settings)
    entries = parser.feed([data], 0) + parser.flush(final=True)
    assert len(entries) == 1
    return entries[0]


def test_json_line_is_sent_unchanged_with_level_label_time_and_metadata() -> None:
    line = {"timestamp": "2026-11-21T09:15:08.5+01:00", "levelname": "WARNING", "trace_id": "t1", "user": {"id": 1}}
    entry = _one(line)
    assert entry.labels == (("job", "app"), ("level", "warning"))
    assert entry.time == MOMENT + 500_000_000
    assert json.loads(entry.text) == line
    assert entry.metadata == {"trace_id": "t1", "user": '{"id":1}'}
    assert entry.end == len(json.dumps(line)) + 1


@pytest.mark.parametrize(
    "line",
    [
        {"text": "x", "record": {"level": {"name": "ERROR", "no": 40}, "time": {"repr": TIME}, "extra": {"id": "7"}}},
        {
            "record.level.name": "error",
            "record.time.repr": TIME,
            "record": {"level": {"name": "info"}},
            "trace_id": "t",
        },
    ],
)
def test_fields_inside_objects_are_found_by_dotted_names_and_fields_that_are_called_so_count_first(
    line: dict[str, Any],
) -> None:
    entry = _one(
        line,
        level_field=["record.level.name"],
        time_field=["record.time.repr"],
        metadata_fields=["record.extra.id", "trace_id"],
    )
    assert entry.labels == (("job", "app"), ("level", "error"))
    assert entry.time == MOMENT
    assert entry.metadata == ({"record_extra_id": "7"} if "text" in line else {"trace_id": "t"})


@pytest.mark.parametrize(
    "line", [{"log": "text"}, {"log": None}, {"log": {"level": {"name": "error"}}}, {}, {"log": []}]
)
def test_a_dotted_name_that_leads_nowhere_is_no_field(line: dict[str, Any]) -> None:
    assert _one(line, level_field=["log.level"]).labels == (("job", "app"),)


@pytest.mark.parametrize("format_", ["json", "logfmt", "cri", "docker", "regex"])
def test_malformed_line_is_sent_raw_with_the_read_time_and_is_counted(format_: str) -> None:
    counts = Counts()
    parser = _parser(counts, format=format_, pattern="^(?P<level>[A-Z]+):" if format_ == "regex" else None)
    (entry,) = parser.feed([b"not \xff that"], 100)
    assert entry == ((("job", "app"),), NOW, "not \ufffd that", {}, 111)
    assert (counts.unparsed, counts.read, counts.messages) == (1, 1, {("app", "unknown"): 1})


def test_blank_lines_are_skipped_but_advance_the_offset() -> None:
    counts = Counts()
    assert [entry.end for entry in _parser(counts).feed([b"", b"{}", b"\r", b"  ", b"{}\r"], 10)] == [14, 23]
    assert counts.read == 2


def test_entries_of_a_stream_share_one_tuple_of_labels() -> None:
    parser = _parser(label_fields={"level": "level", "logger": "logger"})
    lines = [json.dumps({"level": "INFO", "logger": "a", "n": n}).encode() for n in range(5)]
    entries = parser.feed(lines, 0) + parser.feed(lines, 500)
    assert len({id(entry.labels) for entry in entries}) == 1


def test_empty_and_non_scalar_labels_and_unknown_levels_are_omitted() -> None:
    fields = {"a": "a", "b": "b", "c": "c", "d": "d", "level": "level"}
    entry = _one({"a": "", "b": [1], "c": True, "d": 2.5, "level": "loud"}, label_fields=fields)
    assert dict(entry.labels) == {"job": "app", "c": "true", "d": "2.5"}


def test_numbers_and_booleans_of_the_same_key_are_different_labels() -> None:
    parser = _parser(label_fields={"x": "x"})
    lines = [json.dumps({"x": value}).encode() for value in (1, True, 1.5, 0, False, 1)]
    assert [dict(entry.labels)["x"] for entry in parser.feed(lines, 0)] == ["1", "true", "1.5", "0", "false", "1"]


def test_label_value_is_truncated_at_lokis_limit() -> None:
    assert len(dict(_one({"x": "é" * 3000}, label_fields={"x": "x"}).labels)["x"].encode()) == 2048


def test_labels_beyond_fifteen_are_omitted_and_reported_once() -> None:
    parser = _parser(label_fields={f"l{n}": f"l{n}" for n in range(20)})
    lines = [json.dumps({f"l{n}": f"{n}-{line}" for n in range(20)}).encode() for line in range(3)]
    entries = parser.feed(lines, 0)
    assert {len(entry.labels) for entry in entries} == {15}
    assert all(("job", "app") in entry.labels for entry in entries)
    assert len(parser.problems) == 1


def test_filename_and_extra_labels_are_added() -> None:
    settings = FileSettings.model_validate({"path": "x", "labels": {"env": "mine"}})
    parser = Parser(settings, "/var/log/a.log", {"env": "prod", "host": "h"}, Counts())
    assert parser.feed([b"{}"], 0)[0].labels == (("env", "mine"), ("filename", "/var/log/a.log"), ("host", "h"))


def test_messages_are_counted_by_job_and_level_even_if_dropped() -> None:
    counts = Counts()
    parser = _parser(counts, drop=[{"field": "level", "matches": "info"}])
    parser.feed([b'{"level":"INFO"}', b'{"level":50}', b'{"level":"error"}', b"{}"], 0)
    assert counts.messages == {("app", "info"): 1, ("app", "error"): 2, ("app", "unknown"): 1}
    assert counts.dropped == {"drop": 1}


def test_jobs_beyond_the_budget_are_counted_as_other() -> None:
    counts = Counts()
    parser = _parser(counts, label_fields={"job": "job"})
    parser.feed([json.dumps({"job": f"j{n}"}).encode() for n in range(300)], 0)
    assert len(counts.messages) == 101
    assert counts.messages["other", "unknown"] == 200


def test_redaction_covers_text_metadata_and_labels() -> None:
    counts = Counts()
    parser = _parser(counts, redact=[{"kind": "email"}], label_fields={"who": "user"})
    (entry,) = parser.feed([b'{"user": "bob@example.org"}'], 0)
    assert (entry.text, entry.metadata) == ('{"user": "***"}', {"user": "***"})
    assert dict(entry.labels)["who"] == "***"
    assert counts.redacted == 1


def test_truncated_line_is_marked_within_the_limit_and_offsets_include_the_missing_part() -> None:
    counts = Counts()
    parser = _parser(counts, format="raw", max_line_bytes=100)
    first, second = parser.feed([b"x" * 100, b"y"], 0, {0: 900})
    assert len(first.text) <= 100
    assert first.text.endswith(" bytes missing]")
    kept = first.text.index(" [cut, ")
    assert first.metadata == {"deckwatch_cut": str(1000 - kept)}
    assert (first.end, second.end, counts.cut) == (1001, 1003, 1)


@pytest.mark.parametrize("format_", ["raw", "json"])
def test_text_that_grows_when_decoded_stays_within_the_limit(format_: str) -> None:
    assert len(_one(b"\xff" * 200, format=format_, max_line_bytes=256).text.encode()) <= 256


def test_container_lines_are_joined_and_their_json_is_parsed_for_level_and_metadata() -> None:
    inner = json.dumps({"level": "ERROR", "request_id": "r", "time": "2020-01-01T00:00:00Z"})
    cri = [f"{TIME} stdout P {inner[:20]}".encode(), f"{TIME} stdout F {inner[20:]}".encode()]
    docker = [
        json.dumps({"log": inner[:20], "stream": "stdout", "time": TIME}).encode(),
        json.dumps({"log": inner[20:] + "\n", "stream": "stdout", "time": TIME}).encode(),
    ]
    for format_, lines in (("cri", cri), ("docker", docker)):
        parser = _parser(format=format_)
        assert parser.feed(lines[:1], 0) == []
        assert parser.pending_start == 0
        (entry,) = parser.feed(lines[1:], len(lines[0]) + 1)
        assert entry.labels == (("job", "app"), ("level", "error"))
        assert (entry.time, entry.text) == (MOMENT, inner)
        assert entry.metadata == {"request_id": "r", "stream": "stdout"}
        assert entry.end == sum(len(line) + 1 for line in lines)


def test_traceback_with_blank_lines_is_one_entry() -> None:
    parser = _parser(format="raw", multiline={"first_line": r"^\S"})
    lines = [b"Traceback:", b"  File", b"", b"  x()", b"next"]
    (entry,) = parser.feed(lines, 0)
    assert (entry.text, entry.end) == ("Traceback:\n  File\n\n  x()", 25)
    assert parser.pending_start == 25
    assert [entry.text for entry in parser.flush(final=True)] == ["next"]


def test_json_object_over_many_lines_is_one_entry() -> None:
    parser = _parser(multiline={"first_line": "^{"})
    entries = parser.feed([b"{", b' "level": "error"', b"}"], 0) + parser.flush(final=True)
    assert [dict(entry.labels)["level"] for entry in entries] == ["error"]


def test_level_and_time_are_read_from_regex_and_logfmt_fields() -> None:
    pattern = r"^(?P<time>\S+) (?P<level>\w+)"
    for line, settings in (
        (f"{TIME} ERR it broke", {"format": "regex", "pattern": pattern}),
        (f'level=err ts={TIME} msg="it broke"', {"format": "logfmt"}),
    ):
        entry = _one(line.encode(), **settings)
        assert (entry.text, entry.time, dict(entry.labels)["level"]) == (line, MOMENT, "error")


def test_next_time_field_is_used_if_the_first_is_not_a_time() -> None:
    assert _one({"timestamp": "soon", "ts": MOMENT // 10**9}).time == MOMENT
    assert _one({"timestamp": "soon"}).time == NOW


def test_structured_metadata_stays_within_lokis_limit() -> None:
    fields = {f"m{n}": "x" * 1000 for n in range(200)}
    metadata = _one(fields, metadata_fields=tuple(fields)).metadata
    assert sum(len(name) + len(value) for name, value in metadata.items()) <= 64 * 1024
    assert len(_one(dict.fromkeys(fields, "x"), metadata_fields=tuple(fields)).metadata) <= 128


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.lists(st.integers()),
    st.sampled_from(["INFO", TIME, 30]),
)
FIELDS = st.dictionaries(st.sampled_from(["level", "timestamp", "time", "trace_id", "user", "x"]), VALUES)
LINES = st.lists(
    st.one_of(
        st.binary(),
        FIELDS.map(lambda fields: json.dumps(fields).encode()),
        FIELDS.map(lambda fields: json.dumps(fields, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\r"),
    ).map(lambda data: data.replace(b"\n", b"")),
    max_size=8,
)


def _ends(lines: Sequence[bytes]) -> list[int]:
    ends, end = [], 7
    for line in lines:
        end += len(line) + 1
        if line.lstrip(b"\0").removesuffix(b"\r").strip():
            ends.append(end)
    return ends


@given(LINES, st.sampled_from(["json", "raw", "logfmt"]))
def test_any_bytes_give_one_entry_per_line_with_its_exact_end_offset(lines: list[bytes], format_: str) -> None:
    entries = _parser(format=format_, label_fields={"level": "level", "x": "x"}).feed(lines, 7)
    assert [entry.end for entry in entries] == _ends(lines)
    for entry in entries:
        assert 0 <= entry.time < 2**63
        json.dumps(entry).encode()
        "".join((entry.text, *entry.metadata.values(), *(value for _, value in entry.labels))).encode()


@given(LINES)
def test_fast_and_full_json_parsing_give_the_same_result(lines: list[bytes]) -> None:
    quick, thorough = Counts(), Counts()
    entries = _parser(quick).feed(lines, 0)
    assert entries == _parser(thorough, keep=[{"matches": ""}]).feed(lines, 0)
    assert (quick.read, quick.unparsed, quick.messages) == (thorough.read, thorough.unparsed, thorough.messages)


@given(LINES, st.sampled_from(["cri", "docker"]), st.booleans())
def test_any_bytes_in_container_format_keep_their_order(lines: list[bytes], format_: str, many: bool) -> None:
    parser = _parser(format=format_, multiline={"first_line": "^a"} if many else None)
    ends = [entry.end for entry in parser.feed(lines, 0) + parser.flush(final=True)]
    assert ends == sorted(ends)
    assert parser.pending_start is None


def test_asctime_timestamps_are_local_time() -> None:
    expected = int(datetime(2026, 11, 21, 8, 15, 8).timestamp()) * 10**9 + 123_000_000
    assert _one({"asctime": "2026-11-21 08:15:08,123"}).time == expected


def test_times_that_cannot_be_read_are_counted_and_reported_once() -> None:
    settings = FileSettings.model_validate({"path": "x", "time_format": "%Y %Z"})
    counts = Counts()
    parser = Parser(settings, "x", {}, counts)
    lines = [b'{"timestamp": "2026 EST"}', b'{"timestamp": "soon"}', b'{"timestamp": ""}', b'{"time": 0.25}', b"{}"]
    assert len(parser.feed(lines, 0)) == 5
    assert counts.unread_times == 2
    assert len(parser.problems) == 1
    assert "timestamp" in parser.problems[0]


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ({"level": 40, "levelname": "ERROR"}, "error"),
        ({"levelno": 40}, "error"),
        ({"level": 40, "levelno": 40}, "error"),
        ({"level": 40}, "warning"),  # pino
        ({"severity": 3}, "error"),  # syslog
        ({"level": "[ERROR]", "levelno": 10}, "error"),
        ({"level": True}, None),
    ],
)
@pytest.mark.parametrize("drop", [[], [{"matches": "never"}]], ids=["fast", "full"])
def test_names_of_levels_count_before_numbers(line: dict[str, Any], level: str | None, drop: list[Any]) -> None:
    settings = FileSettings.model_validate({"path": "x", "drop": drop})
    parser = Parser(settings, "x", {}, Counts())
    data = json.dumps({**line, "timestamp": "2026-11-21T12:00:00.5Z"}).encode()
    for _ in range(3):  # the first one is never fast
        (entry,) = parser.feed([data], 0)
        assert dict(entry.labels).get("level") == level
