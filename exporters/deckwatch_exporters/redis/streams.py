"""Streams: length, groups, what waits in them and for how long (https://redis.io/docs/latest/commands/xinfo-groups/)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge
from deckwatch_exporters.clients.redis.resp import mapping_of, number_of, pack, text_of

from .keyspace import label_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deckwatch.exporter import Metric, Sample
    from deckwatch_exporters.clients.redis.resp import Reply

    from .keyspace import Keyspace
    from .settings import StreamSettings

_STREAM = ("db", "stream")
_GROUP = ("db", "stream", "group")
_CONSUMER = ("db", "stream", "group", "consumer")

#: By field of XINFO STREAM.
NUMBERS: dict[str, Metric] = {
    "length": Gauge("redis_stream_length", "Entries of the stream.", _STREAM),
    "radix-tree-keys": Gauge("redis_stream_radix_tree_keys", "Keys of the stream's radix tree.", _STREAM),
    "radix-tree-nodes": Gauge("redis_stream_radix_tree_nodes", "Nodes of the stream's radix tree.", _STREAM),
    "groups": Gauge("redis_stream_groups", "Groups of the stream.", _STREAM),
    "entries-added": Counter("redis_stream_entries_added_total", "Entries ever added to the stream.", _STREAM),
}
IDS: dict[str, Metric] = {
    "last-generated-id": Gauge(
        "redis_stream_last_generated_id", "Id last given to an entry, in Unix milliseconds.", _STREAM
    ),
    "max-deleted-entry-id": Gauge(
        "redis_stream_max_deleted_entry_id", "Highest id of a deleted entry, in Unix milliseconds; 0 is none.", _STREAM
    ),
    "first-entry": Gauge("redis_stream_first_entry_id", "Id of the first entry, in Unix milliseconds.", _STREAM),
    "last-entry": Gauge("redis_stream_last_entry_id", "Id of the last entry, in Unix milliseconds.", _STREAM),
}
#: By field of XINFO GROUPS.
GROUP_NUMBERS: dict[str, Metric] = {
    "consumers": Gauge("redis_stream_group_consumers", "Consumers of the group.", _GROUP),
    "pending": Gauge("redis_stream_group_messages_pending", "Entries delivered, but not acknowledged.", _GROUP),
    "entries-read": Gauge("redis_stream_group_entries_read", "Entries that the group has read.", _GROUP),
    "lag": Gauge("redis_stream_group_lag", "Entries that wait to be delivered to the group.", _GROUP),
}
GROUP_LAST_DELIVERED = Gauge(
    "redis_stream_group_last_delivered_id", "Id last delivered to the group, in Unix milliseconds.", _GROUP
)
OLDEST_PENDING = Gauge(
    "redis_stream_group_oldest_pending_timestamp_seconds",
    "When the oldest entry that was delivered, but not acknowledged, was added, in Unix seconds.",
    _GROUP,
)
OLDEST_UNDELIVERED = Gauge(
    "redis_stream_group_oldest_undelivered_timestamp_seconds",
    "When the oldest entry that waits to be delivered was added, in Unix seconds.",
    _GROUP,
)
CONSUMER_PENDING = Gauge(
    "redis_stream_group_consumer_messages_pending", "Entries that the consumer has not acknowledged.", _CONSUMER
)
CONSUMER_IDLE = Gauge(
    "redis_stream_group_consumer_idle_seconds", "Seconds since the consumer last asked for entries.", _CONSUMER
)

#: Ids are times unless whoever adds entries makes them up: what lies before 2001 is no time.
_FIRST_TIME = 1_000_000_000_000


def stream_samples(keyspace: Keyspace, selections: Sequence[StreamSettings]) -> Iterator[Sample]:
    told: set[tuple[int, str]] = set()
    for selection in selections:
        for db, keys in keyspace.expand([selection]).items():
            fresh = []
            for key in keys:
                if (db, label_of(key)) not in told:
                    told.add((db, label_of(key)))
                    fresh.append(key)
            questions = [[pack("XINFO", "STREAM", key), pack("XINFO", "GROUPS", key)] for key in fresh]
            for key, (stream, groups) in zip(fresh, keyspace.in_batches(db, questions), strict=True):
                yield from _stream(stream, db=f"db{db}", stream=label_of(key))
                yield from _groups(keyspace, db, key, groups, selection.consumers)


def _named(reply: Reply) -> dict[str, tuple[bytes, dict[str, Reply]]]:
    r"""Groups or consumers by label. A name that is no text may look like one that is (`\xff`): the first is told."""
    found: dict[str, tuple[bytes, dict[str, Reply]]] = {}
    for entry in reply if isinstance(reply, list) else ():
        fields = mapping_of(entry)
        if isinstance(name := fields.get("name"), bytes):
            found.setdefault(label_of(name), (name, fields))
    return found


def _stream(reply: Reply, **labels: str) -> Iterator[Sample]:
    fields = mapping_of(reply)  # empty where the key is missing, or holds something else
    for name, metric in NUMBERS.items():
        if (number := number_of(fields.get(name))) is not None:
            yield metric(number, **labels)
    for name, metric in IDS.items():
        value = fields.get(name)
        entry = value[0] if isinstance(value, list) and value else value
        if (milliseconds := milliseconds_of(text_of(entry))) is not None:
            yield metric(milliseconds, **labels)


def _groups(keyspace: Keyspace, db: int, key: bytes, reply: Reply, with_consumers: bool) -> Iterator[Sample]:
    groups = _named(reply)
    questions = [_group_questions(key, name, group, with_consumers) for name, group in groups.values()]
    for (label, (_, group)), replies in zip(groups.items(), keyspace.in_batches(db, questions), strict=True):
        labels = {"db": f"db{db}", "stream": label_of(key), "group": label}
        for field, metric in GROUP_NUMBERS.items():
            if (number := number_of(group.get(field))) is not None:  # lag and entries-read may be unknown
                yield metric(number, **labels)
        if (delivered := milliseconds_of(text_of(group.get("last-delivered-id")))) is not None:
            yield GROUP_LAST_DELIVERED(delivered, **labels)
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
        # An exclusive beginning, `(id`, is there since Redis 6.2 only.
        pack("XRANGE", key, _next_id(text_of(group.get("last-delivered-id"))), "+", "COUNT", 1),
    ]
    return [*questions, pack("XINFO", "CONSUMERS", key, name)] if with_consumers else questions


def _consumers(reply: Reply, labels: dict[str, str]) -> Iterator[Sample]:
    for label, (_, consumer) in _named(reply).items():
        if (pending := number_of(consumer.get("pending"))) is not None:
            yield CONSUMER_PENDING(pending, **labels, consumer=label)
        if (idle := number_of(consumer.get("idle"))) is not None:
            yield CONSUMER_IDLE(idle / 1000, **labels, consumer=label)


def milliseconds_of(id: str) -> int | None:
    """`1526919030474-55` as the part before the dash; None for what is no id."""
    milliseconds, _, sequence = id.partition("-")
    if not milliseconds.isdecimal() or (sequence and not sequence.isdecimal()):
        return None
    return int(milliseconds)


def _moment(id: bytes) -> float | None:
    milliseconds = milliseconds_of(text_of(id))
    return milliseconds / 1000 if milliseconds is not None and milliseconds >= _FIRST_TIME else None


def _next_id(id: str) -> str:
    milliseconds, _, sequence = id.partition("-")
    return f"{milliseconds}-{int(sequence) + 1}" if sequence.isdecimal() else id or "-"
