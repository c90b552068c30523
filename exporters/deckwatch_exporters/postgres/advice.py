"""Advice on a server: what costs it time or space, the figure that shows it, and the statement that improves it.

Deckwatch never runs these statements. A remedy is SQL that the server can parse, or a comment (`-- ...`) where only the
reader can decide on the statement.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deckwatch.exporter import Advice, Missing
from deckwatch_exporters.clients.libpq import MARK, QueryError, Session, number, text

from .schema import Sequence, read_schema
from .server import Server
from .sql_text import one_line, quoted, redacted
from .statement_counts import Extension, find_extension

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .settings import PostgresSettings

_MIB = 2**20
_HIT_RATIO = 0.95
_SEQUENCE_USED = 0.75
_SMALLEST_INDEX = _MIB
_MOST = 10
_LONGEST_STATEMENT = 2000  # characters
_GENERIC_PLANS = 160000  # the version that has EXPLAIN (GENERIC_PLAN)
_SHARED_BUFFERS = "-- Set shared_buffers to about a quarter of the server's memory, then restart the server."

_UNUSED_QUERY = f"""SELECT {MARK}
    pg_catalog.quote_ident(i.schemaname) || '.' || pg_catalog.quote_ident(i.indexrelname),
    pg_catalog.pg_relation_size(i.indexrelid),
    (SELECT extract(epoch FROM pg_catalog.now() - coalesce(stats_reset, pg_catalog.pg_postmaster_start_time()))
     FROM pg_catalog.pg_stat_database WHERE datname = pg_catalog.current_database())
FROM pg_catalog.pg_stat_user_indexes AS i JOIN pg_catalog.pg_index AS x USING (indexrelid)
JOIN pg_catalog.pg_class AS c ON c.oid = indexrelid
WHERE i.idx_scan = 0 AND NOT x.indisunique AND NOT x.indisprimary AND x.indisvalid AND NOT x.indisreplident
    AND NOT c.relispartition AND NOT pg_catalog.pg_is_in_recovery()
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conindid = i.indexrelid)
    AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_locks AS l WHERE l.relation = i.indexrelid AND l.mode = 'AccessExclusiveLock')
    AND pg_catalog.pg_relation_size(i.indexrelid) >= {_SMALLEST_INDEX}
ORDER BY 2 DESC LIMIT {_MOST}"""
_SCANNED_QUERY = f"""SELECT {MARK}
    pg_catalog.quote_ident(schemaname) || '.' || pg_catalog.quote_ident(relname), seq_scan,
    seq_tup_read / seq_scan, coalesce(idx_scan, 0)
FROM pg_catalog.pg_stat_user_tables
WHERE seq_scan > 0 AND seq_tup_read / seq_scan > 10000 AND seq_scan > coalesce(idx_scan, 0) / 10
ORDER BY seq_tup_read DESC LIMIT {_MOST}"""
_HITS_QUERY = f"""SELECT {MARK} datname, blks_hit, blks_read FROM pg_catalog.pg_stat_database
WHERE datname IS NOT NULL AND blks_read > 10000 AND blks_hit < {_HIT_RATIO} * (blks_hit + blks_read)"""
_SETTINGS_QUERY = f"""SELECT {MARK} name, CASE WHEN source = 'session' THEN reset_val ELSE setting END
FROM pg_catalog.pg_settings WHERE name IN (
    'shared_buffers', 'max_connections', 'autovacuum', 'fsync', 'full_page_writes', 'work_mem', 'max_wal_size',
    'idle_in_transaction_session_timeout')"""
_STATE_QUERY = f"""SELECT {MARK}
    (SELECT pg_catalog.sum(pg_catalog.pg_database_size(oid)) FROM pg_catalog.pg_database
     WHERE pg_catalog.has_database_privilege(oid, 'CONNECT')),
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend'),
    (SELECT pg_catalog.sum(temp_bytes) FROM pg_catalog.pg_stat_database),
    (SELECT pg_catalog.sum(temp_files) FROM pg_catalog.pg_stat_database),
    (SELECT pg_catalog.max(extract(epoch FROM pg_catalog.now() - state_change)) FROM pg_catalog.pg_stat_activity
     WHERE state LIKE 'idle in transaction%'),
    (SELECT pg_catalog.max(pg_catalog.age(datfrozenxid)) FROM pg_catalog.pg_database),
    (SELECT datname FROM pg_catalog.pg_database ORDER BY pg_catalog.age(datfrozenxid) DESC LIMIT 1),
    (SELECT pg_catalog.max(pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery()
        THEN pg_catalog.pg_last_wal_receive_lsn() ELSE pg_catalog.pg_current_wal_lsn() END, restart_lsn))
     FROM pg_catalog.pg_replication_slots WHERE NOT active),
    (SELECT slot_name FROM pg_catalog.pg_replication_slots WHERE NOT active AND restart_lsn IS NOT NULL
     ORDER BY restart_lsn LIMIT 1)"""
_CHECKPOINTS_QUERY = f"SELECT {MARK} checkpoints_timed, checkpoints_req FROM pg_catalog.pg_stat_bgwriter"
_CHECKPOINTS_QUERY_17 = f"SELECT {MARK} num_timed, num_requested FROM pg_catalog.pg_stat_checkpointer"


def advice(settings: PostgresSettings) -> Iterator[Advice]:
    """Possible improvements of a server and of the DSN's database. Raises NotConnected, QueryError."""
    # Measuring every index takes longer than reading counters.
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
        # The texts come separately: the server may be unable to convert one, which fails them all.
        seconds = extension.figures[1]
        rows = session.query(
            f"SELECT {MARK} queryid, {seconds}, {seconds} / pg_catalog.sum({seconds}) OVER (), calls, dbid ="
            " (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"
            f" FROM {extension.schema}.pg_stat_statements(false) WHERE queryid IS NOT NULL ORDER BY 2 DESC LIMIT 5"
        ).rows
    except Missing as missing:
        what = f"no figures of statements: {missing.what}"
        yield Advice("statements", f"database {server.database}", what, _sql(missing))
        return
    except QueryError as failure:
        yield Advice(
            "statements", "server", f"pg_stat_statements: {failure}",
            "ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements';  -- then restart the server",
        )  # fmt: skip
        return
    for queryid, spent, share, calls, is_here in rows:
        if (number(share) or 0) < 0.1:
            continue
        sql = _text_of(session, extension, text(queryid))
        if MARK in sql:
            continue
        shown = redacted(sql)
        yield Advice(
            "statements",
            shown if 0 < len(shown) <= _LONGEST_STATEMENT else f"queryid {text(queryid)}",
            f"{number(share):.0%} of the time of all statements: {number(spent):.1f} s in {number(calls):.0f} calls",
            _explain(server, extension, text(queryid), sql if is_here == b"t" else ""),
        )


