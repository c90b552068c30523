"""Payloads decode to what was encoded, and their timestamps are unique within a stream."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.logs.entry import Entry, Labels
from deckwatch.logs.loki.batch import Batcher, counts, decode, decode_header, encode, part_of, values_of

APP: Labels = (("job", "app"),)
WEB: Labels = (("job", "web"), ("level", "info"))
T = 1_700_000_000_000_000_000


def entry(time: int, text: str = "x", labels: Labels = APP, metadata: dict[str, str] | None = None) -> Entry:
    return Entry(labels, time, text, metadata or {}, 0)


def taken(batcher: Batcher) -> dict[str, list[list[Any]]]:
    return {part.labels["job"]: values_of(part) for part in decode(batcher.take({}))}


def times(batcher: Batcher) -> list[int]:
    return [int(value[0]) - T for value in taken(batcher)["app"]]


def test_a_payload_is_a_header_line_and_the_content_of_each_values_array() -> None:
    payload = encode([(APP, [(str(T), 'a "b"'), (str(T + 5), "c", {"k": "v"})])], {"f": [1, "x"]})
    header, _, rest = payload.partition(b"\n")
    values = b'["1700000000000000000","a \\"b\\""],["1700000000000000005","c",{"k":"v"}]'
    assert rest == values
    assert orjson.loads(header) == {
        "p": {"f": [1, "x"]},
        "s": [{"l": {"job": "app"}, "n": 2, "b": len(values), "t": [T, T + 5]}],
    }
    assert counts(payload) == (2, len(values))


TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
LABELS = st.dictionaries(st.sampled_from("abc"), TEXT, min_size=1).map(lambda d: tuple(sorted(d.items())))
ENTRIES = st.lists(
    st.tuples(LABELS, st.integers(0, 2**62), TEXT, st.dictionaries(TEXT, TEXT, max_size=2), st.just(0)), max_size=20
)


@given(ENTRIES)
def test_entries_are_grouped_by_stream_in_order(entries: list[Any]) -> None:
    batcher = Batcher()
    batcher.add([Entry(*parts) for parts in entries])
    payload = batcher.take({"file": [7]})
    expected: dict[Labels, list[Any]] = {}
    for labels, _, text, metadata, _ in entries:
        expected.setdefault(labels, []).append([text, metadata] if metadata else [text])
    parts = decode(payload)
    assert {tuple(part.labels.items()): [value[1:] for value in values_of(part)] for part in parts} == expected
    for part in parts:
        stamps = [int(value[0]) for value in values_of(part)]
        assert (part.oldest, part.newest, part.entries) == (min(stamps), max(stamps), len(stamps))
        assert len(set(stamps)) == len(stamps) or max(stamps) - min(stamps) > 10**6
        assert part_of(part.labels, values_of(part)) == part
    assert decode_header(payload)["p"] == {"file": [7]}


def test_equal_times_are_moved_by_one_nanosecond_each() -> None:
    batcher = Batcher()
    batcher.add([entry(T), entry(T), entry(T), entry(T + 1)])
    assert times(batcher) == [0, 1, 2, 3]
    batcher.add([entry(T), entry(T + 10)])
    assert times(batcher) == [4, 10]


def test_a_time_slightly_before_the_newest_is_moved_after_it() -> None:
    batcher = Batcher()
    batcher.add([entry(T + 999_999), entry(T)])
    assert times(batcher) == [999_999, 1_000_000]


def test_an_earlier_time_changes_only_by_a_running_number() -> None:
    batcher = Batcher()
    batcher.add([entry(T + 10**9), *[entry(T, "same")] * 3, entry(T + 2 * 10**9)])
    first, *back, last = times(batcher)
    assert (first, last) == (10**9, 2 * 10**9)
    assert len(set(back)) == 3
    assert all(0 <= time < 10**6 for time in back)


def test_times_are_unique_per_stream() -> None:
    batcher = Batcher()
    batcher.add([entry(T), entry(T, labels=WEB), entry(T)])
    assert {job: [int(v[0]) - T for v in values] for job, values in taken(batcher).items()} == {
        "app": [0, 1],
        "web": [0],
    }


def test_equal_labels_in_different_objects_are_one_stream() -> None:
    batcher = Batcher(max_streams=3)
    for number in range(100):
        batcher.add([entry(T, str(number), labels=tuple([("job", "app")]))])  # noqa: C409
    assert times(batcher) == list(range(100))


def test_the_least_recently_used_streams_are_forgotten() -> None:
    batcher = Batcher(max_streams=2)
    names: list[Labels] = [(("job", str(number)),) for number in range(3)]
    for labels in (*names[:2], names[0], names[2]):
        batcher.add([entry(T, labels=labels)])
        batcher.take({})
    batcher.add([entry(T, labels=labels) for labels in names])
    assert {job: int(values[0][0]) - T for job, values in taken(batcher).items()} == {"0": 2, "1": 0, "2": 1}


def test_the_next_run_continues_after_the_last_payload() -> None:
    first = Batcher()
    first.add([entry(T), entry(T)])
    payload = first.take({})
    second = Batcher()
    second.resume(payload)
    second.add([entry(T)])
    assert times(second) == [2]


def test_text_that_utf8_cannot_encode_is_replaced() -> None:
    batcher = Batcher()
    batcher.add([entry(T, "a\ud800b", metadata={"k\udfff": "\ud800"})])
    assert taken(batcher)["app"][0][1:] == ["a?b", {"k?": "?"}]


def test_a_payload_without_entries_contains_positions() -> None:
    payload = Batcher().take({"f": [3]})
    assert (decode(payload), counts(payload), decode_header(payload)["p"]) == ([], (0, 0), {"f": [3]})


@pytest.mark.parametrize(
    "payload",
    [b"", b"\n", b"{}\n", b"[]\n", b"x", b'{"p":{},"s":[{"l":{}}]}\n', b'{"p":{},"s":3}\n', encode([], {}) + b"x"],
)
def test_an_invalid_payload_is_rejected(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode(payload)
