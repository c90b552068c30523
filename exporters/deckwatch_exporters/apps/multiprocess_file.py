"""The file format of prometheus_client's multi-process mode.

`{type}_{process}.db`, for gauges `gauge_{mode}_{process}.db`, where the process is a process id, or `{pid}-{hex}` if
Deckwatch's library wrote the file: the number of used bytes (int32) and the version of the format (int32, always 0),
then entries: the length of the key (int32), the key as JSON `[metric, name, labels, help]`, 1 to 8 blanks up to a
multiple of 8 bytes, the value and a timestamp (doubles). Numbers are in the byte order of the machine. Source:
prometheus_client/mmap_dict.py.

`exemplar_{process}.exemplars`, of Deckwatch's library, has 256 bytes for each key instead of the value and the
timestamp: see deckwatch/sdk/shared_memory.py.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.exporter import Exemplar

if TYPE_CHECKING:
    from collections.abc import Iterator

EXEMPLAR = "exemplar"  # the type of files with exemplars

_NAME = re.compile(
    r"(?P<type>counter|histogram|summary|gauge)(?:_(?P<mode>[a-z]+))?_(?P<process>(?P<pid>[0-9]+)(?:-[0-9a-f]+)?)\.db"
)
_EXEMPLARS = re.compile(r"exemplar_(?P<process>(?P<pid>[0-9]+)-[0-9a-f]+)\.exemplars")
_LOCK = re.compile(r"(?P<process>[0-9]+(?:-[0-9a-f]+)?)\.lock")
_INT, _HEAD, _PAIR = struct.Struct("i"), struct.Struct("ii"), struct.Struct("dd")
_EXEMPLAR = struct.Struct("I4xdd232s")
_START = 8
_VERSION = 0  # what prometheus_client leaves as padding
_MAX_FILE = 64 * 1024 * 1024
_FIRST_READ = 16 * 1024  # bytes; most files are no larger
_MAX_LAYOUTS = 1000


class Entry(NamedTuple):
    """One value of a process, and when it was set last (Unix seconds, 0 if unknown). `key` is for `series_of`."""

    key: bytes
    value: float
    timestamp: float


class Values(NamedTuple):
    """The entries of a file by column. Files with the same keys in the same order share `keys`."""

    keys: tuple[bytes, ...] = ()
    values: tuple[float, ...] = ()
    timestamps: tuple[float, ...] = ()

    def entries(self) -> Iterator[Entry]:
        return map(Entry, self.keys, self.values, self.timestamps)


class SeriesKey(NamedTuple):
    """What a key says: the series `name` of `metric`."""

    metric: str
    name: str
    labels: tuple[tuple[str, str], ...]
    help: str


class Damaged(Exception):
    """The file is not in the format."""


@dataclass(frozen=True)
class FileName:
    """What a file's name says."""

    name: str
    type: str
    mode: str  # of a gauge
    process: str
    pid: int


def parse_name(name: str) -> FileName | None:
    """The parts of a file's name; None for other files."""
    if found := _EXEMPLARS.fullmatch(name):
        return FileName(name, EXEMPLAR, "", found["process"], int(found["pid"]))
    found = _NAME.fullmatch(name)
    if found is None or (found["type"] == "gauge") != bool(found["mode"]):
        return None
    return FileName(name, found["type"], found["mode"] or "", found["process"], int(found["pid"]))


def locked_by(name: str) -> str | None:
    """The process that a file is the lock of; None for other files."""
    found = _LOCK.fullmatch(name)
    return found["process"] if found else None


class _Layout(NamedTuple):
    """The keys of a file, the bytes that precede each value, and the format of the entries."""

    keys: tuple[bytes, ...]
    heads: tuple[bytes, ...]
    format: struct.Struct


class ValuesReader:
    """Reads the values of files. It remembers layouts, because the processes of a service write the same keys."""

    def __init__(self) -> None:
        self._layouts: dict[tuple[str, int], _Layout] = {}  # by the type of the metrics and the used bytes

    def read(self, path: str, kind: str) -> Values:
        """The values of a file. Raises OSError, and Damaged where it is not in the format."""
        data = _content(path)
        if not data:
            return Values()
        layout = self._layouts.get((kind, len(data)))
        if layout is not None:
            fields = layout.format.unpack_from(data, _START)
            if fields[::3] == layout.heads:
                return Values(layout.keys, fields[1::3], fields[2::3])
        layout = _layout(data)
        if len(self._layouts) >= _MAX_LAYOUTS:
            self._layouts.clear()
        self._layouts[kind, len(data)] = layout
        fields = layout.format.unpack_from(data, _START)
        return Values(layout.keys, fields[1::3], fields[2::3])


def _layout(data: bytes) -> _Layout:
    heads, begin = [], _START
    found = _entries(data, _PAIR.size)
    for _, place in found:
        heads.append(data[begin:place])
        begin = place + _PAIR.size
    form = "=" + "".join(f"{len(head)}s2d" for head in heads)
    return _Layout(tuple(key for key, _ in found), tuple(heads), struct.Struct(form))


def read_exemplars(path: str) -> dict[bytes, Exemplar]:
    """The exemplars of a file by the key of their value. Raises OSError, and Damaged where it is not in the format."""
    data = _content(path)
    found = {}
    for key, place in _entries(data, _EXEMPLAR.size):
        checksum, value, timestamp, text = _EXEMPLAR.unpack_from(data, place)
        if checksum == zlib.crc32(data[place + 8 : place + _EXEMPLAR.size]):  # otherwise it is being replaced
            with contextlib.suppress(ValueError, AttributeError):
                labels = json.loads(text.rstrip(b"\0")).items()
                found[key] = Exemplar(tuple((str(name), str(label)) for name, label in labels), value, timestamp)
    return found


def _content(path: str) -> bytes:
    """The used part of a file; empty if nothing is used. Raises OSError and Damaged."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(descriptor, _FIRST_READ)
        if len(data) < _START:
            return b""  # created a moment ago
        used, version = _HEAD.unpack_from(data)
        if version != _VERSION:
            raise Damaged(f"the file has version {version} of the format; this agent reads version {_VERSION}")
        if used == 0:
            return b""
        if not _START <= used <= _MAX_FILE:
            raise Damaged(f"{used} bytes are used")
        while len(data) < used:
            part = os.read(descriptor, used - len(data))
            if not part:
                raise Damaged(f"{used} bytes are used, but the file has {len(data)}")
            data += part
    finally:
        os.close(descriptor)
    return data[:used]


def _entries(data: bytes, room: int) -> list[tuple[bytes, int]]:
    """The keys of a file's content, and where the `room` bytes of each key begin. Raises Damaged."""
    places: list[tuple[bytes, int]] = []
    position, used = _START, len(data)
    last = used - _INT.size
    while position < used:
        length = _INT.unpack_from(data, position)[0] if position <= last else 0
        begin = position + _INT.size
        end = begin + length + 8 - (length + _INT.size) % 8
        position = end + room
        if length <= 0 or position > used:
            raise Damaged("an entry ends early")
        places.append((data[begin : begin + length], end))
    return places


@functools.lru_cache(maxsize=100_000)  # the processes of a service have the same keys
def series_of(key: bytes) -> SeriesKey:
    """The series of a key. Raises Damaged."""
    try:
        metric, name, labels, help_text = json.loads(key.decode())
        pairs = tuple((str(label), str(text)) for label, text in labels.items())
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise Damaged("a key is not a JSON list") from None
    return SeriesKey(str(metric), str(name), pairs, str(help_text))