def _sql(missing: Missing) -> str:
    return f"{missing.remedy};"


def _text_of(session: Session, extension: Extension, queryid: str) -> str:
    """`` if the text is not available."""
    try:
        rows = session.query(extension.texts_query([queryid], _LONGEST_STATEMENT + 1)).rows
    except QueryError:
        return ""
    return text(rows[0][1]) if rows else ""


def _explain(server: Server, extension: Extension, queryid: str, sql: str) -> str:
    """The statement that shows the plan. It never executes the statement, nor shows a literal."""
    statement = one_line(sql)
    is_query = re.match(r"select\b", statement, re.IGNORECASE) is not None and len(sql) <= _LONGEST_STATEMENT
    if server.version >= _GENERIC_PLANS and is_query and _is_parsed(server.session, statement):
        return f"EXPLAIN (GENERIC_PLAN) {statement};"
    return (
        "-- Run EXPLAIN on the statement with typical values for its parameters. Its text:\n"
        f"SELECT query FROM {extension.schema}.pg_stat_statements WHERE queryid = {queryid};"
    )


def _is_parsed(session: Session, statement: str) -> bool:
    """Whether the server can parse the statement, which must not contain a literal or a second statement."""
    if re.search(r"[;']|\$\w*\$", statement):
        return False
    try:
        # The statement was written for the search_path of the database and the role.
        session.query(
            f"SET LOCAL {MARK} search_path TO DEFAULT; PREPARE {MARK} deckwatch_advice AS {statement};"
            f" DEALLOCATE {MARK} deckwatch_advice; SELECT {MARK} 1"
        )
    except QueryError:
        return False
    return True


def _tables(session: Session) -> Iterator[Advice]:
    for index, size, age in session.query(_UNUSED_QUERY):
        days = (number(age) or 0) / 86400
        yield Advice(
            "unused index",
            text(index),
            f"{_size(number(size))}, not scanned in {days:.1f} days (scans on replicas are counted there)",
            f"DROP INDEX CONCURRENTLY {text(index)};",
        )
    for table, scans, rows, index_scans in session.query(_SCANNED_QUERY):
        yield Advice(
            "sequential scans",
            text(table),
            f"{number(scans):.0f} sequential scans of {number(rows):.0f} rows each,"
            f" {number(index_scans):.0f} index scans",
            "-- Create an index (CREATE INDEX CONCURRENTLY) on the columns by which slow queries filter this table.",
        )
    for datname, hit, read in session.query(_HITS_QUERY):
        ratio = (number(hit) or 0) / max(1.0, (number(hit) or 0) + (number(read) or 0))
        yield Advice(
            "cache",
            f"database {text(datname)}",
            f"{ratio:.1%} of the blocks come from the buffer cache, {number(read):.0f} blocks were read from disk",
            _SHARED_BUFFERS,
        )


