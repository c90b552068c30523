"""Figures of single keys: size, memory, expiry, and the value where that is a number."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge
from deckwatch_exporters.clients.redis.resp import number_of, pack, text_of

from .keyspace import label_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deckwatch.exporter import Sample
    from deckwatch_exporters.clients.redis.resp import Reply

    from .keyspace import Keyspace
    from .settings import KeySelection

_KEY = ("db", "key")

SIZE = Gauge(
    "redis_key_size",
    "Size of the key: bytes of a string, members of a collection, entries of a stream, cardinality of a HyperLogLog.",
    _KEY,
)
VALUE = Gauge("redis_key_value", "Value of the key, where it is a number.", _KEY)
MEMORY = Gauge("redis_key_memory_usage_bytes", "Memory that the key takes, in bytes.", _KEY)
EXPIRY = Gauge("redis_key_expiry_timestamp_seconds", "When the key expires, in Unix seconds.", _KEY)
COUNT = Gauge("redis_keys_count", "Keys that match the pattern.", _KEY)

#: What tells the size of a key, by its type.
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
_LONGEST_NUMBER = 64  # bytes; a longer string is not read, whatever is in it
_HYPERLOGLOG = b"HYLL"
_PEXPIRETIME_SINCE = (7,)


def key_samples(keyspace: Keyspace, selections: Sequence[KeySelection], version: tuple[int, ...]) -> Iterator[Sample]:
    for db, keys in keyspace.expand(selections).items():
        yield from _of_database(keyspace, db, keys, version)


def count_samples(keyspace: Keyspace, selections: Sequence[KeySelection]) -> Iterator[Sample]:
    """How many keys match each pattern; absent where the walk ended before it had seen all."""
    for selection in selections:
        db, pattern = keyspace.db_of(selection), selection.pattern or selection.key
        walk = keyspace.walk(db, pattern)
        if walk.is_complete:
            yield COUNT(len(walk.keys), db=f"db{db}", key=pattern)


def _of_database(keyspace: Keyspace, db: int, keys: Sequence[bytes], version: tuple[int, ...]) -> Iterator[Sample]:
    has_expiry_time = version >= _PEXPIRETIME_SINCE
    expiry = "PEXPIRETIME" if has_expiry_time else "PTTL"
    questions = [[pack("TYPE", key), pack("MEMORY", "USAGE", key), pack(expiry, key)] for key in keys]
    types: dict[bytes, bytes] = {}
    seen: set[str] = set()
    for key, (kind, memory, expires) in zip(keys, keyspace.in_batches(db, questions), strict=True):
        label = label_of(key)
        if not isinstance(kind, bytes) or kind == b"none" or label in seen:
            continue
        seen.add(label)
        types[key] = kind
        labels = {"db": f"db{db}", "key": label}
        if (taken := number_of(memory)) is not None:
            yield MEMORY(taken, **labels)
        if (milliseconds := number_of(expires)) is not None and milliseconds >= 0:
            yield EXPIRY(milliseconds / 1000 + (0 if has_expiry_time else time.time()), **labels)
    sizes = [(key, _size_questions(key, kind)) for key, kind in types.items() if kind in _SIZES]
    hyperloglogs = []
    for (key, _), replies in zip(sizes, keyspace.in_batches(db, [group for _, group in sizes]), strict=True):
        if types[key] == b"string" and replies[1] == _HYPERLOGLOG:
            hyperloglogs.append(key)
        else:
            yield from _size_and_value(f"db{db}", label_of(key), replies)
    counts = keyspace.in_batches(db, [[pack("PFCOUNT", key)] for key in hyperloglogs])
    for key, (count,) in zip(hyperloglogs, counts, strict=True):
        if (cardinality := number_of(count)) is not None:
            yield SIZE(cardinality, db=f"db{db}", key=label_of(key))


def _size_questions(key: bytes, kind: bytes) -> list[bytes]:
    size = pack(_SIZES[kind], key)
    if kind != b"string":
        return [size]
    return [size, pack("GETRANGE", key, 0, len(_HYPERLOGLOG) - 1), pack("GETRANGE", key, 0, _LONGEST_NUMBER)]


def _size_and_value(db: str, key: str, replies: Sequence[Reply]) -> Iterator[Sample]:
    size = number_of(replies[0])
    if size is None:
        return
    yield SIZE(size, db=db, key=key)
    if len(replies) == 3 and size <= _LONGEST_NUMBER:
        text = text_of(replies[2])
        # Python reads more than numbers as numbers: 1_000, infinity.
        if text[:1] in "+-.0123456789" and "_" not in text and (value := number_of(text.encode())) is not None:
            yield VALUE(value, db=db, key=key)
