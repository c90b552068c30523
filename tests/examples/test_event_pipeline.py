"""The event pipeline: each requirement of such a system, seen in metrics, panels, alerts and logs."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from examples.system import PYTHON
from services import until

from .running import Running, running

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Running]:
    with running("event-pipeline", FIRST_RETRY_SECONDS="0.2", WORKERS="3", RATE="10") as found:
        yield found


def post(pipeline: Running, path: str, body: object) -> tuple[int, Any]:
    request = urllib.request.Request(
        pipeline.system.environ["API_URL"] + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.status, json.load(answer)


def test_an_event_is_accepted_processed_and_found_by_its_id_in_the_logs(pipeline: Running) -> None:
    status, accepted = post(pipeline, "/events", {"type": "order"})
    number = str(accepted["id"])

    def lines() -> set[str]:
        return {
            json.loads(entry.line)["message"]
            for entry in pipeline.loki.entries('{job="events"}')
            if dict(entry.metadata).get("event_id") == number
        }

    assert status == 202
    until(lambda: lines() == {"event.accepted", "processed"}, what="both lines of the event")


def test_a_batch_is_found_by_its_id_and_the_api_by_its_path(pipeline: Running) -> None:
    _, accepted = post(pipeline, "/events/batch", [{"type": "refund"}] * 3)

    def lines(**metadata: str) -> list[str]:
        entries = pipeline.loki.entries('{job="events"}')
        return [entry.line for entry in entries if metadata.items() <= dict(entry.metadata).items()]

    until(lambda: len(lines(batch=accepted["batch"])) == 4, what="the line of the API and one for each event")
    assert lines(path="/events/batch", batch=accepted["batch"])


def test_waiting_processed_and_failed_events_come_straight_from_the_table(pipeline: Running) -> None:
    post(pipeline, "/events", {"type": "poison"})

    until(lambda: pipeline.value('queue_dead{target="events",queue="poison"}'), what="an event that was given up")
    until(lambda: pipeline.value('events_failed_total{type="poison"}'), what="it being counted")
    until(lambda: pipeline.value('events_time_to_process_seconds_count{type="order"}'), what="times of processing")
    assert pipeline.value('queue_processed_total{target="events",queue="order"}')


def test_tasks_their_retries_and_failures_by_exception_are_shown_without_flower(pipeline: Running) -> None:
    def failed() -> float | None:
        return pipeline.value('celery_task_failed_total{name="tasks.process",exception="ValueError"}')

    until(failed, what="the failure")
    assert pipeline.value('sum(celery_task_retried_total{name="tasks.process"})')
    assert pipeline.value("celery_worker_up") == 1
    until(lambda: pipeline.panel("celery", "Succeeded"), what="rates in the panel")
    # A task that was received before the agent listened has no name.
    assert {labels.get("name") for labels, _ in pipeline.panel("celery", "Succeeded")} >= {"tasks.process"}
    assert pipeline.panel("celery", "Runtime, 95th percentile")


def test_more_workers_are_visible_and_so_is_the_wait_for_them(pipeline: Running) -> None:
    processes = pipeline.value('namedprocess_namegroup_num_procs{groupname="events-worker"}')

    assert processes == 4, "three children and their parent"
    assert pipeline.value('namedprocess_namegroup_memory_bytes{groupname="events-worker",memtype="resident"}')
    assert pipeline.value('sum(celery_task_queue_wait_time_count{name="tasks.process"})')


def test_without_a_worker_length_and_age_are_reported_and_the_queue_drains_with_the_next(pipeline: Running) -> None:
    fault = pipeline.example.faults["worker-killed"]
    with pipeline.system.fault(fault):
        for _ in range(20):
            post(pipeline, "/events", {"type": "visit"})
        until(
            lambda: (pipeline.value('queue_length{target="tasks",queue="celery"}') or 0) >= 20, what="the queue growing"
        )
        age = 'queue_oldest_message_age_seconds{target="tasks",queue="celery"}'
        until(lambda: (pipeline.value(age) or 0) > 1, what="the age of the oldest message")
    until(lambda: pipeline.value('queue_length{target="tasks",queue="celery"}') == 0, what="the queue being drained")


def test_an_outage_of_the_database_pages_and_shows_in_retries(pipeline: Running) -> None:
    retried = 'sum(celery_task_retried_total{name="tasks.process"})'
    with pipeline.system.fault(pipeline.example.faults["database-down"]):
        before = pipeline.value(retried) or 0
        subprocess.run([PYTHON, "-c", "import tasks; tasks.process.delay(1)"], env=pipeline.system.environ, check=True)
        until(lambda: (pipeline.value(retried) or 0) > before, what="the retry")
        until(lambda: pipeline.fires("PostgresDown"), what="the page")
        assert pipeline.value("pg_up") == 0
        until(lambda: pipeline.value('probe_success{target="api"}') == 0, what="the health check failing")
    until(lambda: pipeline.value('probe_success{target="api"}') == 1, what="the health check succeeding again")
    until(lambda: pipeline.value("pg_up") == 1, what="the database being monitored again")


def test_no_program_of_the_system_has_ended(pipeline: Running) -> None:
    assert [program.failure() for program in pipeline.system.programs.values() if program.has_ended()] == []
