"""Sidekiq, with keys written in its documented layout: the tests do not install Ruby."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from databases import redis_server
from deckwatch.testing import opened
from deckwatch_exporters.queues import EXPORTER
from exporters.queues.support import figures

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("unit", [1, 1000])
def test_queues_processes_and_sets_are_exported(tmp_path: Path, unit: int) -> None:
    """`enqueued_at` is in seconds, and in milliseconds since Sidekiq 8."""
    with redis_server(tmp_path) as server, server.client() as client:
        ago = time.time() - 600
        client.sadd("queues", "mail", "rare")
        client.lpush("queue:mail", json.dumps({"enqueued_at": ago if unit == 1 else int(ago * unit)}), "{}")
        client.sadd("processes", "host:1:a", "host:2:gone")
        client.hset("host:1:a", "info", json.dumps({"queues": ["mail", "rare"], "concurrency": 5}))
        client.hset("host:1:a:work", "tid", json.dumps({"queue": "mail", "payload": "{}", "run_at": ago}))
        client.zadd("schedule", {"a": 1})
        client.zadd("retry", {"a": 1, "b": 2})
        client.set("stat:processed", 9)
        with opened(EXPORTER, {"kind": "sidekiq", "url": server.url}) as target:
            mail = figures(target, "mail")
            assert (mail["length"], mail["in_flight"], mail["consumers"]) == (2, 1, 1)
            assert 600 <= mail["oldest_message_age_seconds"] < 900
            assert mail["oldest_message_age_exact"] == 1
            assert figures(target, "rare")["length"] == 0
            collected = target.collect()
    totals = {name: collected.value(name) for name in collected.values if name.startswith("sidekiq_")}
    assert totals == {
        "sidekiq_scheduled_jobs": 1,
        "sidekiq_retry_jobs": 2,
        "sidekiq_dead_jobs": 0,
        "sidekiq_processed_jobs_total": 9,
        "sidekiq_failed_jobs_total": 0,
    }
