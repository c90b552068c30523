"""Advice on a server: what costs it time or space, the figure that says so, and the statement that would mend it.

Nothing of it is ever run. Each figure is a metric too, so that a rule can watch it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Advice, Missing
from deckwatch_exporters.clients.libpq import MARK, QueryError, Session, number, text

from .schema import read_schema
from .server import Server
from .sql_text import cut, redacted
from .statement_counts import find_extension

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .settings import PostgresSettings

_MIB = 2**20
_HIT_RATIO = 0.95
_SEQUENCE_USED = 0.75
_SMALLEST_INDEX = _MIB
_MOST = 10

_UNUSED_QUERY = f"""SELECT {MARK} quote_ident(i.schemaname) || '.' || quote_ident(i.indexrelname),
    pg_relation_size(i.indexrelid), (SELECT extract(epoch FROM now() - coalesce(stats_reset,
        pg_postmaster_start_time())) FROM pg_stat_database WHERE datname = current_database())
FROM pg_stat_user_indexes AS i JOIN pg_index AS x USING (indexrelid)
WHERE i.idx_scan = 0 AND NOT x.indisunique AND NOT x.indisprimary AND x.indisvalid
    AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid)
    AND NOT EXISTS (SELECT FROM pg_locks AS l WHERE l.relation = i.indexrelid AND l.mode = 'AccessExclusiveLock')
    AND pg_relation_size(i.indexrelid) >= {_SMALLEST_INDEX}
ORDER BY 2 DESC LIMIT {_MOST}"""
_SCANNED_QUERY = f"""SELECT {MARK} quote_ident(schemaname) || '.' || quote_ident(relname), seq_scan,
    seq_tup_read / seq_scan, coalesce(idx_scan, 0)
FROM pg_stat_user_tables
WHERE seq_scan > 0 AND seq_tup_read / seq_scan > 10000 AND seq_scan > coalesce(idx_scan, 0) / 10
ORDER BY seq_tup_read DESC LIMIT {_MOST}"""
_HITS_QUERY = f"""SELECT {MARK} datname, blks_hit, blks_read FROM pg_stat_database
WHERE datname IS NOT NULL AND blks_read > 10000 AND blks_hit < {_HIT_RATIO} * (blks_hit + blks_read)"""
_SETTINGS_QUERY = f"""SELECT {MARK} name, setting, unit FROM pg_settings WHERE name IN (
    'shared_buffers', 'max_connections', 'autovacuum', 'fsync', 'full_page_writes', 'work_mem', 'max_wal_size',
    'idle_in_transaction_session_timeout', 'track_io_timing', 'superuser_reserved_connections')"""
_STATE_QUERY = f"""SELECT {MARK}
    (SELECT sum(pg_database_size(oid)) FROM pg_database WHERE has_database_privilege(oid, 'CONNECT')),
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
    (SELECT sum(temp_bytes) FROM pg_stat_database), (SELECT sum(temp_files) FROM pg_stat_database),
    (SELECT max(extract(epoch FROM now() - state_change)) FROM pg_stat_activity
     WHERE state LIKE 'idle in transaction%'),
    (SELECT max(age(datfrozenxid)) FROM pg_database),
    (SELECT max(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn()
        ELSE pg_current_wal_lsn() END, restart_lsn)) FROM pg_replication_slots WHERE NOT active),
    (SELECT slot_name FROM pg_replication_slots WHERE NOT active AND restart_lsn IS NOT NULL
     ORDER BY restart_lsn LIMIT 1)"""
_CHECKPOINTS_QUERY = f"SELECT {MARK} checkpoints_timed, checkpoints_req FROM pg_stat_bgwriter"
_CHECKPOINTS_QUERY_17 = f"SELECT {MARK} num_timed, num_requested FROM pg_stat_checkpointer"


def advice(settings: PostgresSettings) -> Iterator[Advice]:
    """What to mend on a server and in the DSN's database. Raises NotConnected, QueryError."""
    # Measuring every index takes longer than a look at the counters.
    server = Server(settings.conninfo, max(settings.timeout, 30.0), settings.lock_timeout)
    try:
        server.session.connect()
        yield from _statements(server)
        yield from _tables(server.session)
        yield from _schema(server.session)
        yield from _settings(server)
    finally:
        server.session.close()


