"""Dependencies: calls of databases, caches and HTTP servers, connection pools, circuit breakers and retries."""

from __future__ import annotations

from .dashboard import Dashboard, Variable
from .log_panels import log_lines
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
    state_timeline,
    value_table,
)

_CHOSEN = '@host, service=~"$service"'
_FAILED = f'{_CHOSEN}, error_type!=""'
_DB, _HTTP = "db_client_operation_duration_seconds", "http_client_request_duration_seconds"
_BY_STATEMENT, _STATEMENT = (
    "service, db_system_name, db_operation_name",
    "{{service}} {{db_system_name}} {{db_operation_name}}",
)
_BY_SERVER, _SERVER = "service, server_address", "{{service}} {{server_address}}"
_BY_CACHE, _CACHE = "service, cache, category", "{{service}} {{cache}} {{category}}"
_BY_POOL, _POOL = (
    "service, instance, db_client_connection_pool_name",
    "{{service}} {{instance}} {{db_client_connection_pool_name}}",
)
_BY_BREAKER, _BREAKER = "service, instance, breaker", "{{service}} {{instance}} {{breaker}}"
_HITS, _MISSES = f"cache_hits_total{{{_CHOSEN}}}", f"cache_misses_total{{{_CHOSEN}}}"
_USED = f'db_client_connection_count{{{_CHOSEN}, db_client_connection_state="used"}}'
_LIMIT = f"db_client_connection_max{{{_CHOSEN}}}"
_PENDING = f"db_client_connection_pending_requests{{{_CHOSEN}}}"
_TIMEOUTS = f"db_client_connection_timeouts_total{{{_CHOSEN}}}"
_OPEN = f'circuit_breaker_state{{{_CHOSEN}, state="open"}}'
_GIVEUPS = f"retry_giveups_total{{{_CHOSEN}}}"
_NOT_INSTRUMENTED = "The application does not call deckwatch.instrument()."
_NO_POOL = "The application watches no pool: see deckwatch.watch_pool."
_NO_CACHE = "The application watches no cache: see deckwatch.watch_cache."
_NO_BREAKER = "The application watches no circuit breaker: see deckwatch.watch_breaker."
_NO_RETRY = "The application watches no retries: see deckwatch.watch_retries."


def _quantile(metric: str, by: str) -> str:
    return f"histogram_quantile(0.95, sum by ({by}, le) (rate({metric}_bucket{{{_CHOSEN}}}[@rate])) > 0)"


def _failed(metric: str, by: str) -> str:
    """Failed calls as a share of all. Without failures there are no series of them, so they count as 0."""
    calls = f"sum by ({by}) (rate({metric}_count{{{_CHOSEN}}}[@rate]))"
    failed = f"sum by ({by}) (rate({metric}_count{{{_FAILED}}}[@rate]))"
    return f"({failed} or 0 * {calls}) / ({calls} > 0)"


def _hit_ratio(by: str) -> str:
    hits, misses = (f"sum by ({by}) (rate({it}[@rate]))" for it in (_HITS, _MISSES))
    return f"{hits} / (({hits} + {misses}) > 0)"


def _use(by: str) -> str:
    return f"sum by ({by}) ({_USED}) / (sum by ({by}) ({_LIMIT}) > 0)"


