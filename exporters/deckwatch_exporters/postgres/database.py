"""pg_stat_database, sizes, connection limits, recovery conflicts and transaction ID wraparound.

https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-DATABASE-VIEW
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge, MetricPattern, Refresh, Sample, Untyped
from deckwatch_exporters.clients.libpq import MARK, QueryError, text
from deckwatch_exporters.clients.samples import sample, samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from deckwatch.exporter import Malformed, Metric, Samples

    from .server import Server

_LABELS = ("server", "datid", "datname")


def _counter(column: str, help: str) -> Metric:
    return Counter(f"pg_stat_database_{column}", help, _LABELS)


#: By column of pg_stat_database, with the types of postgres_exporter, which leaves some columns untyped.
STATISTICS: Mapping[str, Metric] = {
    "numbackends": Gauge("pg_stat_database_numbackends", "Number of sessions connected to this database.", _LABELS),
    "xact_commit": _counter("xact_commit", "Number of committed transactions in this database."),
    "xact_rollback": _counter("xact_rollback", "Number of transactions that were rolled back in this database."),
    "blks_read": _counter("blks_read", "Number of blocks of this database read from disk."),
    "blks_hit": _counter("blks_hit", "Number of blocks of this database found in the buffer cache."),
    "tup_returned": _counter("tup_returned", "Number of rows returned by queries in this database."),
    "tup_fetched": _counter("tup_fetched", "Number of rows fetched by queries in this database."),
    "tup_inserted": _counter("tup_inserted", "Number of rows inserted by queries in this database."),
    "tup_updated": _counter("tup_updated", "Number of rows updated by queries in this database."),
    "tup_deleted": _counter("tup_deleted", "Number of rows deleted by queries in this database."),
    "conflicts": _counter("conflicts", "Number of queries canceled due to conflicts with recovery."),
    "temp_files": _counter("temp_files", "Number of temporary files created by queries in this database."),
    "temp_bytes": _counter("temp_bytes", "Data that queries in this database wrote to temporary files, in bytes."),
    "deadlocks": _counter("deadlocks", "Number of deadlocks detected in this database."),
    "blk_read_time": _counter("blk_read_time", "Time spent reading blocks, in milliseconds; requires track_io_timing."),
    "blk_write_time": _counter(
        "blk_write_time", "Time spent writing blocks, in milliseconds; requires track_io_timing."
    ),
    "stats_reset": _counter("stats_reset", "Time at which these statistics were last reset, in Unix seconds."),
    "checksum_failures": Untyped(
        "pg_stat_database_checksum_failures", "Number of page checksum failures detected in this database.", _LABELS
    ),
    "checksum_last_failure": Untyped(
        "pg_stat_database_checksum_last_failure",
        "Time at which the last page checksum failure was detected, in Unix seconds.",
        _LABELS,
    ),
    "session_time": Untyped(
        "pg_stat_database_session_time", "Time spent by sessions in this database, in milliseconds.", _LABELS
    ),
    "active_time": Untyped(
        "pg_stat_database_active_time", "Time spent executing statements in this database, in milliseconds.", _LABELS
    ),
    "idle_in_transaction_time": Untyped(
        "pg_stat_database_idle_in_transaction_time",
        "Time that sessions in this database were idle in a transaction, in milliseconds.",
        _LABELS,
    ),
    "sessions": Untyped("pg_stat_database_sessions", "Number of sessions established to this database.", _LABELS),
    "sessions_abandoned": Untyped(
        "pg_stat_database_sessions_abandoned",
        "Number of sessions terminated because the connection to the client was lost.",
        _LABELS,
    ),
    "sessions_fatal": Untyped(
        "pg_stat_database_sessions_fatal", "Number of sessions terminated by fatal errors.", _LABELS
    ),
    "sessions_killed": Untyped(
        "pg_stat_database_sessions_killed", "Number of sessions terminated by operator intervention.", _LABELS
    ),
}
#: The name in newer versions of postgres_exporter.
ACTIVE_SECONDS = Counter(
    "pg_stat_database_active_time_seconds_total",
    "Time spent executing statements in this database, in seconds.",
    _LABELS,
)
#: Columns of newer versions, such as parallel_workers_* in 18.
OTHER = MetricPattern("pg_stat_database_*", "unknown", "Column {} of pg_stat_database.", _LABELS)
CONFLICTS = MetricPattern(
    "pg_stat_database_conflicts_*",
    "counter",
    "Number of queries canceled due to a conflict with recovery: {}.",
    _LABELS,
)
SIZE = Gauge("pg_database_size_bytes", "Disk space used by the database, in bytes.", ["server", "datname"])
CONNECTION_LIMIT = Gauge(
    "pg_database_connection_limit",
    "Maximum number of sessions in the database, -1 for no limit.",
    ["server", "datname"],
)
XID_AGE = Gauge(
    "pg_database_wraparound_age_datfrozenxid_seconds",
    "Age of the oldest transaction ID that is not frozen, in transactions (despite the name, not seconds).",
    ["server", "datname"],
)
MULTIXACT_AGE = Gauge(
    "pg_database_wraparound_age_datminmxid_seconds",
    "Age of the oldest multixact ID in the database, in multixacts (despite the name, not seconds).",
    ["server", "datname"],
)
XID_RATIO = Gauge(
    "pg_database_wraparound_ratio",
    "Fraction of the transaction IDs in use; at 1 the server refuses to write.",
    ["server", "datname"],
)
ROLE_LIMIT = Gauge(
    "pg_roles_connection_limit", "Maximum number of sessions of the role, -1 for no limit.", ["server", "rolname"]
)

_TIMES = ("stats_reset", "checksum_last_failure")
_EPOCH = "_epoch"  # a timestamp in Unix seconds
_EPOCHS = ", ".join(f"extract(epoch FROM s.{time}) AS {time}{_EPOCH}" for time in _TIMES)
# The row of the shared objects has no name. The columns of conflicts depend on the version: their prefix finds them.
_QUERY = f"""SELECT {MARK} *, {_EPOCHS}
FROM pg_catalog.pg_stat_database AS s LEFT JOIN pg_catalog.pg_stat_database_conflicts AS c USING (datid, datname)
LEFT JOIN (
    SELECT oid AS datid, datconnlimit, CASE WHEN datallowconn THEN pg_catalog.age(datfrozenxid) END AS xid_age,
        CASE WHEN datallowconn THEN pg_catalog.mxid_age(datminmxid) END AS multixact_age
    FROM pg_catalog.pg_database
) AS d USING (datid)"""
_CONFLICT = "confl_"
_NO_STATISTICS = {"datid", "datname", "datconnlimit", "xid_age", "multixact_age", *_TIMES}
# Without CONNECT on a database its size cannot be read, and asking for it would fail the query for all.
_SIZE_QUERY = f"""SELECT {MARK} datname,
    CASE WHEN pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')
           OR pg_catalog.has_database_privilege(oid, 'CONNECT') THEN pg_catalog.pg_database_size(oid) END
