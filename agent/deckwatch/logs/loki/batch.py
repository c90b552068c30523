"""Encodes entries as spool payloads, and decodes payloads into the parts of a push.

A payload is one line of JSON, then for each stream the content of the `values` array of Loki's push API:

    {"p": {file: position}, "s": [{"l": {labels}, "n": entries, "b": bytes, "t": [oldest ns, newest ns]}, ...]}\n
    ["<ns>","line"],["<ns>","line",{metadata}]...

A push is assembled from slices of payloads without parsing or encoding them again. Timestamps are final before an
entry is spooled: an entry that is sent twice is identical to the byte, so Loki stores it once.
"""

from __future__ import annotations

import random
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from deckwatch.logs.entry import EARLIEST_OF_COLUMNS, Columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from deckwatch.logs.entry import Entry, Labels

#: An entry in the form of Loki's API: nanoseconds as text, line, and structured metadata if there is any.
Value = tuple[str, str] | tuple[str, str, "Mapping[str, str]"]

_MILLISECOND = 1_000_000
_MAX_STREAMS = 10_000
_NO_TIME = 2**63  # later than any


class Part(NamedTuple):
    """The entries of one stream in a payload: `values` is the content of a JSON array; times are Unix nanoseconds."""

    labels: dict[str, str]
    values: bytes | memoryview
    entries: int
    oldest: int
    newest: int


def encode(streams: Iterable[tuple[Labels, Sequence[Value]]], positions: Mapping[str, Sequence[Any]]) -> bytes:
    """Encode entries and the file positions after them as a payload."""
    parts = []
    for labels, values in streams:
        if values:
            times = [int(value[0]) for value in values]
            parts.append(Part(dict(labels), _values(values), len(values), min(times), max(times)))
    return join(parts, positions)


def join(parts: Sequence[Part], positions: Mapping[str, Sequence[Any]]) -> bytes:
    """Join encoded parts and file positions into a payload."""
    header = {
        "p": positions,
        "s": [
            {"l": part.labels, "n": part.entries, "b": len(part.values), "t": (part.oldest, part.newest)}
            for part in parts
        ],
    }
    return b"".join((orjson.dumps(header), b"\n", *(part.values for part in parts)))


def decode_header(payload: bytes) -> dict[str, Any]:
    """Decode the first line of a payload. Raises ValueError if it is not valid."""
    end = payload.find(b"\n")
    header = orjson.loads(payload[: max(end, 0)])
    if not isinstance(header, dict) or "p" not in header or "s" not in header:
        raise ValueError("not a payload of log entries")
    return header


def counts(payload: bytes) -> tuple[int, int]:
    """Return the number of entries in a payload and the size of their values in bytes."""
    streams = decode_header(payload)["s"]
    return sum(stream["n"] for stream in streams), sum(stream["b"] for stream in streams)


def decode(payload: bytes) -> list[Part]:
    """Return the parts of a payload as views of it. Raises ValueError if it is invalid or truncated."""
    try:
        streams = decode_header(payload)["s"]
        begin = payload.index(b"\n") + 1
        ends = list(accumulate((stream["b"] for stream in streams), initial=begin))
        if ends[-1] != len(payload):
            raise ValueError(f"payload has {len(payload)} bytes, but its header declares {ends[-1]}")
        view = memoryview(payload)
        return [
            Part(stream["l"], view[start:end], stream["n"], *stream["t"])
            for stream, start, end in zip(streams, ends, ends[1:], strict=False)
        ]
    except (KeyError, TypeError) as wrong:
        raise ValueError(f"not a payload of log entries ({wrong!r})") from None


def values_of(part: Part) -> list[list[Any]]:
    """Return the entries of a part, each as `[ns as text, line]` or `[ns as text, line, metadata]`."""
    values: list[list[Any]] = orjson.loads(b"".join((b"[", part.values, b"]")))
    return values


def part_of(labels: dict[str, str], values: Sequence[Sequence[Any]]) -> Part:
    """Encode entries (at least one) that were decoded from a part. Each is encoded to the same bytes as before."""
    times = [int(value[0]) for value in values]
    return Part(labels, orjson.dumps(values)[1:-1], len(values), min(times), max(times))


