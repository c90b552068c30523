"""A queue that vanishes from its broker: 0 while the config or a binding names it, otherwise absent.

The keys and tables are written by hand in each library's layout, which its own test proves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from databases import PostgresServer, RedisServer, postgres_server, redis_server
from deckwatch.testing import Opened, opened
from deckwatch_exporters.queues import EXPORTER
from exporters.queues.support import eventually, figures, queues_in
from services import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rabbitmq_server import RabbitmqServer

_BINDING = "mail\x06\x16\x06\x16mail"
#: By kind: the commands that make a queue with one message; then all of their keys are deleted.
_KEYS: dict[str, Sequence[Sequence[object]]] = {
    "arq": [("ZADD", "arq:queue:mail", 1_000_000_000_000, "id")],
    "bullmq": [("HSET", "bull:mail:meta", "version", "bullmq"), ("LPUSH", "bull:mail:wait", "1")],
    "celery": [("SADD", "_kombu.binding.mail", _BINDING), ("LPUSH", "mail", "{}")],
    "dramatiq": [("HSET", "dramatiq:mail.msgs", "id", "{}"), ("RPUSH", "dramatiq:mail", "id")],
    "huey": [("LPUSH", "huey.redis.mail", "message")],
    "rq": [("SADD", "rq:queues", "rq:queue:mail"), ("RPUSH", "rq:queue:mail", "id")],
    "saq": [("ZADD", "saq:mail:incomplete", 0, "id"), ("RPUSH", "saq:mail:queued", "id")],
    "sidekiq": [("SADD", "queues", "mail"), ("LPUSH", "queue:mail", "{}")],
}
#: By kind: the table, and a row of it that is a waiting message.
_TABLES = {
    "django_tasks": (
        "CREATE TABLE django_tasks_database_dbtaskresult AS SELECT 'mail' AS queue_name, 'READY' AS status, "
        "NULL::timestamptz AS started_at, now() AS run_after, now() AS enqueued_at",
        "DELETE FROM django_tasks_database_dbtaskresult",
    ),
    "oban": (
        "CREATE TABLE oban_jobs AS SELECT 'mail' AS queue, 'available' AS state, "
        "timezone('UTC', now()) AS scheduled_at, NULL::timestamp AS attempted_at",
        "DELETE FROM oban_jobs",
    ),
    "pgmq": (
        "CREATE SCHEMA pgmq; CREATE TABLE pgmq.kept AS SELECT 'mail' AS queue_name, 1 AS queue_length, "
        "5 AS oldest_msg_age_sec, 1 AS total_messages, 1 AS queue_visible_length; CREATE FUNCTION pgmq.metrics_all() "
        "RETURNS SETOF pgmq.kept LANGUAGE sql AS 'SELECT * FROM pgmq.kept'",
        "DELETE FROM pgmq.kept",
    ),
    "procrastinate": (
        "CREATE TABLE procrastinate_jobs AS SELECT 1 AS id, 'mail' AS queue_name, 'todo' AS status, "
        "now() AS scheduled_at; CREATE TABLE procrastinate_events (job_id int, type text, at timestamptz)",
        "DELETE FROM procrastinate_jobs",
    ),
}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


def reconnected(server: RedisServer) -> None:
    """Keys are searched again with a new connection, instead of after a minute."""
    with server.client() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def is_empty(target: Opened, queue: str) -> None:
    found = eventually(target, queue, lambda found: found.get("length") == 0)
    assert found["oldest_message_age_seconds"] == 0
    assert found.get("in_flight", 0) == 0


@pytest.mark.parametrize("kind", sorted(_KEYS))
def test_in_redis(redis: RedisServer, kind: str) -> None:
    queue = "arq:queue:mail" if kind == "arq" else "mail"
    settings: dict[str, Any] = {"kind": kind, "url": redis.url}
    with (
        redis.client() as client,
        opened(EXPORTER, {**settings, "queues": [queue]}) as named,
        opened(EXPORTER, settings) as found,
    ):
        is_empty(named, queue)
        for command in _KEYS[kind]:
            client.execute_command(*command)
        reconnected(redis)
        for target in (named, found):
            assert figures(target, queue)["length"] == 1
        if kind == "celery":
            client.delete("mail")
            is_empty(found, queue)
        client.flushall()
        reconnected(redis)
        is_empty(named, queue)
        until(lambda: queues_in(found) == set(), what="the end of the queue")


@pytest.mark.parametrize(
    ("kind", "fill"), [("redis_list", ("LPUSH", "mail", "x")), ("redis_stream", ("XADD", "mail", "*", "a", "b"))]
)
def test_of_the_config_in_redis(redis: RedisServer, kind: str, fill: Sequence[str]) -> None:
    with redis.client() as client, opened(EXPORTER, {"kind": kind, "url": redis.url, "queues": ["mail"]}) as target:
        is_empty(target, "mail")
        client.execute_command(*fill)
        assert figures(target, "mail")["length"] == 1
        client.flushall()
        is_empty(target, "mail")


@pytest.mark.parametrize("kind", sorted(_TABLES))
def test_in_postgresql(postgres: PostgresServer, kind: str) -> None:
    create, delete = _TABLES[kind]
    postgres.execute(create)
    settings: dict[str, Any] = {"kind": kind, "dsn": postgres.dsn()}
    with opened(EXPORTER, {**settings, "queues": ["mail"]}) as named, opened(EXPORTER, settings) as found:
        for target in (named, found):
            assert figures(target, "mail")["length"] == 1
        postgres.execute(delete)
        is_empty(named, "mail")
        assert queues_in(found) == set()


def test_of_a_query_is_absent(postgres: PostgresServer) -> None:
    postgres.execute("CREATE TABLE events AS SELECT 'mail' AS topic")
    query = "SELECT topic AS queue, count(*) AS length FROM events GROUP BY topic"
    with opened(EXPORTER, {"kind": "sql", "dsn": postgres.dsn(), "query": query}) as target:
        assert figures(target, "mail")["length"] == 1
        postgres.execute("DELETE FROM events")
        assert queues_in(target) == set()


@pytest.mark.parametrize("kind", ["celery", "dramatiq", "rabbitmq"])
def test_in_rabbitmq(rabbitmq: RabbitmqServer, kind: str) -> None:
    vhost = rabbitmq.new_vhost()
    over_amqp = {"kind": kind, "url": rabbitmq.url(vhost), "queues": ["mail"]}
    managed = {"kind": kind, "url": rabbitmq.url(vhost), "management_url": rabbitmq.management_url}
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "mail.XQ"}
    with (
        rabbitmq.channel(vhost) as channel,
        opened(EXPORTER, over_amqp) as named,
        opened(EXPORTER, {**managed, "queues": ["mail"]}) as both,
        opened(EXPORTER, managed) as found,
    ):
        channel.confirm_delivery()
        channel.queue_declare("mail", durable=True, arguments=arguments)
        channel.basic_publish("", "mail", b"{}")
        for target in (named, both, found):
            eventually(target, "mail", lambda figures: figures.get("length") == 1)
        channel.queue_delete("mail")
        for target in (named, both):
            is_empty(target, "mail")
        until(lambda: queues_in(found) == set(), what="the end of the queue")
