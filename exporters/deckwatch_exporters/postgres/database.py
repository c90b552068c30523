"""pg_stat_database, sizes, connection limits, conflicts and the distance to transaction id wraparound.

https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-DATABASE-VIEW
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge, MetricPattern, Untyped
from deckwatch_exporters.clients.libpq import MARK, QueryError, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from deckwatch.exporter import Metric, Sample

    from .server import Server

_LABELS = ("server", "datid", "datname")


def _counter(column: str, help: str) -> Metric:
    return Counter(f"pg_stat_database_{column}", help, _LABELS)


#: By column of pg_stat_database. The peer's types, also where it leaves a column untyped.
STATISTICS: Mapping[str, Metric] = {
    "numbackends": Gauge("pg_stat_database_numbackends", "Sessions connected to this database.", _LABELS),
    "xact_commit": _counter("xact_commit", "Transactions of this database that were committed."),
    "xact_rollback": _counter("xact_rollback", "Transactions of this database that were rolled back."),
    "blks_read": _counter("blks_read", "Blocks of this database that were read from disk."),
    "blks_hit": _counter("blks_hit", "Blocks of this database that were found in the buffer cache."),
    "tup_returned": _counter("tup_returned", "Rows that scans of this database returned."),
    "tup_fetched": _counter("tup_fetched", "Rows that index scans of this database fetched."),
    "tup_inserted": _counter("tup_inserted", "Rows inserted into this database."),
    "tup_updated": _counter("tup_updated", "Rows updated in this database."),
    "tup_deleted": _counter("tup_deleted", "Rows deleted from this database."),
    "conflicts": _counter("conflicts", "Queries that were cancelled for a conflict with recovery."),
    "temp_files": _counter("temp_files", "Temporary files that queries of this database made."),
    "temp_bytes": _counter("temp_bytes", "Data that queries of this database wrote to temporary files, in bytes."),
    "deadlocks": _counter("deadlocks", "Deadlocks found in this database."),
    "blk_read_time": _counter("blk_read_time", "Time spent reading blocks, in milliseconds (track_io_timing)."),
    "blk_write_time": _counter("blk_write_time", "Time spent writing blocks, in milliseconds (track_io_timing)."),
    "stats_reset": _counter("stats_reset", "When these statistics were last reset, in Unix seconds."),
    "checksum_failures": Untyped(
        "pg_stat_database_checksum_failures", "Pages with a wrong checksum in this database.", _LABELS
    ),
    "checksum_last_failure": Untyped(
        "pg_stat_database_checksum_last_failure", "When a page with a wrong checksum was last found.", _LABELS
    ),
    "session_time": Untyped(
        "pg_stat_database_session_time", "Time that sessions of this database lasted, in milliseconds.", _LABELS
    ),
    "active_time": Untyped(
        "pg_stat_database_active_time", "Time spent executing statements in this database, in milliseconds.", _LABELS
    ),
    "idle_in_transaction_time": Untyped(
        "pg_stat_database_idle_in_transaction_time",
        "Time that sessions of this database were idle in a transaction, in milliseconds.",
        _LABELS,
    ),
    "sessions": Untyped("pg_stat_database_sessions", "Sessions of this database so far.", _LABELS),
    "sessions_abandoned": Untyped(
        "pg_stat_database_sessions_abandoned", "Sessions that ended because the client was gone.", _LABELS
    ),
    "sessions_fatal": Untyped("pg_stat_database_sessions_fatal", "Sessions that a fatal error ended.", _LABELS),
    "sessions_killed": Untyped("pg_stat_database_sessions_killed", "Sessions that an operator ended.", _LABELS),
}
#: The spelling of newer peers.
ACTIVE_SECONDS = Counter(
    "pg_stat_database_active_time_seconds_total", "Time spent executing statements, in seconds.", _LABELS
)
#: What a future version adds (18 has parallel_workers_*).
OTHER = MetricPattern("pg_stat_database_*", "unknown", "Column {} of pg_stat_database.", _LABELS)
CONFLICTS = MetricPattern(
    "pg_stat_database_conflicts_*", "counter", "Queries cancelled for a conflict with recovery: {}.", _LABELS
)
SIZE = Gauge("pg_database_size_bytes", "Disk space that the database takes, in bytes.", ["server", "datname"])
CONNECTION_LIMIT = Gauge(
    "pg_database_connection_limit", "Sessions that the database allows; -1 for no limit.", ["server", "datname"]
)
XID_AGE = Gauge(
    "pg_database_wraparound_age_datfrozenxid_seconds",
    "Transactions since the oldest one that is not frozen (a number, whatever the name says).",
    ["server", "datname"],
)
MULTIXACT_AGE = Gauge(
    "pg_database_wraparound_age_datminmxid_seconds",
    "Multixacts since the oldest one that is in use (a number, whatever the name says).",
    ["server", "datname"],
)
XID_RATIO = Gauge(
    "pg_database_wraparound_ratio",
    "How much of the transaction ids is used up before the server refuses to write (1 is the end).",
    ["server", "datname"],
)
ROLE_LIMIT = Gauge(
    "pg_roles_connection_limit", "Sessions that the role allows; -1 for no limit.", ["server", "rolname"]
)

_TIMES = ("stats_reset", "checksum_last_failure")
_EPOCH = "_epoch"  # how a timestamp looks depends on DateStyle: the epoch beside it does not
_EPOCHS = ", ".join(f"extract(epoch FROM s.{time}) AS {time}{_EPOCH}" for time in _TIMES)
# The row of what all databases share has no name. What a view has depends on the version: the columns of conflicts are
# known by their prefix.
_QUERY = f"""SELECT {MARK} *, {_EPOCHS}
FROM pg_stat_database AS s LEFT JOIN pg_stat_database_conflicts AS c USING (datid, datname)
LEFT JOIN (
    SELECT oid AS datid, datconnlimit, CASE WHEN datallowconn THEN age(datfrozenxid) END AS xid_age,
        CASE WHEN datallowconn THEN mxid_age(datminmxid) END AS multixact_age
    FROM pg_database
) AS d USING (datid)"""
_CONFLICT = "confl_"
_NO_STATISTICS = {"datid", "datname", "datconnlimit", "xid_age", "multixact_age", *_TIMES}
# A database that one may not enter has no size for us, and must not take the others' away.
_SIZE_QUERY = f"""SELECT {MARK} datname,
    CASE WHEN pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')
           OR has_database_privilege(oid, 'CONNECT') THEN pg_database_size(oid) END
