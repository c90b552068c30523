"""arq on Redis: a queue is a sorted set of job ids by when they are due, in milliseconds (arq/worker.py).

A running job stays in the queue, and has a key `arq:in-progress:ID`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from deckwatch_exporters.clients.redis.resp import number_of, pack, text_of

from .ages import exact_age
from .model import NOTHING_WAITS
from .redis_broker import RedisQueuesSettings, needs, refused, scores_of
from .redis_layout import Layout, LayoutBroker, Part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from deckwatch.exporter import Finding, Malformed

    from .model import Queue
    from .redis_broker import RedisBroker

_IN_PROGRESS = "arq:in-progress:"
_HEALTH = ":health-check"
_MAX_RUNNING = 1000  # due jobs of a queue that are looked at: those that run are the first


class ArqSettings(RedisQueuesSettings):
    """arq. Queues with keys that do not start with `arq:queue` are found only by `queues`."""

    kind: Literal["arq"]


class ArqBroker(LayoutBroker):
    def __init__(self, settings: ArqSettings, redis: RedisBroker | None = None) -> None:
        super().__init__(
            settings,
            Layout(
                kind="arq",
                pattern="arq:queue*",
                queue_of=lambda key: key.removesuffix(_HEALTH),
                parts=(
                    Part("length", "ZCOUNT", "{queue}", ("-inf", "{now}")),
                    Part("delayed", "ZCOUNT", "{queue}", ("({now}", "+inf")),
                ),
            ),
            redis,
        )

    def check(self) -> Iterator[Finding]:
        yield from self._redis.check(needs("ZRANGE", "EXISTS"))
        yield from super().check()

    def _add_figures(self, queues: Mapping[str, Queue]) -> Iterator[Malformed]:
        yield from super()._add_figures(queues)
        now = time.time()
        heads = self._redis.ask([pack("ZRANGE", name, 0, _MAX_RUNNING - 1, "WITHSCORES") for name in queues])
        due: dict[str, dict[bytes, float]] = {}
        for name, reply in zip(queues, heads, strict=True):
            if (problem := refused("ZRANGE", name, reply)) is not None:
                yield problem
            if (scores := scores_of(reply)) is not None:
                due[name] = {job: score / 1000 for job, score in scores.items() if score / 1000 <= now}
        jobs = [(name, job) for name, found in due.items() for job in found]
        replies = self._redis.ask([pack("EXISTS", _IN_PROGRESS + text_of(job)) for _, job in jobs])
        running: set[tuple[str, bytes]] = set()
        unknown: set[str] = set()
        for (name, job), reply in zip(jobs, replies, strict=True):
            if (problem := refused("EXISTS", _IN_PROGRESS + text_of(job), reply)) is not None:
                if name not in unknown:
                    yield problem
                unknown.add(name)
            elif number_of(reply):
                running.add((name, job))
        for name, found in due.items():
            queue = queues[name]
            if name in unknown or queue.length is None:
                queue.length = queue.oldest = None
                continue
            queue.in_flight = float(sum((name, job) in running for job in found))
            queue.length = max(0.0, queue.length - queue.in_flight)
            waiting = [score for job, score in found.items() if (name, job) not in running]
            queue.oldest = exact_age(min(waiting), now) if waiting else NOTHING_WAITS
