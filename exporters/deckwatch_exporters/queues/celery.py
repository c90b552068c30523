r"""Celery on Redis, read from the keys of kombu's transport, so that no worker has to answer or even to exist.

A queue is a list `name` for priority 0 and a list `name\x06\x16N` for each other priority step N. `_kombu.binding.X` is
the set of what is bound to exchange X. A message that a worker has received and not acknowledged is in the hash
`unacked`, as JSON `[message, exchange, routing key]`, and its delivery time is its score in `unacked_index`; both are
shared by all queues of a database. Layout: kombu/transport/redis.py.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from deckwatch.exporter import Finding, Gauge, Malformed, Missing
from deckwatch_exporters.clients.redis.patterns import escape_pattern
from deckwatch_exporters.clients.redis.resp import number_of, pack, text_of

from .ages import HeadAges, oldest_of, unix_seconds
from .celery_events_settings import CeleryEventsSettings
from .celery_events_source import EventSource, RedisEventSource, check_events
from .celery_url import with_kombu_url
from .message import fields_of, json_of
from .model import NOTHING_WAITS, Queue
from .redis_broker import (
    KeyDiscovery,
    RedisBroker,
    RedisQueuesSettings,
    found_queues,
    needs,
    refused,
    scores_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from deckwatch_exporters.clients.redis.resp import Reply

    from .model import Age, Reported

LENGTH = Gauge("celery_queue_length", "Messages that wait in the queue, over all priorities.", ["queue_name"])
UNACKED = Gauge(
    "celery_unacked_messages",
    "Messages delivered to workers and not acknowledged, in all queues of the database, delayed tasks included.",
)

_BINDINGS = "_kombu.binding."
_DEFAULT_EXCHANGE = "celery"
_MESSAGES_AT_ONCE = 100  # they may be large, and an exchange has a limit


class CelerySettings(CeleryEventsSettings, RedisQueuesSettings):
    """Celery on Redis. `priority_steps`, `sep` and `global_keyprefix` are Celery's `broker_transport_options`."""

    kind: Literal["celery"]
    discover: bool = True
    global_keyprefix: str = ""
    priority_steps: tuple[int, ...] = Field(default=(0, 3, 6, 9), min_length=1)
    sep: str = Field(default="\x06\x16", min_length=1)
    timestamp_headers: tuple[str, ...] = ("published_at", "sentry-task-enqueued-time")
    max_unacked: int = Field(default=1000, ge=0, le=100_000)

    @model_validator(mode="before")
    @classmethod
    def _from_kombu_url(cls, value: Any) -> Any:
        return with_kombu_url(value) if isinstance(value, dict) else value


def redis_events(settings: CelerySettings) -> EventSource:
    return RedisEventSource(settings, settings.global_keyprefix)


@dataclass
class Bindings:
    """The queues that exchanges deliver to."""

    queues: set[str] = field(default_factory=set)
    routes: dict[str, list[tuple[str, str, str]]] = field(default_factory=dict)  # by exchange

    def add(self, exchange: str, members: Reply, separator: str) -> None:
        if not isinstance(members, list) or is_internal(exchange):
            return
        for member in members:
            parts = text_of(member).split(separator)
            if len(parts) == 3 and parts[2] and not is_internal(parts[2]):
                self.queues.add(parts[2])
                self.routes.setdefault(exchange, []).append((parts[0], parts[1], parts[2]))

    def queue_of(self, exchange: str, routing_key: str) -> str | None:
        """The queue of a message; None where several or none could be."""
        if not exchange:
            return routing_key
        found = {
            queue
            for key, pattern, queue in self.routes.get(exchange, ())
            if key == routing_key or (pattern and _matches(pattern, routing_key))
        }
        return found.pop() if len(found) == 1 else None


def _matches(pattern: str, routing_key: str) -> bool:
    try:
        return re.fullmatch(pattern, routing_key) is not None
    except re.error:
        return False  # not written by kombu


def is_internal(name: str) -> bool:
    """Whether it carries the remote control or the events of workers, not tasks."""
    return name.endswith(".pidbox") or name == "celeryev" or name.startswith("celeryev.")


@dataclass(frozen=True)
class _Delivery:
    queue: str | None
    due: float  # Unix seconds; 0 without an ETA


