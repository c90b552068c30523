"""Messages that no library writes: they cost their own figure, and every other one is still served."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from databases import RedisServer, redis_server
from deckwatch.testing import opened
from deckwatch_exporters.queues import EXPORTER
from deckwatch_exporters.queues.ages import unix_seconds
from deckwatch_exporters.queues.rabbitmq_reader import _parsed
from exporters.queues.support import of_queue

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

DEEP = "[" * 100_000
HUGE = "1" + "0" * 400  # above what a float holds
#: Texts in the place of a message or of a part of it.
TEXTS = ("", "(null)", "\x00", "7", "null", "[]", "{}", '"x"', DEEP, HUGE, '{"a": ' + DEEP, "\ud800")
#: Values in the place of a field.
VALUES: tuple[Any, ...] = (
    None, True, -1, 1.5, 2**70, 10**400, -(10**400), "", "(null)", "9" * 400, "1e999", "nan", "\ud800",
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", [], [1], {}, {"a": 1},
)  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def mutated(message: dict[str, Any]) -> Iterator[bytes]:
    """A message with each of its fields, at any depth, replaced or missing."""
    for key, value in message.items():
        for odd in VALUES:
            yield encoded(json.dumps({**message, key: odd}))
        yield encoded(json.dumps({name: it for name, it in message.items() if name != key}))
        if isinstance(value, dict):
            for inner in mutated(value):
                yield encoded(json.dumps({**message, key: json.loads(inner)}))


def lengths(target: Any) -> dict[str, float]:
    collected = target.collect()
    assert not collected.errors, collected.errors
    collected.assert_declared()
    return {queue: of_queue(collected, queue).get("length", -1.0) for queue in ("good", "odd")}


_CELERY = {"body": "W10=", "headers": {"eta": None, "published_at": 1.7e9}, "properties": {"delivery_tag": "1"}}
_DRAMATIQ = {"queue_name": "odd", "message_timestamp": 1_700_000_000_000}
_SAQ = {"queue": "odd", "queued": 1_700_000_000_000}
_SIDEKIQ = {"queue": "odd", "enqueued_at": 1.7e9}


@pytest.mark.parametrize(
    ("kind", "key", "message"),
    [
        ("celery", "{queue}", _CELERY),
        ("dramatiq", "dramatiq:{queue}", _DRAMATIQ),
        ("redis_list", "{queue}", {"at": 1.7e9}),
        ("sidekiq", "queue:{queue}", _SIDEKIQ),
    ],
)
def test_an_odd_message_costs_no_length_of_any_queue(
    server: RedisServer, kind: str, key: str, message: dict[str, Any]
) -> None:
    more = {"timestamp_field": "at"} if kind == "redis_list" else {}
    messages = [*map(encoded, TEXTS), *mutated(message)]
    with server.client() as client:
        client.flushall()
        is_list = kind != "dramatiq"
        good = key.format(queue="good")
        if is_list:
            client.lpush(good, json.dumps(message))
        else:
            client.rpush(good, "1")
            client.hset(f"{good}.msgs", "1", json.dumps(message))
        settings = {"kind": kind, "url": server.url, "queues": ["good", "odd"], **more}
        with opened(EXPORTER, settings) as target:
            assert lengths(target) == {"good": 1, "odd": 0}
            for text in messages:
                _put(client, key.format(queue="odd"), text, is_list)
                assert lengths(target) == {"good": 1, "odd": 1}, text[:100]


def _put(client: redis.Redis, key: str, text: bytes, is_list: bool) -> None:
    client.delete(key, f"{key}.msgs")
    client.rpush(key, text if is_list else "1")
    if not is_list:
        client.hset(f"{key}.msgs", "1", text)


def test_odd_deliveries_and_bindings_of_celery_cost_no_length(server: RedisServer) -> None:
    deliveries = [[_CELERY, odd, "good"] for odd in VALUES] + [[_CELERY, "shop", odd] for odd in VALUES]
    texts = [*map(encoded, TEXTS), *(encoded(json.dumps(it)) for it in deliveries)]
    texts += [b"[" + it + b', "shop", "good"]' for it in mutated(_CELERY)]
    with server.client() as client:
        client.flushall()
        client.sadd("_kombu.binding.shop", "\x06\x16(\x06\x16good", "a", "\x06\x16\x06\x16", b"\xff\x06\x16")
        client.lpush("good", json.dumps(_CELERY))
        for number, text in enumerate(texts):
            client.hset("unacked", str(number), text)
            client.zadd("unacked_index", {str(number): 1.7e9})
        with opened(EXPORTER, {"kind": "celery", "url": server.url}) as target:
            found = target.collect()
    assert not found.errors
    assert of_queue(found, "good")["length"] == 1
    assert found.value("celery_unacked_messages") == len(texts)


@pytest.mark.parametrize("part", ["info", "work"])
def test_odd_processes_of_sidekiq_cost_no_length(server: RedisServer, part: str) -> None:
    texts = [*map(encoded, TEXTS), *mutated({"queues": ["good"], "queue": "good"})]
    with server.client() as client, opened(EXPORTER, {"kind": "sidekiq", "url": server.url}) as target:
        client.flushall()
        client.sadd("queues", "good", "odd")
        client.sadd("processes", "p")
        client.lpush("queue:good", json.dumps(_SIDEKIQ))
        client.hset("p", "info", json.dumps({"queues": ["good"]}))
        for text in texts:
            client.hset(*("p", "info") if part == "info" else ("p:work", "1"), text)
            assert lengths(target) == {"good": 1, "odd": 0}, text[:100]


def test_odd_fields_of_the_management_api_are_unknown() -> None:
    stats = {"publish": 3, "ack": 2, "deliver_get": 2}
    good = {"name": "a", "messages_ready": 1, "messages_unacknowledged": 2, "consumers": 3, "message_stats": stats}
    for text in mutated({**good, "head_message_timestamp": 1.7e9, "arguments": {"x-message-ttl": 1}}):
        queue = _parsed(json.loads(text), True)
        if queue is not None:
            values = (queue.ready, queue.unacknowledged, queue.consumers, queue.enqueued, queue.processed)
            assert all(value is None or 0 <= value < 1e19 for value in values), text[:200]
    for odd in VALUES:
        assert _parsed(odd, True) is None


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_what_is_no_moment_is_none(value: Any) -> None:
    assert unix_seconds(value) is None or abs(unix_seconds(value) or 0) < 1e12
