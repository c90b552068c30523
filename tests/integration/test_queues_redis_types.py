"""Queues that applications implement with Redis lists and streams."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from databases import RedisServer, redis_server
from deckwatch.testing import opened
from deckwatch_exporters.queues import EXPORTER
from exporters.queues.support import figures, of_queue, queues_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import redis


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        yield running


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with server.client() as connected:
        yield connected


def test_a_list_has_its_length_and_the_age_of_its_last_message(server: RedisServer, client: redis.Redis) -> None:
    with opened(EXPORTER, {"kind": "redis_list", "url": server.url, "queues": ["jobs"]}) as target:
        assert figures(target, "jobs") == {
            "length": 0, "oldest_message_age_seconds": 0, "oldest_message_age_exact": 1,
        }  # fmt: skip
        client.lpush("jobs", "first", "second")
        waiting = figures(target, "jobs")
        assert (waiting["length"], waiting["oldest_message_age_exact"]) == (2, 0)
        client.lpush("jobs", "third")
        assert figures(target, "jobs")["oldest_message_age_seconds"] > waiting["oldest_message_age_seconds"]


@pytest.mark.parametrize(("pop", "age"), [("right", 600), ("left", 60)])
def test_the_age_is_read_from_a_json_message(server: RedisServer, client: redis.Redis, pop: str, age: int) -> None:
    client.rpush("jobs", *(json.dumps({"at": int((time.time() - ago) * 1000)}) for ago in (60, 600)))
    settings = {"kind": "redis_list", "url": server.url, "queues": ["jobs"], "timestamp_field": "at", "pop": pop}
    with opened(EXPORTER, settings) as target:
        found = figures(target, "jobs")
    assert age - 1 < found["oldest_message_age_seconds"] < age + 300
    assert found["oldest_message_age_exact"] == 1


def test_additional_keys_of_a_queue_can_have_any_type(server: RedisServer, client: redis.Redis) -> None:
    client.lpush("mail:busy", 1, 2)
    client.zadd("mail:later", {"a": 1, "b": 2, "c": 3})
    queue = {"key": "mail", "name": "letters", "in_flight": "mail:busy", "delayed": "mail:later", "dead": "mail:dead"}
    with opened(EXPORTER, {"kind": "redis_list", "url": server.url, "queues": [queue]}) as target:
        found = figures(target, "letters")
        assert (found["length"], found["in_flight"], found["delayed"], found["dead"]) == (0, 2, 3, 0)
        client.set("mail:dead", "a string")
        collected = target.collect()
    assert collected.malformed == ["TYPE mail:dead"]
    assert "dead" not in of_queue(collected, "letters")


def test_each_group_of_a_stream_is_a_queue(server: RedisServer, client: redis.Redis) -> None:
    old = int((time.time() - 600) * 1000)
    for number in range(5):
        client.xadd("orders", {"n": number}, id=f"{old + number}-0")
    client.xgroup_create("orders", "billing", id="0")
    client.xgroup_create("orders", "mail", id="$")
    client.xreadgroup("billing", "one", {"orders": ">"}, count=2)
    client.xack("orders", "billing", f"{old}-0")
    with opened(EXPORTER, {"kind": "redis_stream", "url": server.url, "queues": ["orders"]}) as target:
        billing = figures(target, "orders/billing")
        assert (billing["length"], billing["in_flight"], billing["consumers"]) == (3, 1, 1)
        assert (billing["enqueued_total"], billing["processed_total"]) == (5, 1)
        assert 600 <= billing["oldest_message_age_seconds"] < 900
        assert figures(target, "orders/mail")["length"] == 0
        assert queues_in(target) == {"orders/billing", "orders/mail"}


def test_an_unknown_lag_is_not_0(server: RedisServer, client: redis.Redis) -> None:
    ids = [client.xadd("orders", {"n": number}) for number in range(5)]
    client.xgroup_create("orders", "billing", id="0")
    client.xreadgroup("billing", "one", {"orders": ">"}, count=1)
    client.xdel("orders", ids[3])  # Redis then does not know the lag of the group
    assert client.xinfo_groups("orders")[0]["lag"] is None
    with opened(EXPORTER, {"kind": "redis_stream", "url": server.url, "queues": ["orders"]}) as target:
        found = figures(target, "orders/billing")
        assert "length" not in found
        assert found["oldest_message_age_exact"] == 1
        client.xreadgroup("billing", "one", {"orders": ">"})
        assert figures(target, "orders/billing")["length"] == 0, "nothing is left to read"


def test_a_stream_without_groups_and_a_missing_group_are_supported(server: RedisServer, client: redis.Redis) -> None:
    queues = ["log", {"stream": "orders", "group": "billing"}, {"stream": "gone", "group": "billing"}]
    client.xadd("log", {"a": 1})
    client.xadd("orders", {"a": 1})
    with opened(EXPORTER, {"kind": "redis_stream", "url": server.url, "queues": queues}) as target:
        assert figures(target, "log")["length"] == 1
        assert figures(target, "orders/billing")["length"] == 1
        assert figures(target, "gone/billing")["length"] == 0


def test_a_key_that_is_not_a_stream_affects_only_itself(server: RedisServer, client: redis.Redis) -> None:
    client.set("text", "x")
    client.xadd("log", {"a": 1})
    with opened(EXPORTER, {"kind": "redis_stream", "url": server.url, "queues": ["text", "log"]}) as target:
        collected = target.collect()
    assert collected.malformed == ["XINFO STREAM text"]
    assert of_queue(collected, "log")["length"] == 1


def test_a_nonexistent_database_is_reported(server: RedisServer) -> None:
    url = server.url.replace("/0", "/99")
    with opened(EXPORTER, {"kind": "redis_list", "url": url, "queues": ["jobs"]}) as target:
        error = target.collect().errors["queues"]
    assert "DB index is out of range. Check the database number in url" in error


def test_a_missing_password_is_reported(tmp_path: Path) -> None:
    with redis_server(tmp_path, password="secret") as server:
        settings = {"kind": "redis_list", "url": server.url, "queues": ["jobs"]}
        with opened(EXPORTER, settings) as target:
            collected = target.collect()
    assert collected.snapshots["queues"].is_unreachable
    assert "password_file" in collected.errors["queues"]
    assert collected.value("queue_up") == 0


def test_a_hanging_server_is_unreachable_until_it_recovers(server: RedisServer, client: redis.Redis) -> None:
    client.lpush("jobs", "first")
    settings = {"kind": "redis_list", "url": server.url, "queues": ["jobs"], "timeout": 0.5}
    with opened(EXPORTER, settings) as target:
        assert figures(target, "jobs")["length"] == 1
        server.freeze()
        hung = target.collect()
        assert hung.snapshots["queues"].is_unreachable
        assert of_queue(hung, "jobs") == {}
        server.thaw()
        assert figures(target, "jobs")["length"] == 1


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"kind": "rabbit"}, "'redis_stream'"),
        ({"kind": "celery", "url": "sqs://h"}, r"redis\+sentinel://"),
        ({"kind": "redis_list", "url": "redis://h", "queues": ["a", "a"]}, "different names"),
        ({"kind": "redis_list", "url": "redis://h", "queues": []}, "at least 1"),
    ],
)
def test_invalid_settings_are_explained(settings: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        EXPORTER.settings.model_validate(settings)
