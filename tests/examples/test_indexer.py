"""The indexer: each requirement of such a system, seen in metrics, advice, the gate and alerts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from examples.definition import FOLDER
from examples.system import NODE_MODULES, PYTHON
from services import deckwatch_command, until

from .running import Running, running

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def indexer() -> Iterator[Running]:
    if shutil.which("node") is None or not NODE_MODULES.exists():
        pytest.skip("Node or its libraries are not installed. Run: make services")
    with running("indexer", STAGE="staging", PAUSE="20") as found:
        yield found


def test_sets_rate_limiters_and_memory_by_group_of_keys_are_exported(indexer: Running) -> None:
    until(lambda: len(indexer.series('redis_key_size{key=~"targets:.*"} == 40')) == 3, what="the sets of targets")
    until(lambda: indexer.value('redis_keys_count{key="ratelimit:*"}'), what="the rate limiters")
    assert indexer.value('redis_key_group_memory_usage_bytes{key_group="cache"}')
    until(lambda: indexer.panel("redis", "Hit ratio"), what="the hit ratio in its panel")


def test_connections_are_exported_by_application_and_from_the_pool_itself(indexer: Running) -> None:
    activity = 'sum(pg_stat_activity_count{application_name="indexer-staging"})'

    until(lambda: indexer.value(activity), what="the connections of this stage")
    until(lambda: indexer.value("indexer_pool_connections"), what="the size of the pool")
    assert indexer.value("indexer_pool_waiting") is not None


def test_memory_and_garbage_collection_of_node_come_from_its_log(indexer: Running) -> None:
    until(lambda: indexer.value("nodejs_heap_used_bytes"), what="the heap")
    until(lambda: indexer.value("nodejs_gc_duration_seconds_total"), what="garbage collection")
    assert indexer.value('namedprocess_namegroup_memory_bytes{groupname="indexer",memtype="resident"}')
    assert not [line for line in indexer.loki.lines('{job="indexer"}') if '"event":"gc"' in line], (
        "counted, not shipped"
    )


def test_advice_names_an_index_that_exists_twice(indexer: Running) -> None:
    command = deckwatch_command("advise", "postgres", "main", "--config", str(FOLDER / "indexer" / "deckwatch.yml"))
    environ = indexer.system.programs["agent"].environ
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)

    assert "documents_target_again" in done.stdout
    assert "DROP INDEX" in done.stdout


def build(indexer: Running, **environ: str) -> subprocess.CompletedProcess[str]:
    environ = {
        **indexer.system.programs["agent"].environ,
        "PYTHON": str(PYTHON),
        "PROMETHEUS_URL": indexer.system.prometheus_url,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        **environ,
    }
    command = ["sh", str(FOLDER / "indexer" / "build.sh")]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


def test_results_of_the_benchmark_are_metrics_and_its_limit_fails_a_build(indexer: Running) -> None:
    done = build(indexer, BENCHMARK_LIMIT_SECONDS="60")
    assert done.returncode == 0, done.stdout + done.stderr
    until(lambda: len(indexer.series("benchmark_duration_seconds")) == 3, what="the results")
    assert indexer.value("benchmark_memory_bytes")

    slow = build(indexer, BENCHMARK_LIMIT_SECONDS="0")
    assert slow.returncode == 1
    assert "slower than 0.0 s: database, jobs, api" in slow.stderr


def test_an_alert_in_the_last_minutes_fails_a_build(indexer: Running) -> None:
    deadlocks = 'pg_stat_database_deadlocks{datname="app"}'
    until(lambda: indexer.value(deadlocks) == 0, what="a sample without deadlocks")
    url, update = indexer.system.environ["DATABASE_URL"], "UPDATE documents SET kind = kind WHERE id = %s"
    with psycopg.connect(url) as one, psycopg.connect(url) as other:
        one.execute(update, (1,))
        other.execute(update, (2,))
        ended: list[Exception] = []

        def cross(connection: psycopg.Connection[Any], row: int) -> None:
            try:
                connection.execute(update, (row,))
            except psycopg.errors.DeadlockDetected as victim:
                ended.append(victim)
            connection.rollback()

        waiting = threading.Thread(target=cross, args=(one, 2))
        waiting.start()
        cross(other, 1)
        waiting.join()
    assert len(ended) == 1
    until(lambda: indexer.value(deadlocks), what="the deadlock being counted")

    stopped = build(indexer, BENCHMARK_LIMIT_SECONDS="60")
    assert stopped.returncode == 1, stopped.stdout + stopped.stderr
    assert "PostgresDeadlocks" in stopped.stdout


def test_a_failing_hub_raises_an_alert_and_the_recovery_shows(indexer: Running) -> None:
    with indexer.system.fault(indexer.example.faults["hub-down"]):
        until(lambda: indexer.value("sum(indexer_documents_failed_total)"), what="documents that fail")
        until(lambda: indexer.fires("LogErrorsRising"), what="the alert")
    indexed = "sum(rate(indexer_document_duration_seconds_count[30s])) > 0"
    failed = "sum(rate(indexer_documents_failed_total[15s])) > 0"
    until(lambda: indexer.series(f"{indexed} unless {failed}"), what="the recovery in the metrics")
