"""`kind: auto`: what lives in a Redis is found by its keys, in a PostgreSQL by its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from databases import RedisServer, postgres_server, redis_server
from deckwatch.testing import opened
from deckwatch_exporters.queues import EXPORTER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        yield running


def fill(server: RedisServer) -> None:
    with server.client() as client:
        client.zadd("arq:queue", {"id": 1_000_000_000_000})
        client.hset("bull:films:meta", "version", "5")
        client.lpush("bull:films:wait", "1")
        client.sadd("_kombu.binding.mail", "mail\x06\x16\x06\x16mail")
        client.lpush("mail", "{}", "{}")
        client.sadd("rq:queues", "rq:queue:reports")


def test_the_queues_of_each_library_have_its_kind(server: RedisServer) -> None:
    fill(server)
    with server.client() as client:
        before = client.info("stats")["total_connections_received"]
        with opened(EXPORTER, {"kind": "auto", "url": server.url}) as target:
            collected = target.collect()
            assert client.info("stats")["total_connections_received"] == before + 1
    assert not collected.errors
    assert not collected.malformed
    collected.assert_declared()
    lengths = {
        (labels["kind"], labels["queue"]): it.value
        for it in collected.samples
        if it.series.name == "queue_length" and (labels := dict(it.series.labels))
    }
    assert lengths == {
        ("arq", "arq:queue"): 1,
        ("bullmq", "films"): 1,
        ("celery", "mail"): 2,
        ("rq", "reports"): 0,
    }
    assert not [it for it in collected.samples if it.series.name.startswith("sidekiq_")], "not used"


def test_check_lists_what_was_found(server: RedisServer) -> None:
    with opened(EXPORTER, {"kind": "auto", "url": server.url}) as target:
        (nothing,) = EXPORTER.check(target.settings)
        assert nothing.state == "missing"
        assert "no queues of arq, bullmq, celery" in nothing.what
        fill(server)
        assert [it.what for it in EXPORTER.check(target.settings)] == [
            "arq queues: arq:queue",
            "bullmq queues: films",
            "celery queues: mail",
            "rq queues: reports",
        ]


def test_a_command_that_is_not_allowed_costs_only_its_kinds(server: RedisServer) -> None:
    fill(server)
    settings = {"kind": "auto", "url": server.url, "username": "monitor", "password": "secret"}
    with server.client() as client, opened(EXPORTER, settings) as target:
        client.execute_command("ACL", "SETUSER", "monitor", "on", ">secret", "~*", "+@read", "-scan")
        collected = target.collect()
        assert not collected.errors
        assert {dict(it.series.labels).get("kind") for it in collected.samples} >= {"rq"}
        remedies = [it.remedy for it in EXPORTER.check(target.settings) if it.state == "missing"]
        assert "ACL SETUSER monitor +scan" in remedies


def test_the_libraries_of_a_postgresql_are_found_by_their_tables() -> None:
    jobs = (
        "CREATE TABLE oban_jobs AS SELECT 'mail' AS queue, 'available' AS state, "
        "timezone('UTC', now()) AS scheduled_at, NULL::timestamp AS attempted_at"
    )
    tasks = (
        "CREATE TABLE procrastinate_jobs AS SELECT 1 AS id, 'films' AS queue_name, 'todo' AS status, "
        "now() AS scheduled_at"
    )
    with postgres_server() as server:
        settings = {"kind": "auto", "dsn": server.dsn()}
        with opened(EXPORTER, settings) as target:
            assert not target.collect().errors
            (nothing,) = EXPORTER.check(target.settings)
            assert "no tables of django_tasks, oban, pgmq, procrastinate" in nothing.what
        server.execute(jobs, tasks, "CREATE TABLE procrastinate_events (job_id int, type text, at timestamptz)")
        with opened(EXPORTER, settings) as target:
            collected = target.collect()
            assert not collected.errors
            assert not collected.malformed
            collected.assert_declared()
            assert collected.value("queue_length", queue="mail", kind="oban") == 1
            assert collected.value("queue_length", queue="films", kind="procrastinate") == 1
            with server.connect() as connection:
                rows = connection.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'deckwatch%'"
                ).fetchone()
            assert rows == (1,)
            found = [it.what for it in EXPORTER.check(target.settings)]
            assert found == ["oban queues: mail", "procrastinate queues: films"]
            server.execute("DROP TABLE oban_jobs")
            (problem,) = target.collect().malformed
            assert "oban" in problem
            assert not target.collect().malformed, "looked for again"
