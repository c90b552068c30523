"""Sidekiq, from its keys in Redis, which other libraries use too.

`queues` is a set of names and `queue:NAME` a list of JSON jobs, the oldest last. `processes` is a set of keys of hashes
that expire; `KEY:work` holds the jobs that a process runs. The sets `schedule`, `retry` and `dead` hold jobs of all
queues. Layout: https://github.com/sidekiq/sidekiq/blob/main/lib/sidekiq/api.rb.
"""

from __future__ import annotations

from collections import Counter as Count
from typing import TYPE_CHECKING, Literal

from deckwatch.exporter import Counter, Gauge
from deckwatch_exporters.clients.redis.resp import number_of, pack, text_of

from .ages import HeadAges, unix_seconds
from .message import fields_of
from .model import NOTHING_WAITS, Queue
from .redis_broker import RedisBroker, RedisQueuesSettings, found_queues, needs, refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deckwatch.exporter import Finding, Metric

    from .model import Reported

#: By command and key: what Sidekiq keeps for all queues together.
TOTALS: dict[tuple[str, str], Metric] = {
    ("ZCARD", "schedule"): Gauge("sidekiq_scheduled_jobs", "Jobs that are scheduled for later."),
    ("ZCARD", "retry"): Gauge("sidekiq_retry_jobs", "Jobs that failed and are to be retried."),
    ("ZCARD", "dead"): Gauge("sidekiq_dead_jobs", "Jobs that failed for good."),
    ("GET", "stat:processed"): Counter("sidekiq_processed_jobs_total", "Jobs processed, failed ones included."),
    ("GET", "stat:failed"): Counter("sidekiq_failed_jobs_total", "Runs of jobs that failed."),
}


class SidekiqSettings(RedisQueuesSettings):
    """Sidekiq."""

    kind: Literal["sidekiq"]


class SidekiqBroker:
    def __init__(self, settings: SidekiqSettings, redis: RedisBroker | None = None) -> None:
        self._settings = settings
        self._redis = redis or RedisBroker(settings)
        self._ages = HeadAges(_published)

    def read(self) -> Iterator[Reported]:
        names, processes = self._names_and_processes()
        totals = self._redis.ask([pack(command, key) for command, key in TOTALS])
        for ((command, key), metric), reply in zip(TOTALS.items(), totals, strict=True):
            if (problem := refused(command, key, reply)) is not None:
                yield problem
            elif (number := number_of(reply or 0)) is not None:
                yield metric(number)
        consumers, in_flight = Count[str](), Count[str]()
        questions = [(pack("HGET", key, "info"), pack("HVALS", key + b":work")) for key in processes]
        replies = self._redis.ask([command for pair in questions for command in pair])
        for info, works in zip(replies[::2], replies[1::2], strict=True):
            for command, reply in (("HGET", info), ("HVALS", works)):
                if (problem := refused(command, "of a process", reply)) is not None:
                    yield problem
            if isinstance(info, bytes):
                queues = fields_of(info).get("queues")
                consumers.update({str(name) for name in (queues if isinstance(queues, list) else ())})
                in_flight.update(
                    str(fields_of(work).get("queue")) for work in (works if isinstance(works, list) else ())
                )
        yield from self._queues(names, consumers, in_flight)

    def check(self) -> Iterator[Finding]:
        yield from self._redis.check(needs("SMEMBERS", "LLEN", "LINDEX", "ZCARD", "GET", "HGET", "HVALS"))
        yield found_queues(self._names_and_processes()[0], "sidekiq", self._redis.where)

    def close(self) -> None:
        self._redis.close()

    def _names_and_processes(self) -> tuple[list[str], list[bytes]]:
        commands = [pack("SMEMBERS", "queues"), pack("SMEMBERS", "processes")]
        names, processes = self._redis.ask_allowed("SMEMBERS", commands)
        found = {text_of(name) for name in names} if isinstance(names, list) else set()
        keys = [key for key in processes if isinstance(key, bytes)] if isinstance(processes, list) else []
        return sorted({*self._settings.queues, *found}), sorted(keys)

    def _queues(self, names: Sequence[str], consumers: Count[str], in_flight: Count[str]) -> Iterator[Reported]:
        lengths = self._redis.ask_allowed("LLEN", [pack("LLEN", f"queue:{name}") for name in names])
        heads = self._redis.ask([pack("LINDEX", f"queue:{name}", -1) for name in names])
        for name, length, head in zip(names, lengths, heads, strict=True):
            queue = Queue(name, length=number_of(length), consumers=consumers[name], in_flight=in_flight[name])
            for command, reply in (("LLEN", length), ("LINDEX", head)):
                if (problem := refused(command, f"queue:{name}", reply)) is not None:
                    yield problem
            if isinstance(head, bytes):
                queue.oldest = self._ages.age(name, head)
            elif queue.length == 0:
                queue.oldest = NOTHING_WAITS
            yield queue
        self._ages.keep([name for name, head in zip(names, heads, strict=True) if isinstance(head, bytes)])


def _published(job: bytes) -> float | None:
    # Seconds as a float; milliseconds as an integer since Sidekiq 8.
    return unix_seconds(fields_of(job).get("enqueued_at"))
