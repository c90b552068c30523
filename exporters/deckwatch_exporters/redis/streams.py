"""Streams: length, groups, pending entries and their age (https://redis.io/docs/latest/commands/xinfo-groups/)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge, Malformed
from deckwatch_exporters.clients.redis.resp import ReplyError, mapping_of, pack, text_of

from .keyspace import label_of
from .values import measured, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deckwatch.exporter import Metric, Samples
    from deckwatch_exporters.clients.redis.resp import Reply

    from .keyspace import Keyspace
    from .settings import StreamSettings

_STREAM = ("db", "stream")
_GROUP = ("db", "stream", "group")
_CONSUMER = ("db", "stream", "group", "consumer")

#: By field of XINFO STREAM.
NUMBERS: dict[str, Metric] = {
    "length": Gauge("redis_stream_length", "Number of entries in the stream.", _STREAM),
    "radix-tree-keys": Gauge("redis_stream_radix_tree_keys", "Number of keys in the stream's radix tree.", _STREAM),
    "radix-tree-nodes": Gauge("redis_stream_radix_tree_nodes", "Number of nodes in the stream's radix tree.", _STREAM),
    "groups": Gauge("redis_stream_groups", "Number of consumer groups of the stream.", _STREAM),
    "entries-added": Counter("redis_stream_entries_added_total", "Number of entries added to the stream.", _STREAM),
}
IDS: dict[str, Metric] = {
    "last-generated-id": Gauge("redis_stream_last_generated_id", "Last generated ID, in Unix milliseconds.", _STREAM),
    "max-deleted-entry-id": Gauge(
        "redis_stream_max_deleted_entry_id",
        "Highest ID of a deleted entry, in Unix milliseconds; 0 if there is none.",
        _STREAM,
    ),
    "first-entry": Gauge("redis_stream_first_entry_id", "ID of the first entry, in Unix milliseconds.", _STREAM),
    "last-entry": Gauge("redis_stream_last_entry_id", "ID of the last entry, in Unix milliseconds.", _STREAM),
}
#: By field of XINFO GROUPS.
GROUP_NUMBERS: dict[str, Metric] = {
    "consumers": Gauge("redis_stream_group_consumers", "Number of consumers in the group.", _GROUP),
    "pending": Gauge(
        "redis_stream_group_messages_pending",
        "Number of delivered entries that are not acknowledged.",
        _GROUP,
    ),
    "entries-read": Gauge("redis_stream_group_entries_read", "Number of entries that the group has read.", _GROUP),
    "lag": Gauge("redis_stream_group_lag", "Number of entries that are waiting to be delivered to the group.", _GROUP),
}
GROUP_LAST_DELIVERED = Gauge(
    "redis_stream_group_last_delivered_id",
    "ID last delivered to the group, in Unix milliseconds.",
    _GROUP,
)
OLDEST_PENDING = Gauge(
    "redis_stream_group_oldest_pending_timestamp_seconds",
    "Time at which the oldest entry that is not acknowledged was added, in Unix seconds.",
    _GROUP,
)
OLDEST_UNDELIVERED = Gauge(
    "redis_stream_group_oldest_undelivered_timestamp_seconds",
    "Time at which the oldest entry that is waiting to be delivered was added, in Unix seconds.",
    _GROUP,
)
CONSUMER_PENDING = Gauge(
    "redis_stream_group_consumer_messages_pending",
    "Number of entries that the consumer did not acknowledge.",
    _CONSUMER,
)
CONSUMER_IDLE = Gauge(
    "redis_stream_group_consumer_idle_seconds", "Time since the consumer last attempted to read, in seconds.", _CONSUMER
)

#: IDs hold the time unless the producer chooses them: a time before 2001 is not one.
_FIRST_TIME = 1_000_000_000_000
_DIGITS = re.compile(r"[0-9]{1,20}")


def stream_samples(keyspace: Keyspace, selections: Sequence[StreamSettings]) -> Samples:
    seen: set[tuple[int, str]] = set()
    for selection in selections:
        for db, keys in keyspace.expand([selection]).items():
            fresh = []
            for key in keys:
                if (db, label_of(key)) not in seen:
                    seen.add((db, label_of(key)))
                    fresh.append(key)
            questions = [[pack("XINFO", "STREAM", key), pack("XINFO", "GROUPS", key)] for key in fresh]
            for key, (stream, groups) in zip(fresh, keyspace.in_batches(db, questions), strict=True):
                yield from _stream(stream, db=f"db{db}", stream=label_of(key))
                yield from _groups(keyspace, db, key, groups, selection.consumers)


def _named(reply: Reply) -> dict[str, tuple[bytes, dict[str, Reply]]]:
    r"""Groups or consumers by label. If two labels are equal (`\xff` as byte and as text), the first counts."""
    found: dict[str, tuple[bytes, dict[str, Reply]]] = {}
    for entry in reply if isinstance(reply, list) else ():
        fields = mapping_of(entry)
        if isinstance(name := fields.get("name"), bytes):
            found.setdefault(label_of(name), (name, fields))
    return found


def _stream(reply: Reply, **labels: str) -> Samples:
    if isinstance(reply, ReplyError):
        if reply.code == "WRONGTYPE":
            yield Malformed(f"XINFO STREAM {labels['stream']}", reply.message)
        return  # there is no such stream, or the refusal is reported
    fields = mapping_of(reply)
    what = f"XINFO STREAM {labels['stream']}"
    for name, metric in NUMBERS.items():
        yield from measured(metric, f"{what}: {name}", fields.get(name), **labels)
    for name, metric in IDS.items():
        value = fields.get(name)
        yield from _id(metric, f"{what}: {name}", value[0] if isinstance(value, list) and value else value, **labels)


def _groups(keyspace: Keyspace, db: int, key: bytes, reply: Reply, with_consumers: bool) -> Samples:
    what = f"XINFO GROUPS {label_of(key)}"
    groups = _named(reply)
    questions = [_group_questions(key, name, group, with_consumers) for name, group in groups.values()]
    for (label, (_, group)), replies in zip(groups.items(), keyspace.in_batches(db, questions), strict=True):
        labels = {"db": f"db{db}", "stream": label_of(key), "group": label}
        for field, metric in GROUP_NUMBERS.items():
            yield from measured(metric, f"{what} {label}: {field}", group.get(field), **labels)
        delivered = group.get("last-delivered-id")
        yield from _id(GROUP_LAST_DELIVERED, f"{what} {label}: last-delivered-id", delivered, **labels)
        pending, waiting, *consumers = replies
        match pending:
            case [_, bytes(oldest), *_] if (moment := _moment(oldest)) is not None:
                yield OLDEST_PENDING(moment, **labels)
        match waiting:
            case [[bytes(oldest), *_], *_] if (moment := _moment(oldest)) is not None:
                yield OLDEST_UNDELIVERED(moment, **labels)
        yield from _consumers(consumers[0] if consumers else None, labels)


def _group_questions(key: bytes, name: bytes, group: dict[str, Reply], with_consumers: bool) -> list[bytes]:
    questions = [
        pack("XPENDING", key, name),
        # An exclusive start, `(id`, needs Redis 6.2.
        pack("XRANGE", key, _next_id(text_of(group.get("last-delivered-id"))), "+", "COUNT", 1),
    ]
    return [*questions, pack("XINFO", "CONSUMERS", key, name)] if with_consumers else questions


def _consumers(reply: Reply, labels: dict[str, str]) -> Samples:
    for label, (_, consumer) in _named(reply).items():
        what = f"XINFO CONSUMERS {labels['stream']} {labels['group']} {label}"
        yield from measured(CONSUMER_PENDING, f"{what}: pending", consumer.get("pending"), **labels, consumer=label)
        yield from measured(CONSUMER_IDLE, f"{what}: idle", consumer.get("idle"), 1000, **labels, consumer=label)


def milliseconds_of(id: str) -> int | None:
    """The part of `1526919030474-55` before the dash; None for anything that is not an ID."""
    milliseconds, _, sequence = id.partition("-")
    if not _DIGITS.fullmatch(milliseconds) or (sequence and not _DIGITS.fullmatch(sequence)):
        return None
    return int(milliseconds)


def _id(metric: Metric, what: str, value: Reply, **labels: str) -> Samples:
    """The time of an ID; nothing if there is none, as for the first entry of an empty stream."""
    if value is not None:
        milliseconds = milliseconds_of(text_of(value))
        yield Malformed(what, shown(value)) if milliseconds is None else metric(milliseconds, **labels)


def _moment(id: bytes) -> float | None:
    milliseconds = milliseconds_of(text_of(id))
    return milliseconds / 1000 if milliseconds is not None and milliseconds >= _FIRST_TIME else None


def _next_id(id: str) -> str:
    milliseconds, _, sequence = id.partition("-")
    return f"{milliseconds}-{int(sequence) + 1}" if _DIGITS.fullmatch(sequence) else id or "-"