def _statements(server: Server) -> Iterator[Advice]:
    session = server.session
    try:
        extension = find_extension(session, server.database)
        seconds = extension.figures[1]
        rows = session.query(
            f"SELECT {MARK} {seconds}, {seconds} / sum({seconds}) OVER (), calls, left(query, 1000)"
            f" FROM {extension.schema}.pg_stat_statements WHERE query NOT LIKE '%{MARK}%' ORDER BY 1 DESC LIMIT 5"
        ).rows
    except Missing:
        yield Advice(
            "statements",
            f"database {server.database}",
            "pg_stat_statements is missing: nobody knows which statements take the time",
            "CREATE EXTENSION pg_stat_statements;",
        )
        return
    except QueryError as failure:
        yield Advice(
            "statements", "server", f"pg_stat_statements: {failure}",
            "ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements';  -- and restart the server",
        )  # fmt: skip
        return
    for spent, share, calls, query in rows:
        if (number(share) or 0) >= 0.1:
            yield Advice(
                "statements",
                cut(redacted(text(query)), 300),
                f"{number(share):.0%} of all statements' time: {number(spent):.1f} s (calls: {number(calls):.0f})",
                f"EXPLAIN (ANALYZE, BUFFERS) {cut(redacted(text(query)), 60)} ...",
            )


def _tables(session: Session) -> Iterator[Advice]:
    for index, size, age in session.query(_UNUSED_QUERY):
        days = (number(age) or 0) / 86400
        yield Advice(
            "unused index",
            text(index),
            f"{_size(number(size))}, no scan in the {days:.1f} days of the statistics (replicas count for themselves)",
            f"DROP INDEX CONCURRENTLY {text(index)};",
        )
    for table, scans, rows, index_scans in session.query(_SCANNED_QUERY):
        yield Advice(
            "read from end to end",
            text(table),
            f"{number(scans):.0f} scans of {number(rows):.0f} rows each, beside {number(index_scans):.0f} of indexes",
            f"CREATE INDEX CONCURRENTLY ON {text(table)} (...);  -- the columns that its slow queries filter by",
        )
    for datname, hit, read in session.query(_HITS_QUERY):
        ratio = (number(hit) or 0) / max(1.0, (number(hit) or 0) + (number(read) or 0))
        yield Advice(
            "cache",
            f"database {text(datname)}",
            f"{ratio:.1%} of the blocks come from the cache, {number(read):.0f} were read",
            "ALTER SYSTEM SET shared_buffers = ...;  -- a quarter of the memory; then restart",
        )


def _schema(session: Session) -> Iterator[Advice]:
    schema = read_schema(session)
    for index in schema.duplicates:
        yield Advice(
            "duplicate index",
            f"{index.schemaname}.{index.indexrelname}",
            f"{_size(index.size)}, has the columns of {index.duplicate_of}",
            f"DROP INDEX CONCURRENTLY {index.identifier};",
        )
    for sequence in schema.sequences:
        if sequence.used >= _SEQUENCE_USED:
            yield Advice(
                "sequence",
                f"{sequence.schemaname}.{sequence.sequencename}",
                f"{sequence.used:.1%} used: {sequence.last_value:.0f} of {sequence.ending:.0f}",
                f"ALTER TABLE {sequence.column} TYPE bigint;  -- rewrites the table"
                if sequence.column
                else "ALTER SEQUENCE ... AS bigint;",
            )
    for table in schema.thresholds:
        if table.dead > max(table.threshold, 1000):
            name = f"{table.schemaname}.{table.relname}"
            yield Advice(
                "dead rows",
                name,
                f"{table.dead:.0f} dead rows; autovacuum takes the table from {table.threshold:.0f} on",
                f"VACUUM (VERBOSE, ANALYZE) {name};",
            )


