"""Real RQ: jobs in every state, workers, and rq-exporter's names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from databases import RedisServer, redis_server
from deckwatch.testing import opened
from deckwatch_exporters.queues import EXPORTER
from exporters.queues.programs import run_python, worker
from exporters.queues.support import eventually, figures, queues_in
from services import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_JOBS = """
import os, time

def wait(path):
    while not os.path.exists(path):
        time.sleep(0.05)

def fail():
    raise ValueError("as intended")
"""
_QUEUE = """
from datetime import timedelta
from redis import Redis
from rq import Queue, Worker
import jobs
connection = Redis.from_url({url!r})
q = Queue("default", connection=connection)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    (tmp_path / "jobs.py").write_text(_JOBS)
    with redis_server(tmp_path) as running:
        yield running


def send(server: RedisServer, folder: Path, code: str) -> None:
    run_python(folder, _QUEUE.format(url=server.url) + code)


def test_job_values_are_correct_in_every_state(server: RedisServer, tmp_path: Path) -> None:
    gate = tmp_path / "go"
    with opened(EXPORTER, {"kind": "rq", "url": server.url}) as target:
        assert queues_in(target) == set()
        send(server, tmp_path, f"for _ in range(20): q.enqueue(jobs.wait, {str(gate)!r})\nq.enqueue(jobs.fail)\n")
        send(server, tmp_path, "q.enqueue_in(timedelta(hours=1), jobs.wait, '/')")
        waiting = figures(target, "default")
        assert (waiting["length"], waiting["delayed"], waiting["in_flight"]) == (21, 1, 0)
        assert (waiting["dead"], waiting["consumers"]) == (0, 0)
        assert waiting["oldest_message_age_exact"] == 1
        assert 0 <= waiting["oldest_message_age_seconds"] < 300

        command = ["rq.cli", "worker", "--url", server.url, "--name", "w1", "default"]
        with worker(tmp_path, command) as running:
            working = eventually(target, "default", lambda found: found["in_flight"] == 1)
            assert (working["length"], working["consumers"]) == (20, 1)
            busy = 'rq_workers{name="w1",queues="default",state="busy"}'
            until(lambda: target.collect().values.get(busy) == 1, what=busy)
            assert target.collect().value("rq_jobs", queue="default", status="started") == 1
            running.kill()
        killed = figures(target, "default")
        assert (killed["length"], killed["in_flight"]) == (20, 1)

        gate.touch()
        with worker(tmp_path, ["rq.cli", "worker", "--url", server.url, "--name", "w2", "--burst", "default"]):
            drained = eventually(target, "default", lambda found: found["length"] == 0 and found["dead"] == 1)
        assert drained["oldest_message_age_seconds"] == 0
        assert target.collect().value("rq_jobs", queue="default", status="finished") == 19


def test_a_configured_queue_is_0_before_its_first_job(server: RedisServer) -> None:
    with opened(EXPORTER, {"kind": "rq", "url": server.url, "queues": ["mail"]}) as target:
        assert figures(target, "mail")["length"] == 0
        assert figures(target, "mail")["oldest_message_age_seconds"] == 0


def test_check_lists_the_queues_or_reports_that_there_are_none(server: RedisServer, tmp_path: Path) -> None:
    with opened(EXPORTER, {"kind": "rq", "url": server.url}) as target:
        (none,) = EXPORTER.check(target.settings)
        assert none.state == "missing"
        assert "no rq queues in database 0" in none.what
        send(server, tmp_path, "q.enqueue(jobs.fail)")
        (found,) = EXPORTER.check(target.settings)
        assert (found.state, found.what) == ("ok", "rq queues: default")


def test_each_value_hidden_by_an_acl_is_reported(server: RedisServer) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "monitor", "on", ">secret", "~*", "+@read", "-zcard")
    settings = {"kind": "rq", "url": server.url, "username": "monitor", "password": "secret", "queues": ["mail"]}
    with opened(EXPORTER, settings) as target:
        collected = target.collect()
        assert collected.value("queue_length", queue="mail") == 0
        assert set(collected.malformed) == {"ZCARD of queue mail"}
        missing, *_ = EXPORTER.check(target.settings)
    assert missing.remedy == "ACL SETUSER monitor +zcard"


def test_a_database_denied_by_the_acl_is_reported(server: RedisServer) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "monitor", "on", ">secret", "~*", "+@read")
    url = server.url.replace("/0", "/1")
    with opened(EXPORTER, {"kind": "rq", "url": url, "username": "monitor", "password": "secret"}) as target:
        assert "ACL SETUSER monitor +select" in target.collect().errors["queues"]
