"""Application: requests, errors, durations and health checks of applications that use Deckwatch's library."""

from __future__ import annotations

from .dashboard import Dashboard, Variable
from .log_panels import log_lines, log_table
from .panels import (
    COUNT,
    PER_SECOND,
    RATIO,
    SECONDS,
    graph,
    problem_stat,
    rate_graph,
    ratio_graph,
    row,
    stat,
    state_timeline,
    value_table,
)

_CHOSEN = '@host, service=~"$service"'
_REQUESTS = f"http_requests_total{{{_CHOSEN}}}"
_FAILURES = f'http_requests_total{{{_CHOSEN}, status=~"5.."}}'
_BUCKETS = f"http_request_duration_seconds_bucket{{{_CHOSEN}}}"
_CHECKS = f"health_check_success{{{_CHOSEN}}}"
_BY_ROUTE = "service, method, route"
_ROUTE = "{{service}} {{method}} {{route}}"
_ERRORS = f"http_errors_total{{{_CHOSEN}}}"
_NO_ERRORS = "No unhandled exceptions."
_NO_CHECKS = "The application registers no checks: see deckwatch.health."


def _ratio(by: str) -> str:
    """Failed requests as a share of all. Without failures there are no series of them, so they count as 0."""
    requests = f"sum{by} (rate({_REQUESTS}[@rate]))"
    return f"(sum{by} (rate({_FAILURES}[@rate])) or 0 * {requests}) / ({requests} > 0)"


def _quantile(quantile: float, by: str) -> str:
    return f"histogram_quantile({quantile}, sum by ({by}) (rate({_BUCKETS}[@rate])) > 0)"


def _events(name: str) -> str:
    """The events of this name that applications log with `deckwatch.setup_logging`."""
    return f'{{job=~".+"}} |= `{name}` | json | event=`{name}` | service=~"$service"'


