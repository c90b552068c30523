"""Queues of libraries that keep a fixed set of keys for each queue in Redis, read from a description of these keys."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deckwatch.exporter import Malformed, Missing
from deckwatch_exporters.clients.redis.resp import number_of, pack, text_of

from .ages import HeadAges, exact_age, oldest_of, unix_seconds
from .model import NOTHING_WAITS, Queue
from .redis_broker import KeyDiscovery, RedisBroker, found_queues, needs, refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from deckwatch.exporter import Finding
    from deckwatch_exporters.clients.redis.resp import Reply

    from .model import Age, Reported
    from .redis_broker import RedisQueuesSettings


@dataclass(frozen=True)
class Part:
    """A key that counts towards a figure of its queue. `key` holds `{queue}`; `arguments` may hold `{now}`, in ms."""

    figure: str  # a field of Queue
    command: str
    key: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Head:
    """Where the next message is: the reply of `command` is the message, or its id.

    With `record` it is the id: a command, which may contain `{queue}` and `{id}`, reads the record of the message.
    """

    command: str
    key: str
    arguments: tuple[str | int, ...]
    record: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """How a library names its keys. `queue_of` returns the queue of a key that matches `pattern`, or ``."""

    kind: str
    pattern: str
    queue_of: Callable[[str], str]
    parts: Sequence[Part]
    heads: Sequence[Head] = ()
    #: When a message was enqueued, in Unix seconds, from what a head or its record says.
    published: Callable[[bytes], float | None] = unix_seconds


class LayoutBroker:
    """Reads every queue of a layout: one round trip for the counts and heads, one for the records of the heads."""

    def __init__(self, settings: RedisQueuesSettings, layout: Layout, redis: RedisBroker | None = None) -> None:
        self._configured = settings.queues
        self._layout = layout
        self._redis = redis or RedisBroker(settings)
        self._discovery = KeyDiscovery(self._redis, layout.pattern)
        self._ages = HeadAges(layout.published)

    def read(self) -> Iterator[Reported]:
        try:
            names = self._names()
        except Missing as missing:
            if not self._configured:
                raise
            names = sorted(set(self._configured))
            yield Malformed("SCAN", str(missing))
        queues = {name: Queue(name) for name in names}
        yield from self._add_figures(queues)
        yield from queues.values()

    def check(self) -> Iterator[Finding]:
        layout = self._layout
        words = {"SCAN", *(part.command for part in layout.parts), *(head.command for head in layout.heads)}
        words |= {head.record[0] for head in layout.heads if head.record}
        yield from self._redis.check(needs(*sorted(words)))
        yield found_queues(self._names(), layout.kind, self._redis.where)

    def close(self) -> None:
        self._redis.close()

    def _names(self) -> list[str]:
        found = {self._layout.queue_of(text_of(key)) for key in self._discovery.found()}
        return sorted({*self._configured, *found} - {""})

    def _add_figures(self, queues: Mapping[str, Queue]) -> Iterator[Malformed]:
        layout, now = self._layout, str(int(time.time() * 1000))
        parts = [(name, part, part.key.format(queue=name)) for name in queues for part in layout.parts]
        heads = [(name, head) for name in queues for head in layout.heads]
        commands = [pack(part.command, key, *(it.format(now=now) for it in part.arguments)) for _, part, key in parts]
        commands += [pack(head.command, head.key.format(queue=name), *head.arguments) for name, head in heads]
        replies = self._redis.ask_allowed(layout.parts[0].command, commands)
        counted, firsts = replies[: len(parts)], replies[len(parts) :]
        sums: Counter[tuple[str, str]] = Counter()
        unknown: set[tuple[str, str]] = set()
        for (name, part, key), reply in zip(parts, counted, strict=True):
            if (problem := refused(part.command, key, reply)) is not None:
                yield problem
            if (count := number_of(reply)) is None:
                unknown.add((name, part.figure))
            else:
                sums[name, part.figure] += int(count)
        for (name, figure), count in sums.items():
            if (name, figure) not in unknown:
                setattr(queues[name], figure, float(count))
        found: list[tuple[str, Head, bytes]] = []
        for (name, head), reply in zip(heads, firsts, strict=True):
            if (problem := refused(head.command, head.key.format(queue=name), reply)) is not None:
                yield problem
            elif first := _first(reply):
                found.append((name, head, first))
        yield from self._add_ages(queues, found)

    def _add_ages(self, queues: Mapping[str, Queue], heads: Sequence[tuple[str, Head, bytes]]) -> Iterator[Malformed]:
        commands = [
            pack(*(word.format(queue=name, id=text_of(first)) for word in head.record))
            for name, head, first in heads
            if head.record
        ]
        records = iter(self._redis.ask(commands))
        ages: dict[str, list[Age]] = {}
        now = time.time()
        for name, head, first in heads:
            age = self._ages.age((name, head), first)
            if head.record:
                record = next(records)
                if (problem := refused(head.record[0], f"of queue {name}", record)) is not None:
                    yield problem
                if isinstance(record, bytes) and (moment := self._layout.published(record)) is not None:
                    age = exact_age(moment, now)
            ages.setdefault(name, []).append(age)
        self._ages.keep({(name, head) for name, head, _ in heads})
        for name, queue in queues.items():
            if name in ages:
                queue.oldest = oldest_of(ages[name])
            elif queue.length == 0:
                queue.oldest = NOTHING_WAITS


def _first(reply: Reply) -> bytes:
    """The element of LINDEX, or the first of ZRANGE."""
    if isinstance(reply, list):
        reply = reply[0] if reply else None
    return reply if isinstance(reply, bytes) else b""