FROM pg_database"""
_ROLES_QUERY = f"SELECT {MARK} rolname, rolconnlimit FROM pg_roles WHERE rolcanlogin AND rolconnlimit <> -1"

#: Sizes come from looking at every file of the database, and roles hardly change: not more often than this (seconds).
INTERVAL = 60.0
# The statement timeout, for there are too many files; a database that was dropped in the meantime. Neither may take the
# statistics away, and neither is tried again at once.
_SIZE_FAILURES = ("57014", "3D000")
# The server stops writing 3 million transactions before the 2**31 that can be told apart.
_XID_LIMIT = 2**31 - 3_000_000


class DatabaseCollector:
    """Reads the databases for itself, and leaves their names on the Server for those that run after it."""

    def __init__(
        self, server: Server, exclude: frozenset[str] = frozenset(), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._server = server
        self._exclude = exclude
        self._clock = clock
        self._seldom: list[Sample] = []
        self._read = (-1, 0.0)  # by which connection, and when

    def collect(self) -> Iterable[Sample]:
        self._server.databases = []
        # In an order of our own: that of a join changes with its plan.
        rows = sorted(self._server.session.query(_QUERY).dicts(), key=lambda row: row["datid"] or b"")
        self._server.databases = [text(row["datname"]) for row in rows if row["datname"] is not None]
        label = self._server.label
        rows = [row for row in rows if text(row["datname"]) not in self._exclude]
        for row in rows:
            labels = {"server": label, "datid": text(row["datid"]), "datname": text(row["datname"])}
            yield from _statistics(row, labels)
        for row in rows:
            labels = {"server": label, "datid": text(row["datid"]), "datname": text(row["datname"])}
            for column, value in row.items():
                if column.startswith(_CONFLICT) and value is not None:
                    yield CONFLICTS.named(column)(float(value), **labels)
        for row in rows:
            limit, xids, multixacts = row["datconnlimit"], row["xid_age"], row["multixact_age"]
            labels = {"server": label, "datname": text(row["datname"])}
            if limit is not None:
                yield CONNECTION_LIMIT(float(limit), **labels)
            if xids is not None and multixacts is not None:
                yield XID_AGE(float(xids), **labels)
                yield MULTIXACT_AGE(float(multixacts), **labels)
                yield XID_RATIO(float(xids) / _XID_LIMIT, **labels)
        yield from self._roles_and_sizes()

    def _roles_and_sizes(self) -> list[Sample]:
        session, label = self._server.session, self._server.label
        generation, when = self._read
        if generation != session.generation or self._clock() - when > INTERVAL - 1:
            self._seldom = [
                ROLE_LIMIT(float(limit or b"-1"), server=label, rolname=text(name))
                for name, limit in session.query(_ROLES_QUERY)
            ]
            self._read = session.generation, self._clock()
            try:
                sizes = session.query(_SIZE_QUERY).rows
            except QueryError as failure:
                if failure.sqlstate not in _SIZE_FAILURES:
                    raise
                sizes = []
            self._seldom += [
                SIZE(float(size), server=label, datname=text(name))
                for name, size in sizes
                if size is not None and text(name) not in self._exclude
            ]
        return self._seldom


def _statistics(row: dict[str, bytes | None], labels: dict[str, str]) -> Iterable[Sample]:
    for column, value in row.items():
        if value is None or column in _NO_STATISTICS or column.startswith(_CONFLICT):
            continue
        try:
            figure = float(value)
        except ValueError:
            continue  # a kind of column that no version has so far
        column = column.removesuffix(_EPOCH)
        yield (STATISTICS.get(column) or OTHER.named(column))(figure, **labels)
        if column == "active_time":
            yield ACTIVE_SECONDS(figure / 1000, **labels)