def _schema(session: Session) -> Iterator[Advice]:
    schema = read_schema(session)
    for index in schema.duplicates:
        yield Advice(
            "duplicate index",
            index.identifier,
            f"{_size(index.size)}, duplicates {index.duplicate_of}",
            f"DROP INDEX CONCURRENTLY {index.identifier};",
        )
    for sequence in schema.sequences:
        if sequence.used >= _SEQUENCE_USED:
            yield Advice(
                "sequence",
                sequence.identifier,
                f"{sequence.used:.1%} used: {sequence.last_value:.0f} of {sequence.ending:.0f}",
                _enlarge(sequence),
            )
    for table in schema.thresholds:
        if table.dead > max(table.threshold, 1000):
            yield Advice(
                "dead rows",
                table.identifier,
                f"{table.dead:.0f} dead rows; autovacuum starts at {table.threshold:.0f}",
                f"VACUUM (VERBOSE, ANALYZE) {table.identifier};",
            )


def _enlarge(sequence: Sequence) -> str:
    statements = []
    if sequence.is_limited_by_column:
        # An identity column changes its sequence too; ALTER SEQUENCE then has no effect.
        statements.append(f"ALTER TABLE {sequence.column} TYPE bigint;  -- locks the table while it is rewritten")
    if sequence.is_narrow and not sequence.has_own_limit:
        statements.append(f"ALTER SEQUENCE {sequence.identifier} AS bigint;")
    elif sequence.has_own_limit and not sequence.is_limited_by_column:
        limit = "MINVALUE" if sequence.is_descending else "MAXVALUE"
        statements.append(f"ALTER SEQUENCE {sequence.identifier} NO {limit};")
    return "\n".join(statements) or "-- The sequence has the largest type. Replace the key of the table."


def _settings(server: Server) -> Iterator[Advice]:
    session = server.session
    values = {text(name): text(setting) for name, setting in session.query(_SETTINGS_QUERY)}
    size, sessions, temp_bytes, temp_files, idle, xids, oldest, retained, slot = session.query(_STATE_QUERY).rows[0]
    query = _CHECKPOINTS_QUERY_17 if server.version >= 170000 else _CHECKPOINTS_QUERY
    timed, requested = (number(value) or 0 for value in session.query(query).rows[0])
    for name, danger in (
        ("fsync", "a crash can destroy the data"),
        ("full_page_writes", "a crash can leave torn pages"),
        ("autovacuum", "dead rows remain, and transaction IDs run out"),
    ):
        if values.get(name) == "off":
            yield Advice("setting", name, f"off: {danger}", _set(name, "on"))
    buffers = float(values.get("shared_buffers") or 0) * 8192
    if (number(size) or 0) > 8 * buffers and buffers <= 128 * _MIB:
        yield Advice(
            "setting", "shared_buffers", f"{_size(buffers)} for databases of {_size(number(size))}", _SHARED_BUFFERS
        )
    limit = float(values.get("max_connections") or 0)
    if limit and (number(sessions) or 0) > 0.8 * limit:
        yield Advice(
            "connections",
            "max_connections",
            f"{number(sessions):.0f} of {limit:.0f} sessions are in use",
            "-- Put a pooler such as PgBouncer in front of the server, or make the applications' pools smaller.",
        )
    if (number(temp_files) or 0) > 1000:
        each = (number(temp_bytes) or 0) / (number(temp_files) or 1)
        yield Advice(
            "setting",
            "work_mem",
            f"{number(temp_files):.0f} temporary files of {_size(each)} each (work_mem = {values.get('work_mem')} kB)",
            _set("work_mem", f"'{max(8, round(2 * each / _MIB))}MB'"),
        )
    if requested > timed and requested > 10:
        yield Advice(
            "setting",
            "max_wal_size",
            f"{requested:.0f} requested and {timed:.0f} scheduled checkpoints"
            f" (max_wal_size = {values.get('max_wal_size')} MB)",
            _set("max_wal_size", f"'{2 * float(values.get('max_wal_size') or 1024):.0f}MB'"),
        )
    if values.get("idle_in_transaction_session_timeout") == "0" and (number(idle) or 0) > 300:
        yield Advice(
            "setting",
            "idle_in_transaction_session_timeout",
            f"a session has been idle in its transaction for {number(idle):.0f} s",
            _set("idle_in_transaction_session_timeout", "'5min'"),
        )
    if (number(xids) or 0) > 1_000_000_000:
        yield Advice(
            "wraparound",
            f"database {text(oldest)}",
            f"the oldest transaction ID is {number(xids):.0f} transactions old; the server stops at 2.1 billion",
            f"VACUUM (FREEZE, VERBOSE);  -- in the database {quoted(text(oldest))}",
        )
    if (number(retained) or 0) > 1024 * _MIB:
        yield Advice(
            "replication slot",
            text(slot),
            f"not in use, and retains {_size(number(retained))} of WAL",
            f"SELECT pg_drop_replication_slot('{text(slot)}');  -- its consumer must then be set up again",
        )


def _set(name: str, value: str) -> str:
    return f"ALTER SYSTEM SET {name} = {value};\nSELECT pg_reload_conf();"


def _size(size: float | None) -> str:
    """With the largest binary unit in which the number is at least 1."""
    rest = size or 0.0
    for unit in ("B", "KiB", "MiB", "GiB"):
        if rest < 1024:
            return f"{rest:.0f} {unit}" if unit == "B" else f"{rest:.1f} {unit}"
        rest /= 1024
    return f"{rest:.1f} TiB"
