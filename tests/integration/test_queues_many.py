"""A thousand queues in one Redis: each kind of command is one round trip for all of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from databases import RedisServer, redis_server
from deckwatch.testing import opened
from deckwatch_exporters.clients.redis.connection import Connection
from deckwatch_exporters.queues import EXPORTER
from deckwatch_exporters.queues.redis_broker import BATCH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

QUEUES = 1000
#: By kind: the commands that make queue N with one message.
_MAKE: dict[str, Callable[[int], Sequence[Sequence[object]]]] = {
    "arq": lambda n: [("ZADD", f"arq:queue:{n}", 1_000_000_000_000, f"job{n}")],
    "bullmq": lambda n: [("HSET", f"bull:{n}:meta", "version", "5"), ("LPUSH", f"bull:{n}:wait", n)],
    "celery": lambda n: [("SADD", f"_kombu.binding.{n}", f"{n}\x06\x16\x06\x16{n}"), ("LPUSH", n, "{}")],
    "dramatiq": lambda n: [("HSET", f"dramatiq:{n}.msgs", "id", "{}"), ("RPUSH", f"dramatiq:{n}", "id")],
    "huey": lambda n: [("LPUSH", f"huey.redis.{n}", "message")],
    "rq": lambda n: [("SADD", "rq:queues", f"rq:queue:{n}"), ("RPUSH", f"rq:queue:{n}", n)],
    "saq": lambda n: [("ZADD", f"saq:{n}:incomplete", 0, "id"), ("RPUSH", f"saq:{n}:queued", "id")],
    "sidekiq": lambda n: [("SADD", "queues", n), ("LPUSH", f"queue:{n}", "{}")],
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        yield running


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of commands in each round trip."""
    found: list[int] = []
    exchange = Connection.exchange

    def counted(self: Connection, commands: Sequence[bytes], leads: bool = False) -> Any:
        found.append(len(commands))
        return exchange(self, commands, leads)

    monkeypatch.setattr(Connection, "exchange", counted)
    return found


@pytest.mark.parametrize("kind", sorted(_MAKE))
def test_a_thousand_queues_take_the_round_trips_of_one(server: RedisServer, sent: list[int], kind: str) -> None:
    trips: dict[int, list[int]] = {}
    for count in (1, QUEUES):
        with server.client() as client, client.pipeline() as pipeline:
            for number in range(count):
                for command in _MAKE[kind](number):
                    pipeline.execute_command(*command)
            pipeline.execute()
        with opened(EXPORTER, {"kind": kind, "url": server.url}) as target:
            target.collect()  # finds the queues
            sent.clear()
            collected = target.collect()
        assert not collected.errors
        assert len([it for it in collected.samples if it.series.name == "queue_length" and it.value >= 1]) == count
        trips[count] = list(sent)
    # More commands than a batch holds are sent in several, so that the server serves others in between.
    assert len(trips[QUEUES]) <= sum(math.ceil(commands * QUEUES / BATCH) for commands in trips[1])