DASHBOARD = Dashboard(
    name="dependencies",
    title="Dependencies",
    question="Does what applications depend on answer, and do they have enough connections to it?",
    instances="deckwatch_apps_processes",
    variables=[
        Variable("service", "Service", "deckwatch_apps_processes{@host}, service", "Services of applications.", ".+"),
    ],
    tags=["application"],
    panels=[
        problem_stat(
            "Open circuits",
            "Circuit breakers that are open, in all processes. The calls that they guard fail at once.",
            f"sum({_OPEN})",
            no_data=_NO_BREAKER,
        ),
        problem_stat(
            "Fullest pool",
            "Connections in use as a share of the limit, for the fullest pool of a service on one instance.",
            f"max({_use(_BY_POOL)})",
            unit=RATIO,
            bad_from=0.9,
            no_data=_NO_POOL,
        ),
        problem_stat(
            "Requests waiting",
            "Requests that wait for a connection of a pool, in all services.",
            f"sum({_PENDING})",
            no_data=_NO_POOL,
        ),
        problem_stat(
            "Requests without connection",
            "Requests in the last hour that got no connection because the pool was exhausted.",
            f"round(sum(increase({_TIMEOUTS}[1h])))",
            no_data=_NO_POOL,
        ),
        problem_stat(
            "Give-ups",
            "Operations in the last hour that failed after their last attempt.",
            f"round(sum(increase({_GIVEUPS}[1h])))",
            no_data=_NO_RETRY,
        ),
        problem_stat(
            "Slowest database",
            "Duration that 95 % of the operations of the slowest database do not exceed.",
            f"max({_quantile(_DB, 'service, db_system_name')})",
            unit=SECONDS,
            bad_from=0.5,
            no_data=_NOT_INSTRUMENTED,
        ),
        row("Calls"),
        rate_graph(
            "Database operations",
            "Operations as the application sees them, by the first word of the statement.",
            PER_SECOND,
            {"": f"{_DB}_count{{{_CHOSEN}}}"},
            by=_BY_STATEMENT,
            no_data=_NOT_INSTRUMENTED,
        ),
        graph(
            "Database operations, 95th percentile",
            "Duration that 95 % of the operations do not exceed. Compare it with the dashboard of the database.",
            SECONDS,
            {_STATEMENT: _quantile(_DB, _BY_STATEMENT)},
            no_data=_NOT_INSTRUMENTED,
        ),
        ratio_graph(
            "Failed database operations",
            "Share of operations that raised an exception.",
            {"{{service}} {{db_system_name}}": _failed(_DB, "service, db_system_name")},
            no_data=_NOT_INSTRUMENTED,
        ),
        rate_graph(
            "HTTP requests sent",
            "Requests that the application sends, by server.",
            PER_SECOND,
            {"": f"{_HTTP}_count{{{_CHOSEN}}}"},
            by=_BY_SERVER,
            no_data=_NOT_INSTRUMENTED,
        ),
        graph(
            "HTTP requests sent, 95th percentile",
            "Duration that 95 % of the requests do not exceed, by server.",
            SECONDS,
            {_SERVER: _quantile(_HTTP, _BY_SERVER)},
            no_data=_NOT_INSTRUMENTED,
        ),
        ratio_graph(
            "Failed HTTP requests",
            "Share of requests without a response, or with a status of 400 or above.",
            {_SERVER: _failed(_HTTP, _BY_SERVER)},
            no_data=_NOT_INSTRUMENTED,
        ),
        log_lines(
            "Slow calls",
            "Calls that took longer than `slow_call_seconds` of deckwatch.instrument, with trace id, newest first.",
            '{job=~".+"} |= `dependency.slow_call` | json | event=`dependency.slow_call` | service=~"$service"',
        ),
        row("Caches"),
        ratio_graph(
            "Hit ratio",
            "Lookups that found a value. If it falls, look for a flush, evictions or a changed key.",
            {_CACHE: _hit_ratio(_BY_CACHE)},
            show_lowest=True,
            threshold_name="cache_hit_ratio",
            no_data=_NO_CACHE,
        ),
        rate_graph(
            "Lookups",
            "Lookups by result.",
            PER_SECOND,
            {"hits": _HITS, "misses": _MISSES},
            by="service, cache",
            no_data=_NO_CACHE,
        ),
        graph(
            "Cache operations, 95th percentile",
            "Duration that 95 % of the operations do not exceed, for caches on a network.",
            SECONDS,
            {
                "{{service}} {{cache}} {{operation}}": _quantile(
                    "cache_operation_duration_seconds", "service, cache, operation"
                )
            },
            no_data=_NO_CACHE,
        ),
        graph(
            "Entries",
            "Entries of caches in the memory of processes, added up.",
            COUNT,
            {_CACHE: f"sum by ({_BY_CACHE}) (cache_entries{{{_CHOSEN}}})"},
            width=12,
            no_data="No cache in the memory of processes is watched.",
        ),
        rate_graph(
            "Failed cache operations",
            "Operations that raised an exception. Look at the alerts of the cache's server.",
            PER_SECOND,
            {"": f"cache_errors_total{{{_CHOSEN}}}"},
            by="service, cache, operation",
            width=12,
            no_data="No operation of a cache has failed.",
        ),
        row("Connection pools"),
        ratio_graph(
            "Use",
            "Connections in use as a share of the limit. At 100 %, requests wait.",
            {_POOL: _use(_BY_POOL)},
            no_data=_NO_POOL,
        ),
        graph(
            "Requests waiting for a connection",
            "If they rise while the database is idle, connections are held too long or the pool is too small.",
            COUNT,
            {_POOL: f"sum by ({_BY_POOL}) ({_PENDING})"},
            no_data=_NO_POOL,
        ),
        graph(
            "Wait, 95th percentile",
            "Duration that 95 % of the requests for a connection do not exceed.",
            SECONDS,
            {_POOL: _quantile("db_client_connection_wait_time_seconds", _BY_POOL)},
            no_data=_NO_POOL,
        ),
        value_table(
            "Pools",
            "One row per pool, the fullest first.",
            _BY_POOL,
            {
                "used": (COUNT, f"sum by ({_BY_POOL}) ({_USED})"),
                "limit": (COUNT, f"sum by ({_BY_POOL}) ({_LIMIT})"),
                "use": (RATIO, _use(_BY_POOL)),
                "waiting": (COUNT, f"sum by ({_BY_POOL}) ({_PENDING})"),
                "without connection per second": (PER_SECOND, f"sum by ({_BY_POOL}) (rate({_TIMEOUTS}[@rate]))"),
            },
            sort="use",
            width=24,
            height=5,
            no_data=_NO_POOL,
        ),
        row("Circuit breakers and retries"),
        state_timeline(
            "Open circuits",
            "Periods in which a circuit breaker was open in a process, for those that were in the time range.",
            {_BREAKER: f"(sum by ({_BY_BREAKER}) ({_OPEN})) == bool 0"},
            no_data="No circuit breaker was open.",
        ),
        rate_graph(
            "Failures",
            "Failed calls, as circuit breakers count them.",
            PER_SECOND,
            {"": f"circuit_breaker_failures_total{{{_CHOSEN}}}"},
            by="service, breaker",
            width=12,
            no_data=_NO_BREAKER,
        ),
        rate_graph(
            "Changes of state",
            "Changes of circuit breakers to a state. Many changes mean that the dependency is unstable.",
            PER_SECOND,
            {"": f"circuit_breaker_state_changes_total{{{_CHOSEN}}}"},
            by="service, breaker, state",
            no_data=_NO_BREAKER,
        ),
        rate_graph(
            "Repeated attempts",
            "Attempts after a failed attempt. They add load to a dependency that is already in trouble.",
            PER_SECOND,
            {"": f"retry_repeated_attempts_total{{{_CHOSEN}}}"},
            by="service, operation",
            no_data=_NO_RETRY,
        ),
        rate_graph(
            "Give-ups by operation",
            "Operations that failed after their last attempt.",
            PER_SECOND,
            {"": _GIVEUPS},
            by="service, operation",
            no_data=_NO_RETRY,
        ),
    ],
)
