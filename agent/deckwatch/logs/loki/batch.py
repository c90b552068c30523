"""Entries of streams as payloads of the spool, and payloads as parts of a push.

A payload is one line of JSON, then for each stream the inside of the `values` array of Loki's push API:

    {"p": {file: position}, "s": [{"l": {labels}, "n": entries, "b": bytes, "t": [oldest ns, newest ns]}, ...]}\n
    ["<ns>","line"],["<ns>","line",{metadata}]...

so that what goes to Loki is joined from slices, without being parsed or written again. Nanoseconds are settled
before an entry is spooled: what is sent twice is the same to the byte, and Loki keeps it once.
"""

from __future__ import annotations

import random
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from deckwatch.logs.entry import Entry, Labels

#: An entry as Loki's API has it: nanoseconds as text, line, and structured metadata where there is some.
Value = tuple[str, str] | tuple[str, str, "Mapping[str, str]"]

_MILLISECOND = 1_000_000
_MAX_STREAMS = 10_000


class Part(NamedTuple):
    """One stream's share of a payload: `values` is the inside of a JSON array; times are Unix nanoseconds."""

    labels: dict[str, str]
    values: bytes | memoryview
    entries: int
    oldest: int
    newest: int


def encode(streams: Iterable[tuple[Labels, Sequence[Value]]], positions: Mapping[str, Sequence[Any]]) -> bytes:
    """A payload of these entries, and of the file positions after them."""
    parts = []
    for labels, values in streams:
        if values:
            times = [int(value[0]) for value in values]
            parts.append(Part(dict(labels), _values(values), len(values), min(times), max(times)))
    return join(parts, positions)


def join(parts: Sequence[Part], positions: Mapping[str, Sequence[Any]]) -> bytes:
    """A payload of parts that are encoded already."""
    header = {
        "p": positions,
        "s": [
            {"l": part.labels, "n": part.entries, "b": len(part.values), "t": (part.oldest, part.newest)}
            for part in parts
        ],
    }
    return b"".join((orjson.dumps(header), b"\n", *(part.values for part in parts)))


def decode_header(payload: bytes) -> dict[str, Any]:
    """The first line of a payload. Raises ValueError where there is none."""
    end = payload.find(b"\n")
    header = orjson.loads(payload[: max(end, 0)])
    if not isinstance(header, dict) or "p" not in header or "s" not in header:
        raise ValueError("not a payload of log entries")
    return header


def counts(payload: bytes) -> tuple[int, int]:
    """Entries, and bytes of their values, in a payload."""
    streams = decode_header(payload)["s"]
    return sum(stream["n"] for stream in streams), sum(stream["b"] for stream in streams)


def decode(payload: bytes) -> list[Part]:
    """The parts of a payload, as views of it. Raises ValueError for what is not one, or is not whole."""
    try:
        streams = decode_header(payload)["s"]
        begin = payload.index(b"\n") + 1
        ends = list(accumulate((stream["b"] for stream in streams), initial=begin))
        if ends[-1] != len(payload):
            raise ValueError(f"a payload of {len(payload)} bytes where {ends[-1]} were announced")
        view = memoryview(payload)
        return [
            Part(stream["l"], view[start:end], stream["n"], *stream["t"])
            for stream, start, end in zip(streams, ends, ends[1:], strict=False)
        ]
    except (KeyError, TypeError) as wrong:
        raise ValueError(f"not a payload of log entries ({wrong!r})") from None


def values_of(part: Part) -> list[list[Any]]:
    """The entries of a part: `[ns as text, line]` or `[ns as text, line, metadata]` each."""
    values: list[list[Any]] = orjson.loads(b"".join((b"[", part.values, b"]")))
    return values


def part_of(labels: dict[str, str], values: Sequence[Sequence[Any]]) -> Part:
    """A part of some of the (at least one) entries of another; the same entry becomes the same bytes again."""
    times = [int(value[0]) for value in values]
    return Part(labels, orjson.dumps(values)[1:-1], len(values), min(times), max(times))


def _values(values: Sequence[Value]) -> bytes:
    try:
        return orjson.dumps(values)[1:-1]
    except TypeError:  # text that UTF-8 cannot carry: half of a surrogate pair
        return orjson.dumps([_valid_utf8(value) for value in values])[1:-1]


