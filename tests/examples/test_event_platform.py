"""The platform of several services: each requirement of such a system, seen from outside and through its logs."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from examples.definition import FOLDER
from examples.system import NODE_MODULES
from services import deckwatch_command, until

from .running import Running, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def platform() -> Iterator[Running]:
    if shutil.which("node") is None or not NODE_MODULES.exists():
        pytest.skip("Node or its libraries are not installed. Run: make services")
    with running("event-platform", RATE="20") as found:
        yield found


def test_durations_by_method_route_and_status_come_from_the_lines_of_the_log(platform: Running) -> None:
    assert platform.get("api", "/projects/1")[0] == 200
    assert platform.get("api", "/projects/99999")[0] == 404
    bounds = "http_request_duration_seconds_bucket"

    until(lambda: platform.series(f'{bounds}{{route="/projects/:id",status="404"}}'), what="the missing project")
    until(lambda: platform.series(f'{bounds}{{method="POST",route="/events",status="202"}}'), what="events")
    for bound in ("0.1", "0.15", "0.2"):
        assert platform.series(f'{bounds}{{route="/projects",le="{bound}"}}'), "a target is a bound of a bucket"
    until(
        lambda: platform.series(
            "histogram_quantile(0.95, sum by (route, le) (rate(http_request_duration_seconds_bucket[1m])))"
        ),
        what="the 95th percentile of each route",
    )


def test_events_are_counted_by_source_and_the_queue_is_read_from_the_table(platform: Running) -> None:
    def labels(metric: str, label: str) -> set[str]:
        return {labels[label] for labels, value in platform.series(metric) if value}

    sources = {"github", "gitlab", "manual"}
    until(lambda: labels("events_scraped_total", "source") == sources, what="events of all sources")
    until(lambda: labels("queue_processed_total", "queue") == sources, what="them being processed")
    assert platform.value('queue_length{queue="github"}') is not None
    until(lambda: platform.panel("queues", "Messages added and processed"), what="rates in the panel")


def test_slow_statements_are_events_and_a_histogram(platform: Running) -> None:
    assert platform.get("api", "/report")[0] == 200

    def slow() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in platform.loki.lines('{job="deckwatch"}')]
        return [line for line in lines if line.get("event") == "postgres.slow_query" and "pg_sleep" in line["query"]]

    # The first event may be of a statement that is running.
    until(lambda: [it for it in slow() if it["duration_seconds"] > 0.1], what="the event of the slow statement")
    until(lambda: platform.value("sum(pg_slow_query_duration_seconds_count)"), what="the histogram")


def test_a_dead_worker_shows_in_probes_calls_and_the_queue_and_pages(platform: Running) -> None:
    with platform.system.fault(platform.example.faults["worker-down"]):
        until(lambda: platform.value('probe_success{target="worker"}') == 0, what="the probe failing")
        until(lambda: platform.value('service_calls_failed_total{peer="worker"}'), what="calls that were given up")
        until(lambda: platform.value('service_calls_retried_total{peer="worker"}'), what="calls that were tried again")
        until(lambda: (platform.value("sum(queue_length)") or 0) > 10, what="events that wait")
        until(lambda: platform.fires("ProbeFailing"), what="the page")
        assert platform.value('probe_success{target="api"}') == 1
    until(lambda: platform.value('probe_success{target="worker"}') == 1, what="the probe succeeding")
    until(lambda: platform.value("sum(queue_length)") == 0, what="the queue being drained")


def test_errors_are_counted_by_type_and_found_in_loki(platform: Running) -> None:
    assert platform.get("api", "/fail")[0] == 500

    until(lambda: platform.value('service_errors_total{service="api",type="TypeError"}'), what="the error")
    lines = [json.loads(line) for line in platform.loki.lines('{job="platform",level="error"}')]
    assert any(line["route"] == "/fail" for line in lines if line["msg"] == "request failed")


def test_the_check_list_for_production_says_what_is_missing_and_what_it_cannot_know(
    platform: Running, tmp_path: Path
) -> None:
    config = FOLDER / "event-platform" / "deckwatch.yml"
    command = deckwatch_command("check", "--production", "--format", "json", "--config", str(config))
    done = subprocess.run(
        [*command, "--state-dir", str(tmp_path)],
        env=platform.system.programs["agent"].environ,
        capture_output=True,
        text=True,
        check=False,
    )
    found = {it["collector"]: it["state"] for it in json.loads(done.stdout)["results"]}

    assert found["production.receivers"] == "unknown", "without prometheus_url"
    assert found["production.spool"] == "ok"
    assert {
        "production.tls",
        "production.authentication",
        "production.secrets",
        "production.retention",
        "production.backups",
    } <= found.keys()
