"""RQ, from its keys in Redis, under rq-exporter's names too.

`rq:queues` and `rq:workers` are sets of keys. A queue is a list of job ids with its head at LINDEX 0; its registries
are sorted sets. A worker's hash expires when its heartbeats end.
"""

from __future__ import annotations

import time
from collections import Counter as Count
from typing import TYPE_CHECKING, Literal

from deckwatch.exporter import Counter, Gauge, Malformed
from deckwatch_exporters.clients.redis.resp import number_of, pack, text_of

from .ages import exact_age, unix_seconds
from .model import NOTHING_WAITS, Queue
from .redis_broker import RedisBroker, RedisQueuesSettings, found_queues, needs, refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deckwatch.exporter import Finding, Sample
    from deckwatch_exporters.clients.redis.resp import Reply

    from .model import Reported

JOBS = Gauge("rq_jobs", "Jobs of the queue, by status.", ["queue", "status"])
_WORKER = ("name", "queues")
WORKERS = Gauge("rq_workers", "Workers that are alive, always 1.", ["name", "queues", "state"])
#: By the field of a worker's hash.
WORKER_COUNTERS = {
    "successful_job_count": Counter("rq_workers_success_total", "Jobs that the worker completed.", _WORKER),
    "failed_job_count": Counter("rq_workers_failed_total", "Jobs that failed in the worker.", _WORKER),
    "total_working_time": Counter(
        "rq_workers_working_time_total", "Time that the worker has spent on jobs, in seconds.", _WORKER
    ),
}

_QUEUE_PREFIX = "rq:queue:"
_WORKER_PREFIX = "rq:worker:"
#: By the status of rq_jobs, without `queued`.
_REGISTRIES = {
    "started": "rq:wip:",
    "finished": "rq:finished:",
    "failed": "rq:failed:",
    "deferred": "rq:deferred:",
    "scheduled": "rq:scheduled:",
}


class RqSettings(RedisQueuesSettings):
    """RQ on Redis."""

    kind: Literal["rq"]


class RqBroker:
    def __init__(self, settings: RqSettings, redis: RedisBroker | None = None) -> None:
        self._settings = settings
        self._redis = redis or RedisBroker(settings)

    def read(self) -> Iterator[Reported]:
        names, workers = self._names_and_workers()
        consumers: Count[str] = Count()
        for queues, samples in self._workers(workers):
            yield from samples
            consumers.update(queues)
        yield from self._queues(names, consumers)

    def check(self) -> Iterator[Finding]:
        yield from self._redis.check(needs("SMEMBERS", "LLEN", "LINDEX", "ZCARD", "HMGET", "HGET"))
        yield found_queues(self._names_and_workers()[0], "rq", self._redis.where)

    def close(self) -> None:
        self._redis.close()

    def _names_and_workers(self) -> tuple[list[str], list[bytes]]:
        commands = [pack("SMEMBERS", "rq:queues"), pack("SMEMBERS", "rq:workers")]
        queues, workers = self._redis.ask_allowed("SMEMBERS", commands)
        found = {text_of(key).removeprefix(_QUEUE_PREFIX) for key in queues} if isinstance(queues, list) else set()
        keys = [key for key in workers if isinstance(key, bytes)] if isinstance(workers, list) else []
        return sorted({*self._settings.queues, *found}), sorted(keys)

    def _workers(self, keys: Sequence[bytes]) -> Iterator[tuple[list[str], list[Sample | Malformed]]]:
        fields = ("state", "queues", *WORKER_COUNTERS)
        replies = self._redis.ask([pack("HMGET", key, *fields) for key in keys])
        for key, reply in zip(keys, replies, strict=True):
            name = text_of(key).removeprefix(_WORKER_PREFIX)
            if (problem := refused("HMGET", key, reply)) is not None:
                yield [], [problem]
            match reply:
                case [bytes(state), bytes(queues), *counts]:
                    yield text_of(queues).split(","), list(_worker(name, state, queues, counts))

    def _queues(self, names: Sequence[str], consumers: Count[str]) -> Iterator[Reported]:
        groups = [
            [pack("LLEN", _QUEUE_PREFIX + name), pack("LINDEX", _QUEUE_PREFIX + name, 0)]
            + [pack("ZCARD", prefix + name) for prefix in _REGISTRIES.values()]
            for name in names
        ]
        replies = iter(self._redis.ask_allowed("LLEN", [command for group in groups for command in group]))
        queues: list[Queue] = []
        heads: list[tuple[Queue, bytes]] = []
        for name in names:
            length, head, *registries = [next(replies) for _ in range(2 + len(_REGISTRIES))]
            for command, reply in (("LLEN", length), ("LINDEX", head), *(("ZCARD", it) for it in registries)):
                if (problem := refused(command, f"of queue {name}", reply)) is not None:
                    yield problem
            counts = dict(zip(_REGISTRIES, map(number_of, registries), strict=True))
            queue = Queue(
                name,
                length=number_of(length),
                in_flight=counts["started"],
                delayed=counts["scheduled"],
                dead=counts["failed"],
                consumers=consumers[name],
            )
            queues.append(queue)
            if isinstance(head, bytes):
                heads.append((queue, head))
            elif queue.length == 0:
                queue.oldest = NOTHING_WAITS
            for status, count in {"queued": queue.length, **counts}.items():
                if count is not None:
                    yield JOBS(count, queue=name, status=status)
        moments = self._redis.ask([pack("HGET", f"rq:job:{text_of(id)}", "enqueued_at") for _, id in heads])
        now = time.time()
        for (queue, _), moment in zip(heads, moments, strict=True):
            if (problem := refused("HGET", f"of queue {queue.name}", moment)) is not None:
                yield problem
            elif (published := unix_seconds(moment)) is not None:
                queue.oldest = exact_age(published, now)
        yield from queues


def _worker(name: str, state: bytes, queues: bytes, counts: Sequence[Reply]) -> Iterator[Sample | Malformed]:
    yield WORKERS(1, name=name, queues=text_of(queues), state=text_of(state))
    for (field, metric), count in zip(WORKER_COUNTERS.items(), counts, strict=False):
        number = 0.0 if count is None else number_of(count)  # a worker without jobs has no counters
        if number is not None and number >= 0:
            yield metric(number, name=name, queues=text_of(queues))
        else:
            yield Malformed(f"worker {name}: {field}", text_of(count) or repr(count))
