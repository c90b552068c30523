"""Parses push bodies like Loki: JSON, and protobuf in a raw snappy block."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from typing import TYPE_CHECKING

from loki_store import Entry, Labels, Refused, label_text, parse_labels

if TYPE_CHECKING:
    from collections.abc import Iterator

Streams = list[tuple[Labels, list[Entry]]]


def read_push(body: bytes, content_type: str, encoding: str, limit: int) -> Streams:
    """Return the streams of a body. Raises Refused."""
    if len(body) > limit:
        raise Refused(413, f"request body too large: message size too large, {len(body)} > {limit}")
    try:
        if encoding == "gzip":
            body = gzip.decompress(body)
        elif encoding == "deflate":
            body = zlib.decompress(body, -15)  # Go's compress/flate has no zlib header
        elif encoding not in ("", "snappy"):
            raise Refused(400, f'Content-Encoding "{encoding}" not supported')
        kind = content_type.partition(";")[0].strip()
        if kind == "application/json":
            if len(body) > limit:
                raise Refused(413, f"request body too large: decompressed size too large, {len(body)} > {limit}")
            return _from_json(body)
        content = unsnappy(body)
        if len(content) > limit:
            raise Refused(413, f"request body too large: decompressed size too large, {len(content)} > {limit}")
        return _from_protobuf(content)
    except (ValueError, IndexError, OSError, EOFError, zlib.error) as wrong:
        raise Refused(400, f"error decoding the push request: {wrong}") from None


def _from_json(body: bytes) -> Streams:
    streams: Streams = []
    push = json.loads(body.decode("utf-8"))
    if not isinstance(push, dict) or not isinstance(push.get("streams"), list):
        raise ValueError("streams: not an array")
    for stream in push["streams"]:
        labels, values = stream.get("stream"), stream.get("values")
        if not isinstance(labels, dict) or not isinstance(values, list):
            raise ValueError("a stream has `stream`, an object, and `values`, an array")
        _only_text(labels)
        entries: list[Entry] = []
        for value in values:
            if not isinstance(value, list) or not 2 <= len(value) <= 3:
                raise ValueError("array must have at least 2 and up to 3 values")
            if not all(isinstance(text, str) for text in value[:2]) or not re.fullmatch(r"-?[0-9]{1,19}", value[0]):
                raise ValueError("Value looks like object, but can't find closing '}' symbol")
            metadata = value[2] if len(value) == 3 else {}
            if not isinstance(metadata, dict):
                raise ValueError("could not parse structured metadata")
            _only_text(metadata)
            entries.append((int(value[0]), value[1], tuple(sorted(metadata.items()))))
        # Loki formats the labels as text and parses it, which rejects invalid label names.
        streams.append((parse_labels(label_text(tuple(sorted(labels.items())))), entries))
    return streams


def _only_text(pairs: dict[str, object]) -> None:
    for name, value in pairs.items():
        if not isinstance(value, str):
            raise ValueError(f"{name}: a string is wanted")


def _from_protobuf(content: bytes) -> Streams:
    streams: Streams = []
    for number, stream in _fields(content):
        if number != 1 or isinstance(stream, int):
            raise ValueError("not a push request")
        labels: Labels = ()
        entries: list[Entry] = []
        for member, value in _fields(stream):
            assert isinstance(value, bytes)
            if member == 1:
                labels = parse_labels(value.decode("utf-8"))
            elif member == 2:
                entries.append(_entry(value))
        streams.append((labels, entries))
    return streams


def _entry(content: bytes) -> Entry:
    moment, line = 0, ""
    metadata = []
    for number, value in _fields(content):
        assert isinstance(value, bytes)
        if number == 1:
            stamp = {member: part for member, part in _fields(value) if isinstance(part, int)}
            moment = stamp.get(1, 0) * 1_000_000_000 + stamp.get(2, 0)
        elif number == 2:
            line = value.decode("utf-8")
        elif number == 3:
            pair = {member: part.decode("utf-8") for member, part in _fields(value) if isinstance(part, bytes)}
            metadata.append((pair.get(1, ""), pair.get(2, "")))
    return moment, line, tuple(sorted(metadata))


def _fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(content):
        tag, at = _varint(content, at)
        if tag & 7 == 0:
            number, at = _varint(content, at)
            yield tag >> 3, number
        elif tag & 7 == 2:
            length, at = _varint(content, at)
            if at + length > len(content):
                raise ValueError("unexpected EOF")
            yield tag >> 3, content[at : at + length]
            at += length
        else:
            raise ValueError(f"wire type {tag & 7}")


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a varint of more than 64 bits")


def unsnappy(block: bytes) -> bytes:
    """Decompress a raw snappy block (https://github.com/google/snappy/blob/main/format_description.txt)."""
    size, at = _varint(block, 0)
    content = bytearray()
    while at < len(block):
        tag = block[at]
        at += 1
        if tag & 3 == 0:
            length = (tag >> 2) + 1
            if length > 60:
                wide = length - 60
                length = int.from_bytes(block[at : at + wide], "little") + 1
                at += wide
            if at + length > len(block):
                raise ValueError("snappy: corrupt input")
            content += block[at : at + length]
            at += length
            continue
        if tag & 3 == 1:
            length, offset = (tag >> 2 & 7) + 4, (tag >> 5) << 8 | block[at]
            at += 1
        else:
            wide = 2 if tag & 3 == 2 else 4
            length, offset = (tag >> 2) + 1, int.from_bytes(block[at : at + wide], "little")
            at += wide
        if not 0 < offset <= len(content):
            raise ValueError("snappy: corrupt input")
        for _ in range(length):
            content.append(content[-offset])
    if len(content) != size:
        raise ValueError("snappy: corrupt input")
    return bytes(content)
