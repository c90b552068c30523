"""The study application: each requirement of such a system, seen in metrics, health endpoints, alerts and logs."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from services import until

from .running import Running, running

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def study() -> Iterator[Running]:
    with running("study-app", RATE="20") as found:
        yield found


def status(study: Running, method: str, path: str) -> int:
    try:
        request = urllib.request.Request(study.system.environ["API_URL"] + path, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_requests_are_measured_by_endpoint_and_slow_ones_are_listed(study: Running) -> None:
    assert study.get("api", "/report?seconds=1.2")[0] == 200

    quantile = "histogram_quantile(0.99, sum by (route, le) (rate(http_request_duration_seconds_bucket[1m])))"
    routes = {"/report", "/topics/{topic}"}
    until(lambda: routes <= {it["route"] for it, _ in study.series(quantile)}, what="99th percentiles")
    # The worker that answers is one of two.
    (slow, *_) = until(lambda: study.get("api", "/health/slow-requests?threshold=1.0")[1], what="the slow request")
    assert slow["route"] == "/report"
    assert slow["duration"] >= 1.2
    lines = until(
        lambda: [it for it in study.loki.lines('{job="study"}') if "http.slow_request" in it], what="its event"
    )
    assert json.loads(lines[0])["route"] == "/report"


def test_the_cache_the_pool_and_the_functions_report_their_figures(study: Running) -> None:
    until(lambda: (study.value("cache_hits_total") or 0) > 0, what="hits")
    assert study.value("cache_entries")
    assert study.value("db_client_connection_max") == 40, "20 in each of two workers"
    assert study.value("sum(db_client_connection_wait_time_seconds_count)")
    assert study.value("studies_load_duration_seconds_count")


def test_an_open_breaker_retries_and_fallbacks_are_counted(study: Running) -> None:
    with study.system.fault(study.example.faults["search-down"]):
        until(lambda: study.value('circuit_breaker_state{state="open"}'), what="the breaker opening")
        until(lambda: study.fires("CircuitOpen"), what="the alert")
    assert study.value("retry_repeated_attempts_total")
    assert study.value("retry_giveups_total")
    assert study.value("fallbacks_used_total")
    assert study.value('circuit_breaker_failures_total{breaker="search"}')
    until(lambda: study.value('circuit_breaker_state{state="open"}') == 0, what="the breaker closing")


def test_health_has_its_endpoints_and_own_checks(study: Running) -> None:
    for path in ("", "/readiness", "/liveness", "/metrics"):
        assert study.get("api", f"/health{path}")[0] == 200
    _, checks = study.get("api", "/health/dependencies")
    assert {it["name"]: it["status"] for it in checks} == {"database": "ok", "disk": "ok", "cpu": "ok"}
    assert study.get("api", "/health/detailed")[1]["status"] == "ok"
    until(lambda: study.value('health_check_success{check="database"}') == 1, what="the check as a metric")


def test_audit_and_security_events_are_kept_apart_and_contain_no_password(study: Running) -> None:
    assert status(study, "POST", "/login?user=eve&password=hunter2") == 401
    assert status(study, "PUT", "/studies/3?title=new&user=bob") == 200

    security = '{job="study",category="security"}'
    (line,) = until(lambda: [it for it in study.loki.lines(security) if '"eve"' in it], what="the failed login")
    assert "hunter2" not in line
    audit = study.system.folder / "logs" / "api.json.audit"
    until(lambda: '"changes":{"title":"new"}' in audit.read_text(), what="the change in the audit log")
    assert "login.failed" not in audit.read_text()


def test_errors_are_grouped_and_the_list_can_be_cleared(study: Running) -> None:
    for _ in range(5):
        assert study.get("api", "/fail")[0] == 500

    until(lambda: study.value('sum(http_errors_total{type="psycopg.DataError"})'), what="errors by type")
    errors = study.system.folder / "logs" / "api.json.errors"
    until(
        lambda: "psycopg.DataError" in errors.read_text() or "DataError" in errors.read_text(), what="the errors' file"
    )
    assert {it["type"] for it in study.get("api", "/health/metrics")[1]["top_errors"]} <= {"psycopg.DataError"}

    def cleared() -> bool:
        status(study, "DELETE", "/errors")
        return all(study.get("api", "/health/metrics")[1]["top_errors"] == [] for _ in range(10))

    until(cleared, what="both workers having no errors")


def test_targets_are_objectives_with_a_budget(study: Running) -> None:
    ratio = 'slo:good:rate5m{slo="cached-fast"} or slo:error_ratio:rate5m{slo="cached-fast"}'

    until(lambda: study.series(ratio), what="the objective of cached endpoints")


def test_a_lost_database_fails_the_health_check_and_pages(study: Running) -> None:
    with study.system.fault(study.example.faults["database-down"]):
        until(lambda: status(study, "GET", "/health") == 503, what="the readiness failing")
        until(lambda: study.fires("PostgresDown"), what="the page")
        assert status(study, "GET", "/health/liveness") == 200
    until(lambda: status(study, "GET", "/health") == 200, what="the readiness returning")