def _values(values: Sequence[Value]) -> memoryview:
    try:
        data = orjson.dumps(values)
    except TypeError:  # text that UTF-8 cannot encode: a lone surrogate
        data = orjson.dumps([_valid_utf8(value) for value in values])
    return memoryview(data)[1:-1]  # not copied


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
    """A stream: its entries since the last payload and the newest time of all its entries."""

    __slots__ = ("label_sets", "labels", "newest", "newest_text", "oldest", "values")

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.label_sets: list[Labels] = []  # equal tuples, referenced so that their id() is not reused
        self.values: list[Value] = []
        self.newest = -1
        self.newest_text = ""  # while columns are added: in 19 digits, empty if it is shorter
        self.oldest = 0  # of `values`


class Batcher:
    """Groups entries by stream and makes their timestamps unique within it. Used by one thread.

    A time that equals the newest time of the stream, or is less than a millisecond before it, is set to one nanosecond
    after the newest. An earlier time (after a clock change, or with two files in one stream) is moved by a
    running number below one millisecond. Both keep repeated lines distinct; Loki would store them once otherwise.
    """

    def __init__(self, max_streams: int = _MAX_STREAMS) -> None:
        self.lines = 0  # since the last payload
        self._max_streams = max_streams
        self._streams: dict[Labels, _Stream] = {}  # most recently used last
        self._by_id: dict[int, _Stream] = {}  # avoids hashing label sets, which are mostly the same objects
        self._used: list[_Stream] = []
        # Random, so that times moved after a restart do not collide with those moved before it.
        self._repeats = random.randrange(_MILLISECOND)

    def add(self, entries: Columns | Sequence[Entry]) -> None:
        if isinstance(entries, Columns):
            self._add_columns(entries)
            return
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

    def _add_columns(self, columns: Columns) -> None:
        streams = {key: self._by_id.get(id(labels)) or self._find(labels) for key, labels in columns.streams.items()}
        used = dict.fromkeys(streams.values())
        for stream in used:
            stream.newest_text = str(stream.newest) if stream.newest >= EARLIEST_OF_COLUMNS else ""
            if not stream.values:
                stream.oldest = _NO_TIME
                self._used.append(stream)
        times = columns.times
        for index, (key, time) in enumerate(zip(columns.keys, times, strict=True)):
            stream = streams[key]
            if time > stream.newest_text:
                stream.newest_text = time
            else:
                times[index] = self._unique_text(stream, time)
        values: Iterable[Value] = zip(times, columns.texts, strict=True)
        if columns.metadata:
            values = [
                (*value, metadata) if metadata else value
                for value, metadata in zip(values, columns.metadata, strict=True)
            ]
        appends = {key: stream.values.append for key, stream in streams.items()}
        for key, value in zip(columns.keys, values, strict=True):
            appends[key](value)
        for stream in used:
            stream.newest = int(stream.newest_text)
            stream.oldest = min(stream.oldest, int(stream.values[0][0]))
        self.lines += len(columns)

    def _unique_text(self, stream: _Stream, time: str) -> str:
        stream.newest = int(stream.newest_text)
        unique = self._unique_time(stream, int(time))
        stream.newest_text = str(stream.newest)
        return str(unique)

    def take(self, positions: Mapping[str, Sequence[Any]]) -> bytes:
        """Return a payload of these positions and the entries added since the last payload, if any."""
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
        """Account for a payload of an earlier run, so that no new entry gets a time that is used in it."""
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
        elif time < stream.oldest:
            stream.oldest = time
        return time

    @staticmethod
    def _newest_of(stream: _Stream) -> int:
        last = int(stream.values[-1][0])
        if last == stream.newest:  # always, unless the clock went backwards
            return last
        return max(int(value[0]) for value in stream.values)

    def _find(self, labels: Labels) -> _Stream:
        stream = self._streams.get(labels)
        if stream is None:
            stream = self._streams[labels] = _Stream(labels)
        if len(self._by_id) > 4 * self._max_streams:  # the caller creates a new tuple for each entry
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
