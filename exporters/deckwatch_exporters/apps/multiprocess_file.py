"""The file format of prometheus_client's multi-process mode.

`{type}_{pid}.db`, for gauges `gauge_{mode}_{pid}.db`: the number of used bytes (int32) and 4 bytes of padding, then
entries: the length of the key (int32), the key as JSON `[metric, name, labels, help]`, 1 to 8 blanks up to a multiple
of 8 bytes, the value and a timestamp (doubles). Numbers are in the byte order of the machine. Source:
prometheus_client/mmap_dict.py.
"""

from __future__ import annotations

import functools
import json
import re
import struct
from dataclasses import dataclass
from typing import NamedTuple

_NAME = re.compile(r"(?P<type>counter|histogram|summary|gauge)(?:_(?P<mode>[a-z]+))?_(?P<pid>[0-9]+)\.db")
_INT, _PAIR = struct.Struct("i"), struct.Struct("dd")
_START = 8
_MAX_FILE = 64 * 1024 * 1024


class Entry(NamedTuple):
    """One value of a process, and when it was set last (Unix seconds, 0 if unknown). `key` is valid for `series_of`."""

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
    pid: int


def parse_name(name: str) -> FileName | None:
    """The parts of a file's name; None for other files."""
    found = _NAME.fullmatch(name)
    if found is None or (found["type"] == "gauge") != bool(found["mode"]):
        return None
    return FileName(name, found["type"], found["mode"] or "", int(found["pid"]))


def read(path: str) -> list[Entry]:
    """The values of a file. Raises OSError, and Damaged where it is not in the format."""
    with open(path, "rb") as file:
        head = file.read(_START)
        if len(head) < _START:
            return []  # created a moment ago
        (used,) = _INT.unpack_from(head)
        if used == 0:
            return []
        if not _START <= used <= _MAX_FILE:
            raise Damaged(f"{used} bytes are used")
        data = head + file.read(used - _START)
    if len(data) < used:
        raise Damaged(f"{used} bytes are used, but the file has {len(data)}")
    entries, position = [], _START
    last = used - _INT.size
    while position < used:
        length = _INT.unpack_from(data, position)[0] if position <= last else 0
        begin = position + _INT.size
        end = begin + length + 8 - (length + _INT.size) % 8
        position = end + _PAIR.size
        if length <= 0 or position > used:
            raise Damaged("an entry ends early")
        key = data[begin : begin + length]
        series_of(key)
        entries.append(Entry(key, *_PAIR.unpack_from(data, end)))
    return entries


@functools.lru_cache(maxsize=100_000)  # the processes of a service have the same keys
def series_of(key: bytes) -> SeriesKey:
    """The series of a key. Raises Damaged."""
    try:
        metric, name, labels, help_text = json.loads(key)
        pairs = tuple((str(label), str(text)) for label, text in labels.items())
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise Damaged("a key is not a JSON list") from None
    return SeriesKey(str(metric), str(name), pairs, str(help_text))
