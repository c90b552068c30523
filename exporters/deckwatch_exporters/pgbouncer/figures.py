"""The metrics of the admin console's answers to SHOW."""

from __future__ import annotations

import collections
import math
from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge, Malformed, Sample

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from deckwatch.exporter import Metric

VERSION = Gauge("pgbouncer_version_info", "Version of PgBouncer, as a label; the value is always 1.", ["version"])

_DATABASE = ("name", "host", "port", "database", "force_user", "pool_mode")
_RESERVE = Gauge(
    "pgbouncer_databases_reserve_pool",
    "Maximum number of additional server connections for the pools of this database.",
    _DATABASE,
)
#: By the column of SHOW DATABASES.
DATABASES = {
    "pool_size": Gauge("pgbouncer_databases_pool_size", "Maximum number of server connections of a pool.", _DATABASE),
    "reserve_pool": _RESERVE,
    "reserve_pool_size": _RESERVE,  # since 1.24
    "max_connections": Gauge(
        "pgbouncer_databases_max_connections",
        "Maximum number of server connections of this database, 0 for no limit.",
        _DATABASE,
    ),
    "current_connections": Gauge(
        "pgbouncer_databases_current_connections", "Current number of server connections of this database.", _DATABASE
    ),
    "paused": Gauge("pgbouncer_databases_paused", "Whether the database is paused (1) or not (0).", _DATABASE),
    "disabled": Gauge("pgbouncer_databases_disabled", "Whether the database is disabled (1) or not (0).", _DATABASE),
}

_POOL = ("database", "user")
MAXWAIT = Gauge(
    "pgbouncer_pools_client_maxwait_seconds",
    "Time that the first client in the queue has waited for a server connection, in seconds.",
    _POOL,
)
#: By the column of SHOW POOLS.
POOLS = {
    "cl_active": Gauge(
        "pgbouncer_pools_client_active_connections",
        "Number of client connections that are linked to a server connection or idle.",
        _POOL,
    ),
    "cl_waiting": Gauge(
        "pgbouncer_pools_client_waiting_connections",
        "Number of client connections that wait for a server connection.",
        _POOL,
    ),
    "cl_active_cancel_req": Gauge(
        "pgbouncer_pools_client_active_cancel_connections",
        "Number of client connections with a forwarded cancel request that wait for the server's answer.",
        _POOL,
    ),
    "cl_waiting_cancel_req": Gauge(
        "pgbouncer_pools_client_waiting_cancel_connections",
        "Number of client connections with a cancel request that has not been forwarded yet.",
        _POOL,
    ),
    "sv_active": Gauge(
        "pgbouncer_pools_server_active_connections", "Number of server connections that are linked to a client.", _POOL
    ),
    "sv_active_cancel": Gauge(
        "pgbouncer_pools_server_active_cancel_connections",
        "Number of server connections that forward a cancel request.",
        _POOL,
    ),
    "sv_being_canceled": Gauge(
        "pgbouncer_pools_server_being_canceled_connections",
        "Number of server connections that are unused until the cancel requests sent to them have completed.",
        _POOL,
    ),
    "sv_idle": Gauge(
        "pgbouncer_pools_server_idle_connections",
        "Number of server connections that are idle and ready for a client.",
        _POOL,
    ),
    "sv_used": Gauge(
        "pgbouncer_pools_server_used_connections",
        "Number of server connections idle for longer than server_check_delay, which must be checked before use.",
        _POOL,
    ),
    "sv_tested": Gauge(
        "pgbouncer_pools_server_testing_connections",
        "Number of server connections that run server_reset_query or server_check_query.",
        _POOL,
    ),
    "sv_login": Gauge(
        "pgbouncer_pools_server_login_connections", "Number of server connections that are logging in.", _POOL
    ),
    "maxwait": MAXWAIT,
}