FROM pg_catalog.pg_database"""
_ROLES_QUERY = f"""SELECT {MARK} rolname, rolconnlimit FROM pg_catalog.pg_roles
WHERE rolcanlogin AND rolconnlimit <> -1"""

#: Seconds between two readings of sizes and roles: a size takes a look at every file of the database.
INTERVAL = 60.0
# query_canceled: the files are too many for the statement timeout. invalid_catalog_name, undefined_file: the database
# was just dropped. They leave the statistics alone, and the sizes are not tried again at once.
_SIZE_FAILURES = ("57014", "3D000", "58P01")
# The server refuses to write 3 million transactions before wraparound at 2**31.
_XID_LIMIT = 2**31 - 3_000_000


class DatabaseCollector:
    """Reads the databases, and passes their names to the collectors that run after it."""

    def __init__(
        self, server: Server, exclude: frozenset[str] = frozenset(), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._server = server
        self._exclude = exclude
        self._refresh = Refresh(INTERVAL - 1, clock)
        self._generation = -1
        self._roles_and_sizes: list[Sample | Malformed] = []

    def collect(self) -> Samples:
        self._server.databases = []
        # Sorted, because the order of a join changes with its plan.
        rows = sorted(self._server.session.query(_QUERY).dicts(), key=lambda row: row["datid"] or b"")
        self._server.databases = [text(row["datname"]) for row in rows if row["datname"] is not None]
        label = self._server.label
        rows = [row for row in rows if text(row["datname"]) not in self._exclude]
        for row in rows:
            labels = {"server": label, "datid": text(row["datid"]), "datname": text(row["datname"])}
            yield from _statistics(row, labels)
        for row in rows:
            labels = {"server": label, "datid": text(row["datid"]), "datname": text(row["datname"])}
            conflicts = ((CONFLICTS.named(it), row[it]) for it in row if it.startswith(_CONFLICT))
            yield from samples(conflicts, **labels)
        for row in rows:
            labels = {"server": label, "datname": text(row["datname"])}
            figures = ((CONNECTION_LIMIT, "datconnlimit"), (XID_AGE, "xid_age"), (MULTIXACT_AGE, "multixact_age"))
            for metric, column in figures:
                if (it := sample(metric, row[column], **labels)) is None:
                    continue
                yield it
                if metric is XID_AGE and isinstance(it, Sample):
                    yield XID_RATIO(it.value / _XID_LIMIT, **labels)
        yield from self._read_roles_and_sizes()

    def _read_roles_and_sizes(self) -> list[Sample | Malformed]:
        session, label = self._server.session, self._server.label
        if self._refresh.is_due or self._generation != session.generation:
            found: list[Sample | Malformed] = []
            for name, limit in session.query(_ROLES_QUERY):
                found += samples(((ROLE_LIMIT, limit),), server=label, rolname=text(name))
            self._roles_and_sizes, self._generation = found, session.generation
            self._refresh.done()
            try:
                sizes = session.query(_SIZE_QUERY).rows
            except QueryError as failure:
                if failure.sqlstate not in _SIZE_FAILURES:
                    raise
                sizes = []
            for name, size in sizes:
                if text(name) not in self._exclude:
                    found += samples(((SIZE, size),), server=label, datname=text(name))
        return self._roles_and_sizes


def _statistics(row: dict[str, bytes | None], labels: dict[str, str]) -> Iterator[Sample | Malformed]:
    for column, value in row.items():
        if value is None or column in _NO_STATISTICS or column.startswith(_CONFLICT):
            continue
        known = STATISTICS.get(column.removesuffix(_EPOCH))
        if known is not None:
            yield from samples(((known, value),), **labels)
        elif isinstance(it := sample(OTHER.named(column), value, **labels), Sample):
            yield it  # a new column may not be a number
        if column == "active_time" and isinstance(it := sample(ACTIVE_SECONDS, value, **labels), Sample):
            yield ACTIVE_SECONDS(it.value / 1000, **labels)
