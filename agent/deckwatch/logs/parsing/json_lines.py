"""Plain JSON lines to columns of entries: what nearly all lines are, without an object for each of them.

Only the fields that are needed are decoded. Each step is one pass over all lines of a read: most are loops in C.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import orjson

from deckwatch.logs.entry import NO_METADATA, Columns
from deckwatch.logs.parsing.timestamps import as_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from deckwatch.logs.entry import Entry
    from deckwatch.logs.parsing.metadata import MetadataReader
    from deckwatch.logs.parsing.streams import Streams
    from deckwatch.logs.parsing.timestamps import Timestamps


_PLAIN: Final = frozenset((str, type(None)))
_SCALARS: Final = frozenset((str, float, bool, type(None)))
_MAX_INTEGER: Final = 2**63
_ODD: Final = object()  # the key of a line that is read by itself


class Selection(NamedTuple):
    """Which fields to decode, each list in the order of preference. `observed` are those that metrics need."""

    level: tuple[str, ...]
    time: tuple[str, ...]
    metadata: tuple[str, ...]
    labels: tuple[str, ...]
    observed: tuple[str, ...]


class _Rows:
    """Decodes lines to rows: objects with the values of some fields as attributes, None where a line lacks one."""

    def __init__(self, fields: Selection) -> None:
        names = tuple(dict.fromkeys(name for group in fields for name in group))
        attributes = {name: f"f{number}" for number, name in enumerate(names)}
        # No garbage collection: rows live as long as their block, and hold no references to each other.
        row = msgspec.defstruct(
            "Row",
            [(attribute, Any, None) for attribute in attributes.values()],
            rename={attribute: name for name, attribute in attributes.items()},
            gc=False,
        )
        self.empty = row()
        self.decode = msgspec.json.Decoder(row).decode
        self._attributes = attributes

    def column(self, name: str) -> Callable[[Any], Any]:
        """What gives the value of a field in a row."""
        return attrgetter(self._attributes[name])

    def columns(self, names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
        """What gives the values of these fields in a row."""
        if len(names) > 1:
            return attrgetter(*map(self._attributes.__getitem__, names))
        get = [self.column(name) for name in names]
        return lambda row: tuple(one(row) for one in get)


_rows = lru_cache(maxsize=256)(_Rows)  # the class of a row takes 7 kB, and there can be thousands of files


class JsonLines:
    """Reads the lines of one file as JSON objects.

    `level_of` gives the level by the fields of a line that has a number or an object in the first of the level fields.
    `observe` is called with the `observed` fields, the level and the text of each line. Raises ValueError if the name
    of a field cannot be decoded in this way.
    """

    def __init__(
        self,
        fields: Selection,
        streams: Streams,
        timestamps: Timestamps,
        metadata: MetadataReader,
        level_of: Callable[[Mapping[str, Any]], object],
        observe: Callable[[Mapping[str, Any], str, str], None] | None,
    ) -> None:
        rows = _rows(fields)
        self._decode, self._empty = rows.decode, rows.empty
        self._fields = fields
        self._level = [rows.column(name) for name in fields.level]
        self._time = [rows.column(name) for name in fields.time]
        self._labels = [rows.column(name) for name in fields.labels]
        self._levels_of = rows.columns(fields.level)
        self._metadata_of = rows.columns(fields.metadata)
        self._observed_of = rows.columns(fields.observed)
        self._no_metadata = (None,) * len(fields.metadata)
        self._streams = streams
        self._timestamps = timestamps
        self._metadata = metadata
        self._level_of = level_of
        self._observe = observe

    def read(self, block: bytes, now: int, limit: int, read_odd: Callable[[int], Sequence[Entry]]) -> Columns:
        """The entries of lines that have a newline between them. Those without a time get `now` (Unix nanoseconds).

        `read_odd` is called with the index of a line that is no JSON object, is longer than `limit` bytes, or has a
        level, a time or a label that this class does not know. It gives its entry, or nothing if it has none.
        """
        odd: set[int] = set()
        try:
            lines = block.decode().split("\n")
        except UnicodeDecodeError:
            lines = _decoded(block.split(b"\n"), odd)
        rows = self._rows(lines, odd)
        if len(block) > limit:
            odd.update(index for index, line in enumerate(block.split(b"\n")) if len(line) > limit)
        texts = [line.removesuffix("\r") for line in lines] if b"\r" in block else lines
        stamps = _first_values(self._time, rows)
        times = self._timestamps.texts(stamps)
        if not all(times):
            for index, stamp in enumerate(stamps):
                if stamp is None:
                    times[index] = as_text(now)
                if not times[index]:
                    odd.add(index)
        keys = self._keys(rows, lines, odd)
        metadata = self._read_metadata(rows, lines, odd)
        observed: list[Mapping[str, Any]] = []
        if self._observe is not None:
            observed = _mappings(self._fields.observed, map(self._observed_of, rows), lines, odd)
        for index in odd:
            keys[index] = _ODD
        streams, levels = {}, {}
        for key, count in Counter(keys).items():
            if key is not _ODD:
                level, *labels = key if self._labels else (key,)
                streams[key], cell, levels[key] = self._streams.find(level, labels)
                cell[0] += count
        replaced: dict[int, Sequence[Entry]] = {}
        if self._observe is not None:  # in the order of the lines
            for index, (key, fields, text) in enumerate(zip(keys, observed, texts, strict=True)):
                if key is _ODD:
                    replaced[index] = read_odd(index)
                else:
                    self._observe(fields, levels[key], text)
        elif odd:
            replaced = {index: read_odd(index) for index in sorted(odd)}
        columns = Columns(keys, streams, times, texts, metadata)
        if replaced:
            columns.replace(replaced)
        return columns

    def _rows(self, lines: Sequence[str], odd: set[int]) -> list[Any]:
        """The fields of each line. Those that are no JSON objects have none, and their indexes are added to `odd`."""
        try:
            return list(map(self._decode, lines))
        except (ValueError, RecursionError):
            rows = []
        for index, line in enumerate(lines):
            row = self._empty
            try:
                if line.startswith("{"):  # an exception is expensive
                    row = self._decode(line)
            except (ValueError, RecursionError):
                pass
            if row is self._empty:
                odd.add(index)
            rows.append(row)
        return rows

    def _read_metadata(self, rows: list[Any], lines: Sequence[str], odd: set[int]) -> list[Mapping[str, str]]:
        values = list(map(self._metadata_of, rows))
        if values.count(self._no_metadata) == len(values):
            return []
        return [
            self._metadata.read(fields) if fields else NO_METADATA
            for fields in _mappings(self._fields.metadata, values, lines, odd)
        ]

    def _keys(self, rows: list[Any], lines: Sequence[str], odd: set[int]) -> list[Any]:
        """What tells the streams apart: the level where no other field is a label, else the level and their values."""
        levels = _first_values(self._level, rows)
        if not _PLAIN.issuperset(map(type, levels)):
            fields = _mappings(self._fields.level, map(self._levels_of, rows), lines, odd)
            levels = [
                level if type(level) in _PLAIN else self._level_of(of_row)
                for level, of_row in zip(levels, fields, strict=True)
            ]
            _take_out(levels, odd)
        if not self._labels:
            return levels
        columns = [levels, *(list(map(get, rows)) for get in self._labels)]
        for column in columns[1:]:
            if not _PLAIN.issuperset(map(type, column)):
                _take_out(column, odd)
        return list(zip(*columns, strict=True))


def _decoded(lines: Iterable[bytes], odd: set[int]) -> list[str]:
    """The lines as text. Those that are no UTF-8 become empty, and their indexes are added to `odd`."""
    texts = []
    for index, line in enumerate(lines):
        try:
            texts.append(line.decode())
        except UnicodeDecodeError:
            texts.append("")
            odd.add(index)
    return texts


def _first_values(columns: Sequence[Callable[[Any], Any]], rows: Sequence[Any]) -> list[Any]:
    """The first value that is not None in some columns, for each row."""
    first: list[Any] = [None] * len(rows)
    for number, column in enumerate(columns):
        if not number:
            first = list(map(column, rows))
        elif all(first):
            break
        else:
            first = [other if value is None else value for value, other in zip(first, map(column, rows), strict=True)]
    return first


def _take_out(values: list[Any], odd: set[int]) -> None:
    """Note where there are values of which some are equal but not the same text: 1, 1.0 and True."""
    for index, value in enumerate(values):
        if type(value) not in _PLAIN and not (type(value) is int and 1 < value < _MAX_INTEGER):
            values[index] = None
            odd.add(index)


def _mappings(
    names: Sequence[str], values: Iterable[tuple[Any, ...]], lines: Sequence[str], odd: set[int]
) -> list[Mapping[str, Any]]:
    """The fields of each line that are not null, or all of them if any is an array or an object."""
    found: list[Mapping[str, Any]] = []
    for index, of_line in enumerate(values):
        fields: Mapping[str, Any] = {}
        if _SCALARS.issuperset(map(type, of_line)) or all(map(_is_scalar, of_line)):
            fields = {name: value for name, value in zip(names, of_line, strict=True) if value is not None}
        else:
            try:
                fields = orjson.loads(lines[index])
            except ValueError:
                odd.add(index)
        found.append(fields)
    return found


def _is_scalar(value: object) -> bool:
    """Whether a value is a text or number that orjson reads too: it has limits for integers, also within arrays."""
    return type(value) in _SCALARS or (type(value) is int and -_MAX_INTEGER <= value < _MAX_INTEGER)
