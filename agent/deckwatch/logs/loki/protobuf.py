"""Encodes Loki's push request as protobuf (pkg/push/push.proto) in a raw snappy block.

    PushRequest { repeated Stream streams = 1; }
    Stream { string labels = 1; repeated Entry entries = 2; }
    Entry { Timestamp timestamp = 1; string line = 2; repeated Pair structuredMetadata = 3; }
    Timestamp { int64 seconds = 1; int32 nanos = 2; }
    Pair { string name = 1; string value = 2; }

The block is compressed if cramjam is installed. Otherwise it consists of literals (slightly larger than its content).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import orjson

from deckwatch.logs.loki.batch import values_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from deckwatch.logs.loki.batch import Part

_LITERAL = 65536  # maximum size of a literal with a two-byte length


def push_request(streams: Iterable[tuple[dict[str, str], Iterable[Part]]]) -> bytes:
    """Encode streams and their parts, in order, without compression."""
    message = []
    for labels, parts in streams:
        entries = [field(1, label_text(labels).encode())]
        for part in parts:
            for time, line, *metadata in values_of(part):
                seconds, nanoseconds = divmod(int(time), 1_000_000_000)
                stamp = b"\x08%b\x10%b" % (varint(seconds), varint(nanoseconds))
                pairs = metadata[0].items() if metadata else ()
                entry = b"".join(
                    (
                        field(1, stamp),
                        field(2, line.encode()),
                        *(field(3, field(1, name.encode()) + field(2, text.encode())) for name, text in pairs),
                    )
                )
                entries.append(field(2, entry))
        message.append(field(1, b"".join(entries)))
    return b"".join(message)


def label_text(labels: dict[str, str]) -> str:
    """Format labels in PromQL syntax: `{job="app", level="info"}`."""
    # Go accepts JSON's escape sequences in strings.
    pairs = ", ".join(f"{name}={orjson.dumps(labels[name]).decode()}" for name in sorted(labels))
    return "{" + pairs + "}"


def snappy() -> Callable[[bytes], bytes]:
    """Return a function that encodes bytes as a raw snappy block."""
    try:
        compress = importlib.import_module("cramjam").snappy.compress_raw
    except ImportError:
        return literals
    return lambda content: bytes(compress(content))


def literals(content: bytes) -> bytes:
    """Encode bytes as a raw snappy block without compression."""
    block = [varint(len(content))]
    for begin in range(0, len(content), _LITERAL):
        literal = content[begin : begin + _LITERAL]
        # The tag of a literal; the next two bytes are its length minus one.
        block += (b"\xf4", (len(literal) - 1).to_bytes(2, "little"), literal)
    return b"".join(block)


def field(number: int, content: bytes) -> bytes:
    return b"%c%b%b" % (number << 3 | 2, varint(len(content)), content)


def varint(value: int) -> bytes:
    value &= 0xFFFF_FFFF_FFFF_FFFF  # negative numbers are encoded in two's complement
    if value < 128:
        return b"%c" % value
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    written.append(value)
    return bytes(written)