#: By the column of SHOW STATS_TOTALS (since 1.8).
STATS = {
    "query_count": Counter(
        "pgbouncer_stats_totals_queries_pooled_total", "Number of SQL queries pooled.", ["database"]
    ),
    "query_time": Counter(
        "pgbouncer_stats_totals_queries_duration_seconds_total",
        "Time spent executing queries, in seconds.",
        ["database"],
    ),
    "bytes_received": Counter(
        "pgbouncer_stats_totals_received_bytes_total", "Network traffic received by PgBouncer, in bytes.", ["database"]
    ),
    "bytes_sent": Counter(
        "pgbouncer_stats_totals_sent_bytes_total", "Network traffic sent by PgBouncer, in bytes.", ["database"]
    ),
    "wait_time": Counter(
        "pgbouncer_stats_totals_client_wait_seconds_total",
        "Time that clients spent waiting for a server connection, in seconds.",
        ["database"],
    ),
    "xact_count": Counter(
        "pgbouncer_stats_totals_sql_transactions_pooled_total", "Number of SQL transactions pooled.", ["database"]
    ),
    "xact_time": Counter(
        "pgbouncer_stats_totals_server_in_transaction_seconds_total",
        "Time that server connections spent in a transaction, executing or idle, in seconds.",
        ["database"],
    ),
    "client_parse_count": Counter(
        "pgbouncer_stats_totals_client_parses_total", "Number of prepared statements created by clients.", ["database"]
    ),
    "server_parse_count": Counter(
        "pgbouncer_stats_totals_server_parses_total", "Number of prepared statements created on servers.", ["database"]
    ),
    "bind_count": Counter(
        "pgbouncer_stats_totals_binds_total", "Number of prepared statements readied for execution.", ["database"]
    ),
    "server_assignment_count": Counter(
        "pgbouncer_stats_totals_server_assignments_total",
        "Number of times a server connection was assigned to a client.",
        ["database"],
    ),
}
_MICROSECONDS = frozenset({"query_time", "wait_time", "xact_time"})

#: By the row of SHOW LISTS.
LISTS = {
    "databases": Gauge("pgbouncer_databases", "Number of databases."),
    "users": Gauge("pgbouncer_users", "Number of users."),
    "pools": Gauge("pgbouncer_pools", "Number of pools."),
    "free_clients": Gauge("pgbouncer_free_clients", "Number of free client connections."),
    "used_clients": Gauge("pgbouncer_used_clients", "Number of client connections in use."),
    "login_clients": Gauge("pgbouncer_login_clients", "Number of client connections that are logging in."),
    "free_servers": Gauge("pgbouncer_free_servers", "Number of free server connections."),
    "used_servers": Gauge("pgbouncer_used_servers", "Number of server connections in use."),
    "dns_names": Gauge("pgbouncer_cached_dns_names", "Number of DNS names in the cache."),
    "dns_zones": Gauge("pgbouncer_cached_dns_zones", "Number of DNS zones in the cache."),
    "dns_queries": Gauge("pgbouncer_in_flight_dns_queries", "Number of DNS queries in progress."),
}

#: By the row of SHOW CONFIG.
CONFIG = {
    "max_client_conn": Gauge(
        "pgbouncer_config_max_client_connections", "Maximum number of client connections (max_client_conn)."
    ),
    "max_user_connections": Gauge(
        "pgbouncer_config_max_user_connections",
        "Maximum number of server connections of a user (max_user_connections).",
    ),
}

CLIENTS = Gauge(
    "pgbouncer_client_connections",
    "Number of client connections; application names over the budget are counted as `other`.",
    ["database", "user", "application_name", "state"],
)
OVER_BUDGET = Gauge(
    "pgbouncer_client_application_names_over_budget", "Number of application names that are counted as `other`."
)

#: The rows of a result by column. NULL is None.
Rows = list[dict[str, str | None]]


def parse_rows(columns: Sequence[str], rows: Iterable[Sequence[bytes | None]]) -> Rows:
    """The rows as text. Bytes that are not UTF-8 become escapes, so that names stay distinct."""
    return [
        {
            column: None if value is None else value.decode(errors="backslashreplace")
            for column, value in zip(columns, row, strict=True)
        }
        for row in rows
    ]


