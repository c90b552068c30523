"""Celery and RQ workers that measure their tasks, read by a real agent."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from databases import RedisServer, redis_server
from exporters.queues.programs import run_python, worker
from sdk.web_apps import value
from services import Program, agent, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CELERY = """
import deckwatch
from celery import Celery

deckwatch.instrument_celery()
app = Celery("shop", broker={url!r})
app.conf.broker_connection_retry_on_startup = True

@app.task
def ship(order):
    pass

@app.task(max_retries=1)
def fail():
    raise ValueError("as intended")

@app.task(bind=True, max_retries=1)
def again(self):
    raise self.retry(countdown=0)
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisServer]:
    monkeypatch.setenv("DECKWATCH_APP_DIR", str(tmp_path / "apps"))
    monkeypatch.setenv("DECKWATCH_SERVICE", "shop")
    with redis_server(tmp_path) as running:
        yield running


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    with agent(tmp_path, f"interval: 1s\nexporters:\n  apps: {{dir: {tmp_path / 'apps'}}}\n") as running:
        yield running


def test_a_prefork_celery_worker_that_recycles_its_processes_counts_every_task(
    server: RedisServer, program: Program, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(_CELERY.format(url=server.url))
    flags = ["--concurrency", "2", "--max-tasks-per-child", "10", "--loglevel", "warning"]
    send = "import shop\nfor n in range(100): shop.ship.delay(n)\nshop.fail.delay()\nshop.again.delay()\n"
    run_python(tmp_path, send)
    with worker(tmp_path, ["celery", "-A", "shop", "worker", "-P", "prefork", *flags]):

        def ended(task: str, outcome: str) -> float:
            labels = {"service": "shop", "task": f"shop.{task}", "queue": "celery", "outcome": outcome}
            return value(program.metrics(), "worker_task_duration_seconds_count", **labels)

        until(lambda: ended("ship", "success") == 100, what="all tasks counted")
        until(lambda: ended("fail", "failure") == 1, what="the failure counted")
        until(lambda: ended("again", "retry") == 1 and ended("again", "failure") == 1, what="the retry counted")
        labels = {"service": "shop", "task": "shop.ship", "queue": "celery"}
        assert value(program.metrics(), "worker_task_wait_seconds_count", **labels) == 100
        assert value(program.metrics(), "worker_task_wait_seconds_sum", **labels) > 0


def test_an_rq_worker_counts_jobs_and_writes_the_last_line_of_each(
    server: RedisServer, program: Program, tmp_path: Path
) -> None:
    (tmp_path / "settings.py").write_text(
        "import deckwatch\ndeckwatch.setup_logging(file='rq.json')\ndeckwatch.instrument_rq()\n"
    )
    (tmp_path / "jobs.py").write_text(
        "import logging\ndef ship(order):\n    logging.warning('shipped %d', order)\n"
        "def fail():\n    raise ValueError('as intended')\n"
    )
    send = f"""
from redis import Redis
from rq import Queue
import jobs
queue = Queue("orders", connection=Redis.from_url({server.url!r}))
for number in range(10): queue.enqueue(jobs.ship, number)
queue.enqueue(jobs.fail)
"""
    run_python(tmp_path, send)
    command = [sys.executable, "-m", "rq.cli", "worker", "-c", "settings", "--burst", "-u", server.url, "orders"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr

    def ended(task: str, outcome: str) -> float:
        labels = {"service": "shop", "task": f"jobs.{task}", "queue": "orders", "outcome": outcome}
        return value(program.metrics(), "worker_task_duration_seconds_count", **labels)

    until(lambda: ended("ship", "success") == 10 and ended("fail", "failure") == 1, what="all jobs counted")
    text = (tmp_path / "rq.json").read_text()
    assert [text.count(f'"shipped {number}"') for number in range(10)] == [1] * 10
