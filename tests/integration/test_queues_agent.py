"""Queues in a running agent: startup without a config, the catalogue, and failing targets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from databases import RedisServer, postgres_server, redis_server
from golden_names import assert_golden, families, undeclared
from services import agent, free_port, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        yield running


def test_celery_broker_url_is_enough_without_a_config(server: RedisServer, tmp_path: Path) -> None:
    with server.client() as client:
        client.sadd("_kombu.binding.celery", "celery\x06\x16\x06\x16celery")
        client.lpush("celery", json.dumps({"headers": {}}))
    with agent(tmp_path, CELERY_BROKER_URL=server.url) as running:
        series = 'queue_length{target="queues",queue="celery",kind="celery"} 1'
        until(lambda: series in running.metrics(), what=series)


_CONFIG = """
exporters:
  queues:
    - {{name: tasks, kind: celery, url: "{redis}", queues: [celery]}}
    - {{name: jobs, kind: rq, url: "{redis}", queues: [default]}}
    - name: outbox
      kind: sql
      dsn: "{postgres}"
      query: >
        SELECT 1 AS length, 2 AS in_flight, 3 AS oldest_in_flight_age_seconds, 4 AS delayed, 5 AS dead,
               6 AS consumers, 7 AS enqueued_total, 8 AS processed_total, 9 AS oldest_age_seconds
    - {{name: down, kind: redis_list, url: "redis://127.0.0.1:{nobody}/0", queues: [jobs]}}
"""


def test_all_metrics_are_declared_and_a_target_that_is_down_does_not_affect_others(
    server: RedisServer, tmp_path: Path
) -> None:
    with server.client() as client:
        client.sadd("rq:workers", "rq:worker:w1")
        fields = {"state": "idle", "queues": "default", "successful_job_count": "3"}
        client.hset("rq:worker:w1", mapping=fields)
    with postgres_server() as postgres:
        config = _CONFIG.format(redis=server.url, postgres=postgres.dsn(), nobody=free_port())
        with agent(tmp_path, config) as running:
            down = 'queue_up{target="down"} 0'
            until(
                lambda: (
                    all(
                        it in (text := running.metrics())
                        for it in (down, 'queue_dead{target="outbox"', 'rq_workers{target="jobs"', "celery_unacked")
                    )
                    and text
                )
            )
            text = running.metrics()
    assert 'queue_up{target="tasks"} 1' in text
    assert 'queue_length{target="down"' not in text
    all_of = families(text, "queue_") | families(text, "celery_") | families(text, "rq_")
    found = {name: (kind, labels - {"target"}) for name, (kind, labels) in all_of.items()}
    assert not undeclared(found)
    assert_golden("queues", found)