def databases(rows: Rows) -> Iterator[Sample | Malformed]:
    for row in rows:
        yield from _figures(row, DATABASES, {label: row.get(label) or "" for label in _DATABASE})


def pools(rows: Rows) -> Iterator[Sample | Malformed]:
    for row in rows:
        labels = {label: row.get(label) or "" for label in _POOL}
        for sample in _figures(row, POOLS, labels):
            if isinstance(sample, Sample) and sample.series.metric is MAXWAIT:
                # Whole seconds; another column holds the microseconds.
                text = row.get("maxwait_us") or "0"
                microseconds = _number(text)
                if microseconds is None:
                    yield Malformed(f"{MAXWAIT.name}, microseconds", text[:100])
                yield MAXWAIT(sample.value + (microseconds or 0.0) / 1e6, **labels)
            else:
                yield sample


def stats_totals(rows: Rows) -> Iterator[Sample | Malformed]:
    for row in rows:
        labels = {"database": row.get("database") or ""}
        yield from _figures(row, {it: STATS[it] for it in STATS if it not in _MICROSECONDS}, labels)
        for sample in _figures(row, {it: STATS[it] for it in STATS if it in _MICROSECONDS}, labels):
            yield sample._replace(value=sample.value / 1e6) if isinstance(sample, Sample) else sample


def lists(rows: Rows) -> Iterator[Sample | Malformed]:
    return _named_figures(rows, "list", "items", LISTS)


def config(rows: Rows) -> Iterator[Sample | Malformed]:
    return _named_figures(rows, "key", "value", CONFIG)


def _named_figures(rows: Rows, name: str, value: str, metrics: Mapping[str, Metric]) -> Iterator[Sample | Malformed]:
    """The figures of rows that consist of a name and a value. The first row of a name counts."""
    values: dict[str, str | None] = {}
    for row in rows:
        key = row.get(name) or ""
        if key in values and key in metrics:
            yield Malformed(f"{metrics[key].name}, repeated row", row.get(value) or "")
        values.setdefault(key, row.get(value))
    yield from _figures(values, metrics, {})


def _figures(
    row: Mapping[str, str | None], metrics: Mapping[str, Metric], labels: Mapping[str, str]
) -> Iterator[Sample | Malformed]:
    """Columns that are NULL, or that this version does not have, have no samples."""
    for column, metric in metrics.items():
        text = row.get(column)
        if text is None:
            continue
        value = _number(text)
        if value is not None and (value >= 0 or metric.type == "gauge"):
            yield metric(value, **labels)
        else:
            yield Malformed(metric.name, text[:100])


def _number(text: str) -> float | None:
    """A finite number; None for anything else, such as `1_0`, which is one for Python only."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def older_version(number: int) -> str:
    """The version of a PgBouncer before 1.12, where SHOW VERSION returns a notice and no row; `` for newer ones.

    `number` is the version as libpq gives it (10801 for 1.8.1), 0 if it is unknown.
    """
    return f"PgBouncer {number // 10000}.{number // 100 % 100}.{number % 100}" if 0 < number < 11200 else ""


class ClientGroups:
    """SHOW CLIENTS counted by database, user, application name and state.

    Applications choose their names. At most `budget` names have their own series, the most frequent first, and keep
    them while they have clients. The others are counted as `other`.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._named: set[str] = set()

    def samples(self, rows: Rows) -> Iterator[Sample]:
        # application_name exists since 1.18.
        clients = [tuple(row.get(label) or "" for label in CLIENTS.labels) for row in rows]
        names = collections.Counter(name for _, _, name, _ in clients)
        self._named &= names.keys()
        newcomers = sorted(names.keys() - self._named, key=lambda name: (-names[name], name))
        self._named.update(newcomers[: self._budget - len(self._named)])
        counts = collections.Counter(
            (database, user, name if name in self._named else "other", state) for database, user, name, state in clients
        )
        for (database, user, name, state), count in counts.items():
            yield CLIENTS(count, database=database, user=user, application_name=name, state=state)
        yield OVER_BUDGET(len(names) - len(self._named))