def _settings(server: Server) -> Iterator[Advice]:
    session = server.session
    values = {text(name): text(setting) for name, setting, _ in session.query(_SETTINGS_QUERY)}
    size, sessions, temp_bytes, temp_files, idle, xids, retained, slot = session.query(_STATE_QUERY).rows[0]
    query = _CHECKPOINTS_QUERY_17 if server.version >= 170000 else _CHECKPOINTS_QUERY
    timed, requested = (number(value) or 0 for value in session.query(query).rows[0])
    for name, danger in (
        ("fsync", "a crash may destroy the data"),
        ("full_page_writes", "a crash may leave torn pages"),
        ("autovacuum", "dead rows stay, and the transaction ids run out"),
    ):
        if values.get(name) == "off":
            yield Advice("setting", name, f"off: {danger}", f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf();")
    buffers = float(values.get("shared_buffers") or 0) * 8192
    if (number(size) or 0) > 8 * buffers and buffers <= 128 * _MIB:
        yield Advice(
            "setting",
            "shared_buffers",
            f"{_size(buffers)} for {_size(number(size))} of databases",
            "ALTER SYSTEM SET shared_buffers = ...;  -- a quarter of the memory; then restart",
        )
    limit = float(values.get("max_connections") or 0)
    if limit and (number(sessions) or 0) > 0.8 * limit:
        yield Advice(
            "connections",
            "max_connections",
            f"{number(sessions):.0f} sessions of {limit:.0f}",
            "-- a pooler (PgBouncer) in between, or smaller pools in the applications",
        )
    if (number(temp_files) or 0) > 1000:
        each = (number(temp_bytes) or 0) / (number(temp_files) or 1)
        yield Advice(
            "setting",
            "work_mem",
            f"{number(temp_files):.0f} temporary files of {_size(each)} each (work_mem = {values.get('work_mem')} kB)",
            f"ALTER SYSTEM SET work_mem = '{max(8, round(2 * each / _MIB))}MB'; SELECT pg_reload_conf();",
        )
    if requested > timed and requested > 10:
        yield Advice(
            "setting",
            "max_wal_size",
            f"{requested:.0f} checkpoints were forced by WAL, {timed:.0f} were due (max_wal_size = "
            f"{values.get('max_wal_size')} MB)",
            f"ALTER SYSTEM SET max_wal_size = '{2 * float(values.get('max_wal_size') or 1024):.0f}MB'; "
            "SELECT pg_reload_conf();",
        )
    if values.get("idle_in_transaction_session_timeout") == "0" and (number(idle) or 0) > 300:
        yield Advice(
            "setting",
            "idle_in_transaction_session_timeout",
            f"a session has been idle in its transaction for {number(idle):.0f} s",
            "ALTER SYSTEM SET idle_in_transaction_session_timeout = '5min'; SELECT pg_reload_conf();",
        )
    if (number(xids) or 0) > 1_000_000_000:
        yield Advice(
            "wraparound",
            "server",
            f"the oldest transaction id is {number(xids):.0f} back; the server stops at 2.1 thousand million",
            "VACUUM (FREEZE, VERBOSE);  -- in the database with the largest age(datfrozenxid)",
        )
    if (number(retained) or 0) > 1024 * _MIB:
        yield Advice(
            "replication slot",
            text(slot),
            f"nobody uses it, and it holds back {_size(number(retained))} of WAL",
            f"SELECT pg_drop_replication_slot('{text(slot)}');",
        )


def _size(size: float | None) -> str:
    """In the largest binary unit that leaves a number above 1."""
    rest = size or 0.0
    for unit in ("B", "KiB", "MiB", "GiB"):
        if rest < 1024:
            return f"{rest:.0f} {unit}" if unit == "B" else f"{rest:.1f} {unit}"
        rest /= 1024
    return f"{rest:.1f} TiB"
