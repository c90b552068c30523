"""The file format of prometheus_client's multi-process mode.

`{type}_{pid}.db`, for gauges `gauge_{mode}_{pid}.db`: the number of used bytes (int32) and 4 bytes of padding, then
entries: the length of the key (int32), the key as JSON `[metric, name, labels, help]`, 1 to 8 blanks up to a multiple
of 8 bytes, the value and a timestamp (doubles). Numbers are in the byte order of the machine. Source:
prometheus_client/mmap_dict.py.
"""

from __future__ import annotations

import json
import os
import re
import struct
from dataclasses import dataclass
from typing import NamedTuple

_NAME = re.compile(r"(?P<type>counter|histogram|summary|gauge)(?:_(?P<mode>[a-z]+))?_(?P<pid>[0-9]+)\.db")
_INT, _PAIR = struct.Struct("i"), struct.Struct("dd")
_START = 8
_MAX_FILE = 64 * 1024 * 1024


class Value(NamedTuple):
    """One value of a process: the series `name` of `metric`, and when it was set last (Unix seconds, 0 if unknown)."""

    metric: str
    name: str
    labels: tuple[tuple[str, str], ...]
    help: str
    value: float
    timestamp: float


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


def read(path: str) -> list[Value]:
    """The values of a file. Raises OSError, and Damaged where it is not in the format."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size > _MAX_FILE:
            raise Damaged(f"larger than {_MAX_FILE} bytes")
        data = file.read()
    if len(data) < _START:
        return []  # created a moment ago
    (used,) = _INT.unpack_from(data)
    if used == 0:
        return []
    if not _START <= used <= len(data):
        raise Damaged(f"{used} bytes are used, but the file has {len(data)}")
    values, position = [], _START
    while position < used:
        if position + _INT.size > used:
            raise Damaged("an entry ends early")
        (length,) = _INT.unpack_from(data, position)
        begin = position + _INT.size
        padded = length + 8 - (length + _INT.size) % 8
        end = begin + padded
        if length <= 0 or end + _PAIR.size > used:
            raise Damaged("an entry ends early")
        value, timestamp = _PAIR.unpack_from(data, end)
        values.append(_value(data[begin : begin + length], value, timestamp))
        position = end + _PAIR.size
    return values


def _value(key: bytes, value: float, timestamp: float) -> Value:
    try:
        metric, name, labels, help_text = json.loads(key)
        pairs = tuple((str(label), str(text)) for label, text in labels.items())
    except (ValueError, TypeError, AttributeError):
        raise Damaged("a key is not a JSON list") from None
    return Value(str(metric), str(name), pairs, str(help_text), value, timestamp)