class CeleryBroker:
    def __init__(self, settings: CelerySettings, redis: RedisBroker | None = None) -> None:
        self._settings = settings
        self._redis = redis or RedisBroker(settings)
        self._prefix = settings.global_keyprefix
        self._discovery = KeyDiscovery(self._redis, f"{escape_pattern(self._prefix + _BINDINGS)}*")
        self._ages = HeadAges(self._published)
        self._deliveries: dict[bytes, _Delivery] = {}  # by delivery tag

    def read(self) -> Iterator[Reported]:
        try:
            bindings = self._bindings()
        except Missing as missing:
            if not self._settings.queues:
                raise
            bindings = Bindings()
            yield Malformed("SCAN or SMEMBERS of _kombu.binding.*", str(missing))
        names = sorted({*self._settings.queues, *bindings.queues})
        queues, problems = self._lengths(names)
        yield from problems
        yield from self._add_deliveries(queues, bindings)
        for queue in queues.values():
            yield queue
            if queue.length is not None:
                yield LENGTH(queue.length, queue_name=queue.name)

    def check(self) -> Iterator[Finding]:
        yield from self._redis.check(
            needs("LLEN", "LINDEX", "SCAN", "SMEMBERS", "HLEN", "HMGET", "ZRANGE")
            if self._settings.discover
            else needs("LLEN", "LINDEX", "HLEN", "HMGET", "ZRANGE")
        )
        if self._settings.events:
            yield from check_events(redis_events(self._settings))
        names = {*self._settings.queues, *self._bindings().queues}
        yield found_queues(sorted(names), "celery", self._redis.where)

    def close(self) -> None:
        self._redis.close()

    def _bindings(self) -> Bindings:
        found = Bindings()
        if not self._settings.discover:
            return found
        start = self._prefix + _BINDINGS
        # Celery's own default is read without waiting for a walk over a large database.
        exchanges = {_DEFAULT_EXCHANGE, *self._settings.queues}
        exchanges |= {text_of(key).removeprefix(start) for key in self._discovery.found()}
        ordered = sorted(exchanges)
        replies = self._redis.ask_allowed("SMEMBERS", [pack("SMEMBERS", start + exchange) for exchange in ordered])
        for exchange, reply in zip(ordered, replies, strict=True):
            found.add(exchange, reply, self._settings.sep)
        return found

    def _keys_of(self, queue: str) -> list[str]:
        settings = self._settings
        return [f"{self._prefix}{queue}{f'{settings.sep}{step}' if step else ''}" for step in settings.priority_steps]

    def _lengths(self, names: Sequence[str]) -> tuple[dict[str, Queue], list[Malformed]]:
        queues = {name: Queue(name) for name in names}
        problems: list[Malformed] = []
        parts = [(name, key) for name in names for key in self._keys_of(name)]
        waiting: list[tuple[str, str]] = []
        lengths: dict[str, list[float | None]] = {name: [] for name in names}
        for (name, key), reply in zip(
            parts, self._redis.ask_allowed("LLEN", [pack("LLEN", key) for _, key in parts]), strict=True
        ):
            if (problem := refused("LLEN", key, reply)) is not None:
                problems.append(problem)
            length = number_of(reply)
            lengths[name].append(length)
            if length:
                waiting.append((name, key))
        for name, found in lengths.items():
            if None not in found:
                queues[name].length = sum(length for length in found if length is not None)
        ages: dict[str, list[Age]] = {name: [] for name in names}
        try:
            heads = self._redis.ask_allowed("LINDEX", [pack("LINDEX", key, -1) for _, key in waiting])
        except Missing as missing:
            problems.append(Malformed("LINDEX", str(missing)))
            return queues, problems
        for (name, key), head in zip(waiting, heads, strict=True):
            if isinstance(head, bytes):
                ages[name].append(self._ages.age(key, head))
        self._ages.keep({key for _, key in waiting})
        for name, queue in queues.items():
            if queue.length is not None:
                queue.oldest = oldest_of(ages[name]) or (NOTHING_WAITS if queue.length == 0 else None)
        return queues, problems

    def _add_deliveries(self, queues: Mapping[str, Queue], bindings: Bindings) -> Iterator[Reported]:
        limit = self._settings.max_unacked
        unacked, index = self._prefix + "unacked", self._prefix + "unacked_index"
        count, delivered = self._redis.ask([pack("HLEN", unacked), pack("ZRANGE", index, 0, limit, "WITHSCORES")])
        if (total := number_of(count)) is not None:
            yield UNACKED(total)
        for command, key, reply in (("HLEN", unacked, count), ("ZRANGE", index, delivered)):
            if (problem := refused(command, key, reply)) is not None:
                yield problem
        scores = scores_of(delivered)
        if scores is None or len(scores) > limit:
            return  # finding the queue of each would be too expensive
        new = [tag for tag in scores if tag not in self._deliveries]
        self._deliveries = {tag: known for tag, known in self._deliveries.items() if tag in scores}
        for start in range(0, len(new), _MESSAGES_AT_ONCE):
            tags = new[start : start + _MESSAGES_AT_ONCE]
            (messages,) = self._redis.ask([pack("HMGET", unacked, *tags)])
            if (problem := refused("HMGET", unacked, messages)) is not None:
                yield problem
            if not isinstance(messages, list):
                return
            for tag, message in zip(tags, messages, strict=True):
                if isinstance(message, bytes):
                    self._deliveries[tag] = _delivery(message, bindings)
        self._count(queues, scores)

    def _count(self, queues: Mapping[str, Queue], scores: Mapping[bytes, float]) -> None:
        now = time.time()
        delayed: Counter[str | None] = Counter()
        in_flight: Counter[str | None] = Counter()
        oldest: dict[str | None, float] = {}
        for tag, delivery in self._deliveries.items():
            if delivery.due > now:
                delayed[delivery.queue] += 1
                continue
            in_flight[delivery.queue] += 1
            since = max(scores[tag], delivery.due)
            oldest[delivery.queue] = min(since, oldest.get(delivery.queue, since))
        for name, queue in queues.items():
            queue.delayed = delayed[name]
            queue.in_flight = in_flight[name]
            queue.oldest_in_flight = max(0.0, now - oldest[name]) if name in oldest else 0.0

    def _published(self, message: bytes) -> float | None:
        headers = fields_of(message).get("headers")
        if isinstance(headers, dict):
            for name in self._settings.timestamp_headers:
                if (moment := unix_seconds(headers.get(name))) is not None:
                    return moment
        return None  # its age is counted from when it was first seen


def _delivery(text: bytes, bindings: Bindings) -> _Delivery:
    try:
        message, exchange, routing_key = json_of(text)
        due = unix_seconds(message["headers"].get("eta"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return _Delivery(None, 0.0)  # not a message of kombu
    return _Delivery(bindings.queue_of(str(exchange or ""), str(routing_key or "")), due or 0.0)
