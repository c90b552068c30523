"""Odd replies of Redis about one queue: no run fails, and the other queues keep their values."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from databases import RedisServer, redis_server
from deckwatch.testing import Collected, opened
from deckwatch_exporters.clients.redis.connection import Connection
from deckwatch_exporters.queues import EXPORTER
from exporters.queues.support import of_queue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import redis

    from deckwatch_exporters.clients.redis.resp import Reply

ODD: list[Any] = [
    None, b"", b"(null)", b"-5", -5, b"18446744073709551617", 2**63 - 1, b"\xff\xfe", b"nan", b"1e999", b"[" * 10_000,
    [], [None], [[]], [b"x"] * 5, [b"a", b"b", b"c"], {}, {b"a": b"b"}, b'{"a": null}', True, 1.5,
]  # fmt: skip
_NOW = time.time()


def _lists(client: redis.Redis, key: str, message: object) -> None:
    for queue in ("good", "odd"):
        client.lpush(key.format(queue), json.dumps(message), json.dumps(message))


def _rq(client: redis.Redis) -> None:
    for queue in ("good", "odd"):
        client.sadd("rq:queues", f"rq:queue:{queue}")
        client.rpush(f"rq:queue:{queue}", f"{queue}-job")
        client.hset(f"rq:job:{queue}-job", "enqueued_at", "2026-01-01T00:00:00Z")
        client.sadd("rq:workers", f"rq:worker:{queue}")
        counts: dict[Any, Any] = {"successful_job_count": "3", "failed_job_count": "1", "total_working_time": "1.5"}
        client.hset(f"rq:worker:{queue}", mapping={**counts, "state": "idle", "queues": queue})


def _arq(client: redis.Redis) -> None:
    for queue in ("good", "odd"):
        client.zadd(f"arq:queue:{queue}", {f"{queue}-1": (_NOW - 60) * 1000, f"{queue}-2": (_NOW + 3600) * 1000})


def _streams(client: redis.Redis) -> None:
    for queue in ("good", "odd"):
        client.xadd(queue, {"a": 1}, id=f"{int(_NOW * 1000)}-0")
        client.xgroup_create(queue, queue, id="0")


def _bullmq(client: redis.Redis) -> None:
    for queue in ("good", "odd"):
        client.hset(f"bull:{queue}:meta", "a", 1)
        client.lpush(f"bull:{queue}:wait", "1")
        client.hset(f"bull:{queue}:1", "timestamp", int(_NOW * 1000))
        client.zadd(f"bull:{queue}:failed", {"2": 1})


def _sidekiq(client: redis.Redis) -> None:
    client.sadd("queues", "good", "odd")
    _lists(client, "queue:{}", {"enqueued_at": _NOW})
    client.sadd("processes", "p-good", "p-odd")
    for queue in ("good", "odd"):
        client.hset(f"p-{queue}", "info", json.dumps({"queues": [queue]}))


def _dramatiq(client: redis.Redis) -> None:
    for queue in ("good", "odd"):
        client.rpush(f"dramatiq:{queue}", "1")
        client.hset(f"dramatiq:{queue}.msgs", "1", json.dumps({"message_timestamp": int(_NOW * 1000)}))


SEEDS: dict[str, Callable[[redis.Redis], None]] = {
    "celery": lambda client: _lists(client, "{}", {"headers": {}, "properties": {}}),
    "dramatiq": _dramatiq,
    "redis_list": lambda client: _lists(client, "{}", {"at": _NOW}),
    "redis_stream": _streams,
    "rq": _rq,
    "arq": _arq,
    "saq": lambda client: _lists(client, "saq:{}:queued", {"queued": 1}),
    "bullmq": _bullmq,
    "sidekiq": _sidekiq,
    "huey": lambda client: _lists(client, "huey.redis.{}", 1),
}
NAMES = {"arq": "arq:queue:{}", "redis_stream": "{0}/{0}"}


class OddConnection(Connection):
    """Replaces one part of one reply about the queue `odd`."""

    about_odd = 0  # replies so far
    target = 0  # the reply to change, from 1
    odd: Any = None
    place = 0.0  # of the part, as a fraction of the parts of the reply
    changed = ""

    def exchange(self, commands: Sequence[bytes], leads: bool = False) -> list[Reply]:
        replies = super().exchange(commands, leads)
        for number, command in enumerate(commands):
            if b"odd" not in command:
                continue
            OddConnection.about_odd += 1
            if OddConnection.about_odd == self.target:
                OddConnection.changed = f"{self.odd!r:.50} for {replies[number]!r:.200} to {command!r:.100}"
                replies[number] = self._replaced(replies[number])
        return replies

    def _replaced(self, reply: Reply) -> Any:
        if isinstance(reply, list) and reply and self.place < 0.7:
            parts = list(reply)
            parts[int(self.place / 0.7 * len(parts))] = self.odd
            return parts
        return self.odd


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(params=SEEDS)
def kind(request: pytest.FixtureRequest, server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> str:
    with server.client() as client:
        client.flushall()
        SEEDS[request.param](client)
    monkeypatch.setattr("deckwatch_exporters.queues.redis_broker.Connection", OddConnection)
    return str(request.param)


def _collect(server: RedisServer, kind: str, target: int, place: float = 0.0, odd: object = None) -> Collected:
    OddConnection.about_odd, OddConnection.changed = 0, ""
    OddConnection.target, OddConnection.place, OddConnection.odd = target, place, odd
    extra = {"timestamp_field": "at"} if kind == "redis_list" else {}
    with opened(EXPORTER, {"kind": kind, "url": server.url, "queues": ["good", "odd"], **extra}) as opened_target:
        collected = opened_target.collect()
    assert collected.errors == {}, OddConnection.changed
    assert collected.values["queue_up"] == 1
    return collected


def _figures(collected: Collected, kind: str) -> dict[str, float]:
    """Return the values of the queue `good` that do not change with time."""
    found = of_queue(collected, NAMES.get(kind, "{}").format("good"))
    return {name: value for name, value in found.items() if name != "oldest_message_age_seconds"}


@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_odd_reply_about_one_queue_costs_no_value_of_another(
    server: RedisServer, kind: str, data: st.DataObject
) -> None:
    base = _figures(_collect(server, kind, 0), kind)
    assert base["length"] >= 1
    replies = OddConnection.about_odd
    assert replies

    found = _collect(
        server,
        kind,
        data.draw(st.integers(1, replies)),
        data.draw(st.floats(0, 1, exclude_max=True)),
        data.draw(st.sampled_from(ODD)),
    )

    assert _figures(found, kind) == base, OddConnection.changed
    for sample in found.samples:
        if sample.series.name in ("queue_length", "queue_in_flight", "rq_jobs"):
            assert 0 <= sample.value < 2**63, OddConnection.changed


def test_an_odd_counter_of_a_worker_is_absent_and_not_0(server: RedisServer) -> None:
    with server.client() as client:
        client.flushall()
        _rq(client)
        client.hset("rq:worker:odd", mapping={"failed_job_count": "(null)", "total_working_time": "-1"})
        client.hdel("rq:worker:odd", "successful_job_count")
    with opened(EXPORTER, {"kind": "rq", "url": server.url}) as target:
        found = target.collect()

    labels = 'name="{0}",queues="{0}"'
    assert found.values[f"rq_workers_success_total{{{labels.format('odd')}}}"] == 0  # no job yet
    assert found.values[f"rq_workers_failed_total{{{labels.format('good')}}}"] == 1
    assert not [it for it in found.values if it.startswith(("rq_workers_failed", "rq_workers_work")) and '"odd"' in it]
    assert found.malformed == ["worker odd: failed_job_count", "worker odd: total_working_time"]