def _valid_utf8(value: Value) -> Value:
    time, line, *rest = value
    if not rest:
        return time, _valid_utf8_text(line)
    return (
        time,
        _valid_utf8_text(line),
        {_valid_utf8_text(name): _valid_utf8_text(text) for name, text in rest[0].items()},
    )


def _valid_utf8_text(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


class _Stream:
    """A stream, its entries since the last payload, and the time of its newest entry ever."""

    __slots__ = ("label_sets", "labels", "newest", "oldest", "values")

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.label_sets: list[Labels] = []  # equal tuples; held so that their ids stay theirs
        self.values: list[Value] = []
        self.newest = -1
        self.oldest = 0  # of `values`


class Batcher:
    """Groups entries by stream and makes their nanoseconds unique in it. Of one thread.

    Equal times of a stream become a nanosecond later each, in order, and so does a time less than a millisecond
    before the newest. One further back (a clock that was set, two files in one stream) stays where it is but for
    a running number below a millisecond. Both keep real repeats of a line apart, which Loki would store once.
    """

    def __init__(self, max_streams: int = _MAX_STREAMS) -> None:
        self.lines = 0  # since the last payload
        self._max_streams = max_streams
        self._streams: dict[Labels, _Stream] = {}  # those used last at the end
        self._by_id: dict[int, _Stream] = {}  # label sets are mostly the same objects: a look-up without hashing
        self._used: list[_Stream] = []
        # Not from 0: what went back in time before a restart began there too.
        self._repeats = random.randrange(_MILLISECOND)

    def add(self, entries: Sequence[Entry]) -> None:
        by_id = self._by_id
        for labels, time, text, metadata, _ in entries:
            stream = by_id.get(id(labels))
            if stream is None:
                stream = self._find(labels)
            if time > stream.newest:
                stream.newest = time
            else:
                time = self._unique_time(stream, time)
            values = stream.values
            if not values:
                stream.oldest = time
                self._used.append(stream)
            values.append((str(time), text, metadata) if metadata else (str(time), text))
        self.lines += len(entries)

    def take(self, positions: Mapping[str, Sequence[Any]]) -> bytes:
        """A payload of all that was added since the last one (perhaps nothing), and of these positions."""
        parts = []
        for stream in self._used:
            labels, values = stream.labels, stream.values
            parts.append(Part(dict(labels), _values(values), len(values), stream.oldest, self._newest_of(stream)))
            stream.values = []
            self._streams[labels] = self._streams.pop(labels, stream)
        self._used = []
        self.lines = 0
        self._forget()
        return join(parts, positions)

    def resume(self, payload: bytes) -> None:
        """Go on after a payload of an earlier run: no entry gets a time that its streams had in it."""
        for part in decode(payload):
            stream = self._find(tuple(sorted(part.labels.items())))
            stream.newest = max(stream.newest, part.newest)

    def _unique_time(self, stream: _Stream, time: int) -> int:
        if stream.newest - time < _MILLISECOND:
            stream.newest += 1
            return stream.newest
        self._repeats = (self._repeats + 1) % _MILLISECOND
        time += self._repeats
        if time >= stream.newest:
            stream.newest = time = stream.newest + 1
        elif stream.values and time < stream.oldest:
            stream.oldest = time
        return time

    @staticmethod
    def _newest_of(stream: _Stream) -> int:
        last = int(stream.values[-1][0])
        if last == stream.newest:  # always, but where a clock went back
            return last
        return max(int(value[0]) for value in stream.values)

    def _find(self, labels: Labels) -> _Stream:
        stream = self._streams.get(labels)
        if stream is None:
            stream = self._streams[labels] = _Stream(labels)
        if len(self._by_id) > 4 * self._max_streams:  # a caller that makes a new tuple for each entry
            for known in self._streams.values():
                known.label_sets = []
            self._by_id.clear()
        stream.label_sets.append(labels)
        self._by_id[id(labels)] = stream
        return stream

    def _forget(self) -> None:
        excess = len(self._streams) - self._max_streams
        if excess <= 0:
            return
        for labels in list(self._streams)[:excess]:
            for known in self._streams.pop(labels).label_sets:
                del self._by_id[id(known)]