DASHBOARD = Dashboard(
    name="application",
    title="Application",
    question="Do applications answer requests correctly and quickly, and do their health checks succeed?",
    instances="http_requests_total",
    variables=[
        Variable("service", "Service", "http_requests_total{@host}, service", "Services of applications.", ".+"),
    ],
    tags=["application"],
    panels=[
        problem_stat(
            "Failed requests",
            "Share of requests with a status of 500 or above. The table below shows their routes.",
            _ratio(""),
            unit=RATIO,
            bad_from=0.01,
            no_data="No requests.",
        ),
        problem_stat(
            "95th percentile",
            "Duration that 95 % of all requests do not exceed.",
            _quantile(0.95, "le"),
            unit=SECONDS,
            bad_from=1,
            no_data="No requests.",
        ),
        problem_stat(
            "Unhandled exceptions",
            "Unhandled exceptions in the last hour. The log has their stack traces.",
            f"sum(increase({_ERRORS}[1h])) or vector(0)",
        ),
        problem_stat(
            "Failing checks",
            "Health checks that failed when they last ran, in all services and instances.",
            f"sum({_CHECKS} == bool 0)",
            no_data=_NO_CHECKS,
        ),
        stat("Requests", "Requests per second.", PER_SECOND, {"": f"sum(rate({_REQUESTS}[@rate]))"}),
        stat("In progress", "Requests in progress.", COUNT, {"": f"sum(http_requests_in_progress{{{_CHOSEN}}})"}),
        row("Requests"),
        rate_graph(
            "Requests by status",
            "Requests that have ended. If 5xx rise, look at the exceptions below; if 4xx rise, at a changed client.",
            PER_SECOND,
            {"": _REQUESTS},
            by="service, status",
            stacked=True,
        ),
        rate_graph(
            "Requests by route",
            "The busiest routes. `unmatched` are requests that no route of the application answered.",
            PER_SECOND,
            {"": _REQUESTS},
            by=_BY_ROUTE,
            stacked=True,
        ),
        ratio_graph(
            "Failed requests by route",
            "Share of requests with a status of 500 or above, for the routes with the most.",
            {_ROUTE: _ratio(f" by ({_BY_ROUTE})")},
        ),
        graph(
            "Duration",
            "Percentiles of all requests, to the end of the response. If only the highest rises, some routes are slow.",
            SECONDS,
            {name: _quantile(quantile, "le") for name, quantile in (("50 %", 0.5), ("95 %", 0.95), ("99 %", 0.99))},
        ),
        graph(
            "95th percentile by route",
            "Duration that 95 % of the requests to a route do not exceed, for the slowest routes.",
            SECONDS,
            {_ROUTE: _quantile(0.95, f"{_BY_ROUTE}, le")},
        ),
        graph(
            "In progress",
            "Requests in progress. If they rise while requests per second do not, the application is slow or stuck.",
            COUNT,
            {"{{service}} {{instance}}": f"sum by (service, instance) (http_requests_in_progress{{{_CHOSEN}}})"},
        ),
        value_table(
            "Routes",
            "One row per route, the busiest first.",
            _BY_ROUTE,
            {
                "requests": (PER_SECOND, f"sum by ({_BY_ROUTE}) (rate({_REQUESTS}[@rate]))"),
                "failed": (RATIO, _ratio(f" by ({_BY_ROUTE})")),
                "95th percentile": (SECONDS, _quantile(0.95, f"{_BY_ROUTE}, le")),
            },
            sort="requests",
            width=16,
        ),
        rate_graph(
            "Disconnected clients",
            "Requests that clients ended early. If they rise, the application is too slow for its clients.",
            PER_SECOND,
            {"": f"http_client_disconnects_total{{{_CHOSEN}}}"},
            by=_BY_ROUTE,
            no_data="No client has disconnected.",
        ),
        rate_graph(
            "Bytes received",
            "Size of request bodies, for the routes that receive the most.",
            "Bps",
            {"": f"http_request_size_bytes_sum{{{_CHOSEN}}}"},
            by=_BY_ROUTE,
            width=12,
        ),
        rate_graph(
            "Bytes sent",
            "Size of response bodies, for the routes that send the most.",
            "Bps",
            {"": f"http_response_size_bytes_sum{{{_CHOSEN}}}"},
            by=_BY_ROUTE,
            width=12,
        ),
        row("Errors and slow requests"),
        rate_graph(
            "Unhandled exceptions",
            "Unhandled exceptions by type. Search the log for the fingerprint of the type that rises.",
            PER_SECOND,
            {"": _ERRORS},
            by="service, type, fingerprint",
            no_data=_NO_ERRORS,
        ),
        log_table(
            "Most frequent exceptions",
            "Unhandled exceptions by type and place, from the log.",
            f"topk(20, sum by (service, error_type, place, fingerprint) "
            f"(count_over_time({_events('http.unhandled_error')} [$__auto])))",
            heading="exceptions",
            width=16,
            height=8,
        ),
        log_lines(
            "Slow requests",
            "Requests that took longer than `slow_request_seconds` of the middleware, with trace id, newest first.",
            _events("http.slow_request"),
        ),
        row("Health checks"),
        value_table(
            "Health checks",
            "One row per check, failing ones first. If a critical check fails, the application is not ready.",
            "service, instance, check, critical",
            {
                "success": (COUNT, _CHECKS),
                "duration": (SECONDS, f"health_check_duration_seconds{{{_CHOSEN}}}"),
                "since last run": (SECONDS, f"time() - health_check_last_run_timestamp_seconds{{{_CHOSEN}}}"),
            },
            sort="success",
            descending=False,
            no_data=_NO_CHECKS,
        ),
        state_timeline(
            "Failed checks",
            "Periods in which a check failed, for the checks that failed in the time range.",
            {"{{service}} {{instance}} {{check}}": _CHECKS},
            no_data="No check failed.",
        ),
    ],
)
