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
import re
import struct
import zlib
from dataclasses import dataclass
from typing import NamedTuple

from deckwatch.exporter import Exemplar

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


class Entry(NamedTuple):
    """One value of a process, and when it was set last (Unix seconds, 0 if unknown). `key` is for `series_of`."""

    key: bytes
    value: float
    timestamp: float


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


def read(path: str) -> list[Entry]:
    """The values of a file. Raises OSError, and Damaged where it is not in the format."""
    data, places = _entries(path, _PAIR.size)
    return [Entry(key, *_PAIR.unpack_from(data, place)) for key, place in places]


def read_exemplars(path: str) -> dict[bytes, Exemplar]:
    """The exemplars of a file by the key of their value. Raises OSError, and Damaged where it is not in the format."""
    data, places = _entries(path, _EXEMPLAR.size)
    found = {}
    for key, place in places:
        checksum, value, timestamp, text = _EXEMPLAR.unpack_from(data, place)
        if checksum == zlib.crc32(data[place + 8 : place + _EXEMPLAR.size]):  # otherwise it is being replaced
            with contextlib.suppress(ValueError, AttributeError):
                labels = json.loads(text.rstrip(b"\0")).items()
                found[key] = Exemplar(tuple((str(name), str(label)) for name, label in labels), value, timestamp)
    return found


def _entries(path: str, room: int) -> tuple[bytes, list[tuple[bytes, int]]]:
    """The content of a file, its keys, and where the `room` bytes of each key begin."""
    with open(path, "rb") as file:
        head = file.read(_START)
        if len(head) < _START:
            return b"", []  # created a moment ago
        used, version = _HEAD.unpack_from(head)
        if version != _VERSION:
            raise Damaged(f"the file has version {version} of the format; this agent reads version {_VERSION}")
        if used == 0:
            return b"", []
        if not _START <= used <= _MAX_FILE:
            raise Damaged(f"{used} bytes are used")
        data = head + file.read(used - _START)
    if len(data) < used:
        raise Damaged(f"{used} bytes are used, but the file has {len(data)}")
    places, position = [], _START
    last = used - _INT.size
    while position < used:
        length = _INT.unpack_from(data, position)[0] if position <= last else 0
        begin = position + _INT.size
        end = begin + length + 8 - (length + _INT.size) % 8
        position = end + room
        if length <= 0 or position > used:
            raise Damaged("an entry ends early")
        places.append((data[begin : begin + length], end))
    return data, places


@functools.lru_cache(maxsize=100_000)  # the processes of a service have the same keys
def series_of(key: bytes) -> SeriesKey:
    """The series of a key. Raises Damaged."""
    try:
        metric, name, labels, help_text = json.loads(key.decode())
        pairs = tuple((str(label), str(text)) for label, text in labels.items())
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise Damaged("a key is not a JSON list") from None
    return SeriesKey(str(metric), str(name), pairs, str(help_text))
