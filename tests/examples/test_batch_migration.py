"""The batch migration: each requirement of such a system, seen in metrics, pages and alerts."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from examples.definition import FOLDER
from examples.system import PYTHON
from services import until

from .running import Running, running

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def migration() -> Iterator[Running]:
    with running("batch-migration", RETRY_SECONDS="0.2", PAUSE_SECONDS="1", SLOW_QUERY="500ms") as found:
        yield found


def test_progress_rate_and_failures_of_the_job_and_of_each_step_are_exported(migration: Running) -> None:
    until(lambda: migration.value('job_runs_total{job_name="migration",outcome="success"}'), what="a run")
    assert migration.value('job_items{job_name="migration"}') == 1000
    assert migration.value('job_items_done_total{job_name="migration",outcome="ok"}')
    steps = {labels["step"] for labels, value in migration.series('items_processed_total{outcome="ok"}') if value}
    assert steps == {"export", "map", "validate", "write", "store"}
    until(lambda: migration.panel("jobs", "Jobs"), what="the job in its panel")


def test_the_cache_reports_hits_and_times_by_category_and_redis_its_entries(migration: Running) -> None:
    until(lambda: migration.value('cache_hits_total{category="record"}'), what="hits")
    assert migration.value('cache_misses_total{category="validation"}')
    assert migration.value('cache_operation_duration_seconds_count{category="record",operation="get"}')
    until(lambda: migration.value('redis_key_group_count{key_group="record"}') == 1000, what="the entries")


def test_thresholds_come_from_the_environment_and_slow_queries_are_events(migration: Running) -> None:
    assert migration.value("deckwatch_threshold_process_memory_bytes") == 512 * 1024**2
    assert migration.value("deckwatch_threshold_slow_query_seconds") == 0.5
    program = migration.system.programs["migration"]
    program.send_line("slow 1")

    def slow() -> list[str]:
        lines = migration.loki.lines('{job="deckwatch"}')
        return [line for line in lines if "postgres.slow_query" in line and "pg_sleep" in line]

    until(slow, what="the event")
    program.send_line("slow 0")


def test_health_and_statistics_are_served_over_http(migration: Running) -> None:
    assert migration.get("web", "/health")[1]["status"] == "ok"
    checks = {it["name"] for it in migration.get("web", "/health/dependencies")[1]}
    assert checks == {"database", "cache", "pipeline"}
    assert migration.get("web", "/cache/statistics")[1]["hits"] > 0


def test_results_of_a_short_benchmark_stay_after_it_has_ended(migration: Running) -> None:
    environ = dict(migration.system.programs["migration"].environ)
    command = [str(PYTHON), "manage.py", "benchmark"]
    subprocess.run(command, cwd=FOLDER / "batch-migration", env=environ, check=True)

    until(lambda: migration.value('benchmark_success_ratio{scenario="write"}') == 1, what="the result")
    assert migration.value('benchmark_duration_seconds{scenario="export"}')


def test_without_its_cache_the_migration_goes_on_and_says_so(migration: Running) -> None:
    done = 'job_items_done_total{job_name="migration",outcome="ok"}'
    with migration.system.fault(migration.example.faults["cache-down"]):
        until(lambda: migration.value("redis_up") == 0, what="the cache being down")
        until(lambda: migration.value("cache_fallbacks_total"), what="lookups without the cache")
        before = migration.value(done) or 0
        until(lambda: (migration.value(done) or 0) > before, what="records being migrated")
    until(lambda: migration.value("redis_up") == 1, what="the cache being back")


def test_a_target_that_refuses_is_tried_again_then_the_job_fails_and_an_alert_fires(migration: Running) -> None:
    with migration.system.fault(migration.example.faults["target-down"]):
        until(lambda: migration.value('job_runs_total{job_name="migration",outcome="failure"}'), what="the failed run")
        until(lambda: migration.value('job_items_done_total{job_name="migration",outcome="failed"}'), what="its items")
        assert migration.value('retry_repeated_attempts_total{operation="write"}')
        until(lambda: migration.value('circuit_breaker_state_changes_total{state="open"}'), what="the breaker opening")
        until(lambda: migration.fires("JobFailed"), what="the alert")
    until(lambda: migration.value('circuit_breaker_state{state="open"}') == 0, what="the breaker closing")
