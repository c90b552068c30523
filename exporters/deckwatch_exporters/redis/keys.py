"""Single keys: size, memory, expiry, and the value if it is a number."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge
from deckwatch_exporters.clients.redis.resp import ReplyError, number_of, pack, text_of

from .keyspace import label_of
from .values import measured

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deckwatch.exporter import Metric, Samples
    from deckwatch_exporters.clients.redis.resp import Reply

    from .keyspace import Keyspace
    from .settings import KeySelection

_KEY = ("db", "key")

SIZE = Gauge(
    "redis_key_size",
    "Size of the key: length of a string or list, number of members or entries, cardinality of a HyperLogLog.",
    _KEY,
)
VALUE = Gauge("redis_key_value", "Value of the key, if it is a number.", _KEY)
MEMORY = Gauge("redis_key_memory_usage_bytes", "Memory used by the key, in bytes.", _KEY)
EXPIRY = Gauge("redis_key_expiry_timestamp_seconds", "Time at which the key expires, in Unix seconds.", _KEY)
COUNT = Gauge("redis_keys_count", "Number of keys that match the pattern.", _KEY)

#: The command that returns the size of a key, by its type.
_SIZES = {
    b"string": "STRLEN",
    b"list": "LLEN",
    b"set": "SCARD",
    b"zset": "ZCARD",
    b"hash": "HLEN",
    b"stream": "XLEN",
    b"vectorset": "VCARD",
    b"array": "ARCOUNT",
}
_LONGEST_NUMBER = 64  # bytes; a longer string is not a number
_LATEST = 2**53  # milliseconds; later than any expiry that makes sense
_NO_EXPIRY = (-1, -2, None)  # the key has none, or is gone
_HYPERLOGLOG = b"HYLL"
_PEXPIRETIME_SINCE = (7,)


def key_samples(keyspace: Keyspace, selections: Sequence[KeySelection], version: tuple[int, ...]) -> Samples:
    for db, keys in keyspace.expand(selections).items():
        yield from _of_database(keyspace, db, keys, version)


def count_samples(keyspace: Keyspace, selections: Sequence[KeySelection]) -> Samples:
    """The number of keys that match each pattern; absent if the scan reached its limit."""
    for selection in selections:
        db = keyspace.db_of(selection)
        result = keyspace.scan(db, selection.scan_pattern)
        if result.is_complete:
            yield COUNT(len(result.keys), db=f"db{db}", key=selection.pattern or selection.key)


def _of_database(keyspace: Keyspace, db: int, keys: Sequence[bytes], version: tuple[int, ...]) -> Samples:
    has_expiry_time = version >= _PEXPIRETIME_SINCE
    expiry = "PEXPIRETIME" if has_expiry_time else "PTTL"
    questions = [[pack("TYPE", key), pack("MEMORY", "USAGE", key), pack(expiry, key)] for key in keys]
    types: dict[bytes, bytes] = {}
    seen: set[str] = set()
    for key, (kind, memory, expires) in zip(keys, keyspace.in_batches(db, questions), strict=True):
        label = label_of(key)
        if not isinstance(kind, bytes) or not kind:
            keyspace.note_malformed(f"TYPE {label}", kind)
            continue
        if kind == b"none" or label in seen:
            continue
        seen.add(label)
        types[key] = kind
        labels = {"db": f"db{db}", "key": label}
        yield from _measured(MEMORY, "MEMORY USAGE", memory, **labels)
        if isinstance(expires, int) and 0 <= (milliseconds := int(expires)) < _LATEST:
            yield EXPIRY(milliseconds / 1000 + (0 if has_expiry_time else time.time()), **labels)
        elif expires not in _NO_EXPIRY:
            keyspace.note_malformed(f"{expiry} {label}", expires)
    sizes = [(key, _size_questions(key, kind)) for key, kind in types.items() if kind in _SIZES]
    hyperloglogs = []
    for (key, _), replies in zip(sizes, keyspace.in_batches(db, [group for _, group in sizes]), strict=True):
        if types[key] == b"string" and replies[1] == _HYPERLOGLOG:
            hyperloglogs.append(key)
        else:
            yield from _size_and_value(f"db{db}", label_of(key), replies)
    counts = keyspace.in_batches(db, [[pack("PFCOUNT", key)] for key in hyperloglogs])
    for key, (count,) in zip(hyperloglogs, counts, strict=True):
        yield from _measured(SIZE, "PFCOUNT", count, db=f"db{db}", key=label_of(key))


def _measured(metric: Metric, command: str, reply: Reply, **labels: str) -> Samples:
    """A reply about a key. Errors are absent: the key is gone or has another type, or the refusal is reported."""
    if not isinstance(reply, ReplyError):
        yield from measured(metric, f"{command} {labels['key']}", reply, **labels)


def _size_questions(key: bytes, kind: bytes) -> list[bytes]:
    size = pack(_SIZES[kind], key)
    if kind != b"string":
        return [size]
    return [size, pack("GETRANGE", key, 0, len(_HYPERLOGLOG) - 1), pack("GETRANGE", key, 0, _LONGEST_NUMBER)]


def _size_and_value(db: str, key: str, replies: Sequence[Reply]) -> Samples:
    yield from _measured(SIZE, "size of", replies[0], db=db, key=key)
    text = text_of(replies[2]) if len(replies) == 3 else ""
    # Python's float() accepts more than numbers: 1_000, infinity.
    if 0 < len(text) <= _LONGEST_NUMBER and text[0] in "+-.0123456789" and "_" not in text:
        value = number_of(text.encode())
        if value is not None:
            yield VALUE(value, db=db, key=key)
