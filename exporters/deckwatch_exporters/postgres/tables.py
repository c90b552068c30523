"""Tables and indexes: scans, changes, vacuums, blocks, sizes. Each database has series for its largest ones.

https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-ALL-TABLES-VIEW
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge, Refresh, Sample
from deckwatch_exporters.clients.libpq import MARK, NotConnected, QueryError, Session, text
from deckwatch_exporters.clients.samples import sample, samples

from .schema import read_schema, schema_samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from deckwatch.exporter import Malformed, Metric, Samples
    from deckwatch_exporters.clients.libpq import Result, Row

    from .server import Server
    from .settings import PostgresSettings, TablesSettings

_TABLE = ("server", "datname", "schemaname", "relname")
_INDEX = (*_TABLE, "indexrelname")


def _table(kind: Callable[..., Metric], column: str, help: str) -> Metric:
    return kind(f"pg_stat_user_tables_{column}", help, _TABLE)


#: By column of pg_stat_user_tables.
TABLE: Mapping[str, Metric] = {
    "seq_scan": _table(Counter, "seq_scan", "Number of sequential scans of the table."),
    "seq_tup_read": _table(Counter, "seq_tup_read", "Number of live rows fetched by sequential scans."),
    "idx_scan": _table(Counter, "idx_scan", "Number of index scans of the table."),
    "idx_tup_fetch": _table(Counter, "idx_tup_fetch", "Number of live rows fetched by index scans."),
    "n_tup_ins": _table(Counter, "n_tup_ins", "Number of rows inserted."),
    "n_tup_upd": _table(Counter, "n_tup_upd", "Number of rows updated."),
    "n_tup_del": _table(Counter, "n_tup_del", "Number of rows deleted."),
    "n_tup_hot_upd": _table(Counter, "n_tup_hot_upd", "Number of rows updated without a separate index update."),
    "n_live_tup": _table(Gauge, "n_live_tup", "Estimated number of live rows."),
    "n_dead_tup": _table(Gauge, "n_dead_tup", "Estimated number of dead rows."),
    "n_mod_since_analyze": _table(
        Gauge, "n_mod_since_analyze", "Estimated number of rows changed since the table was last analyzed."
    ),
    "last_vacuum": _table(Gauge, "last_vacuum", "Time of the last manual vacuum, in Unix seconds."),
    "last_autovacuum": _table(Gauge, "last_autovacuum", "Time of the last vacuum by autovacuum, in Unix seconds."),
    "last_analyze": _table(Gauge, "last_analyze", "Time of the last manual analyze, in Unix seconds."),
    "last_autoanalyze": _table(Gauge, "last_autoanalyze", "Time of the last analyze by autovacuum, in Unix seconds."),
    "vacuum_count": _table(Counter, "vacuum_count", "Number of manual vacuums."),
    "autovacuum_count": _table(Counter, "autovacuum_count", "Number of vacuums by autovacuum."),
    "analyze_count": _table(Counter, "analyze_count", "Number of manual analyzes."),
    "autoanalyze_count": _table(Counter, "autoanalyze_count", "Number of analyzes by autovacuum."),
}
_IO = {
    "heap_blks_read": "Number of blocks of the table read from disk.",
    "heap_blks_hit": "Number of blocks of the table found in the buffer cache.",
    "idx_blks_read": "Number of blocks of the table's indexes read from disk.",
    "idx_blks_hit": "Number of blocks of the table's indexes found in the buffer cache.",
    "toast_blks_read": "Number of blocks of the TOAST table read from disk.",
    "toast_blks_hit": "Number of blocks of the TOAST table found in the buffer cache.",
    "tidx_blks_read": "Number of blocks of the TOAST table's index read from disk.",
    "tidx_blks_hit": "Number of blocks of the TOAST table's index found in the buffer cache.",
}
#: By column of pg_statio_user_tables: postgres_exporter has `_blocks_` since 0.13 and `_blks_` in older queries.
TABLE_IO = {
    column: Counter(f"pg_statio_user_tables_{column.replace('_blks_', '_blocks_')}", help, _TABLE)
    for column, help in _IO.items()
}
TABLE_IO_OLD = {column: Counter(f"pg_statio_user_tables_{column}", help, _TABLE) for column, help in _IO.items()}
#: By column of pg_stat_user_indexes and pg_statio_user_indexes.
INDEX = {
    "idx_scan": Counter("pg_stat_user_indexes_idx_scan_total", "Number of scans of the index.", _INDEX),
    "idx_tup_read": Counter(
        "pg_stat_user_indexes_idx_tup_read_total", "Number of index entries returned by scans.", _INDEX
    ),
    "idx_tup_fetch": Counter(
        "pg_stat_user_indexes_idx_tup_fetch_total", "Number of live rows fetched by simple scans of the index.", _INDEX
    ),
    "idx_blks_read": Counter(
        "pg_statio_user_indexes_idx_blks_read_total", "Number of blocks of the index read from disk.", _INDEX
    ),
    "idx_blks_hit": Counter(
        "pg_statio_user_indexes_idx_blks_hit_total", "Number of blocks of the index found in the buffer cache.", _INDEX
    ),
}
SIZE = Gauge(
    "pg_stat_user_tables_size_bytes", "Total size of the table with its indexes and TOAST table, in bytes.", _TABLE
)
TABLE_SIZE = Gauge(
    "pg_stat_user_tables_table_size_bytes",
    "Size of the table with its TOAST table but without indexes, in bytes.",
    _TABLE,
)
INDEXES_SIZE = Gauge("pg_stat_user_tables_index_size_bytes", "Size of all indexes of the table, in bytes.", _TABLE)
INDEX_SIZE = Gauge("pg_index_size_bytes", "Size of the index, in bytes.", _INDEX)
TABLES = Gauge("pg_user_tables", "Number of tables in the database, including those without series.", _TABLE[:2])
TABLES_LEFT_OUT = Gauge(
    "pg_user_tables_left_out", "Number of tables without series, because there are more than `tables.top`.", _TABLE[:2]
)
READ = Gauge("pg_database_tables_read", "Whether the tables of the database could be read (1) or not (0).", _TABLE[:2])

_TIMES = {"last_vacuum", "last_autovacuum", "last_analyze", "last_autoanalyze"}
_TABLE_COLUMNS = ", ".join(f"extract(epoch FROM t.{name})" if name in _TIMES else f"t.{name}" for name in TABLE)
_IO_COLUMNS = ", ".join(f"io.{name}" for name in _IO)
# The largest by the last VACUUM or ANALYZE: measuring would lock each of them. Reading only these from the views costs
# a fiftieth of reading ten thousand.
_USERS = """n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'
    AND c.relpersistence <> 't'"""
_LARGEST_TABLES_QUERY = f"""SELECT {MARK} c.oid, pg_catalog.count(*) OVER ()
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm', 'p') AND {_USERS}
ORDER BY c.relpages DESC, pg_catalog.pg_stat_get_live_tuples(c.oid) DESC, c.oid LIMIT {{top}}"""
_LARGEST_INDEXES_QUERY = f"""SELECT {MARK} c.oid, pg_catalog.count(*) OVER ()
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind = 'i' AND {_USERS}
ORDER BY c.relpages DESC, c.oid LIMIT {{top}}"""
_TABLES_QUERY = f"""SELECT {MARK} t.relid, t.schemaname, t.relname, {_TABLE_COLUMNS}, {_IO_COLUMNS}
FROM pg_catalog.pg_stat_user_tables AS t JOIN pg_catalog.pg_statio_user_tables AS io USING (relid)
WHERE t.relid = ANY(ARRAY[{{oids}}]::oid[]) AND io.relid = ANY(ARRAY[{{oids}}]::oid[])"""
_INDEXES_QUERY = f"""SELECT {MARK} i.indexrelid, i.schemaname, i.relname, i.indexrelname, i.idx_scan, i.idx_tup_read,
    i.idx_tup_fetch, io.idx_blks_read, io.idx_blks_hit
FROM pg_catalog.pg_stat_user_indexes AS i JOIN pg_catalog.pg_statio_user_indexes AS io USING (indexrelid)
WHERE i.indexrelid = ANY(ARRAY[{{oids}}]::oid[]) AND io.indexrelid = ANY(ARRAY[{{oids}}]::oid[])"""
# The size functions lock what they measure. Relations with an exclusive lock (ALTER TABLE, VACUUM FULL, REINDEX) are
# skipped, with the indexes of a locked table and the table of a locked index.
_BUSY = f"""WITH {MARK} held AS MATERIALIZED (
    SELECT relation FROM pg_catalog.pg_locks WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock'
        AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
), busy AS MATERIALIZED (
    SELECT relation FROM held
    UNION SELECT indrelid FROM pg_catalog.pg_index WHERE indexrelid IN (SELECT relation FROM held)
    UNION SELECT indexrelid FROM pg_catalog.pg_index WHERE indrelid IN (SELECT relation FROM held)
)"""
_UNLOCKED = (
    "FROM pg_catalog.pg_class AS r WHERE r.oid = ANY(ARRAY[{oids}]::oid[]) AND r.oid NOT IN (SELECT relation FROM busy)"
)
_SIZES_QUERY = f"{_BUSY} SELECT r.oid, pg_catalog.pg_table_size(r.oid), pg_catalog.pg_indexes_size(r.oid) {_UNLOCKED}"
_INDEX_SIZES_QUERY = f"{_BUSY} SELECT r.oid, pg_catalog.pg_relation_size(r.oid) {_UNLOCKED}"
_OID = re.compile(rb"\d{1,9}|[1-4]\d{9}")
# Locked or dropped after the locks were read, or too many files for one statement. The next reading tries again.
_SIZE_FAILURES = ("55P03", "42P01", "XX000", "57014")


class _Largest:
    """The largest relations of a database with their sizes, read every `interval` seconds."""

    def __init__(self, query: str, sizes_query: str, interval: float, clock: Callable[[], float]) -> None:
        self._query = query
        self._sizes_query = sizes_query
        self._refresh = Refresh(interval - 1, clock)
        self._generation = -1
        self.oids: list[bytes] = []  # largest first
        self.total: bytes | None = None  # number of all relations of the kind
        self.sizes: Mapping[bytes, tuple[bytes | None, ...]] = {}

    @property
    def as_array(self) -> str:
        return b",".join(self.oids).decode()

    def read(self, session: Session) -> None:
        """Raises NotConnected, QueryError."""
        session.ensure()
        if self._generation == session.generation and not self._refresh.is_due:
            return
        rows = session.query(self._query).rows
        self.oids = [row[0] for row in rows if row[0] is not None and _OID.fullmatch(row[0])]
        self.total = rows[0][1] if rows else b"0"
        try:
            sizes = session.query(self._sizes_query.format(oids=self.as_array)) if self.oids else ()
        except QueryError as failure:
            if failure.sqlstate not in _SIZE_FAILURES:
                raise
            sizes = ()
        self.sizes = {row[0]: row[1:] for row in sizes if row[0] is not None}
        self._generation = session.generation
        self._refresh.done()

    def found(self, result: Result | None) -> Iterator[tuple[Row, tuple[bytes | None, ...]]]:
        """The rows, which start with an oid, and the sizes, largest first. Dropped relations are skipped."""
        rows = {row[0]: row for row in result or ()}
        for oid in self.oids:
            if oid in rows:
                yield rows[oid], self.sizes.get(oid, ())


class Tables:
    """The tables and indexes of a session's database."""

    def __init__(self, settings: TablesSettings, clock: Callable[[], float] = time.monotonic) -> None:
        interval = settings.sizes_interval
        tables, indexes = (
            (query.format(top=top), sizes)
            for query, sizes, top in (
                (_LARGEST_TABLES_QUERY, _SIZES_QUERY, settings.top),
                (_LARGEST_INDEXES_QUERY, _INDEX_SIZES_QUERY, settings.top_indexes),
            )
        )
        self._tables = _Largest(*tables, interval, clock)
        self._indexes = _Largest(*indexes, interval, clock) if settings.top_indexes else None

    def read(self, session: Session, label: str, datname: str) -> Iterator[Sample | Malformed]:
        """Raises NotConnected and QueryError."""
        tables, indexes = self._tables, self._indexes
        tables.read(session)
        queries = [_TABLES_QUERY.format(oids=tables.as_array)]
        if indexes is not None:
            indexes.read(session)
            queries.append(_INDEXES_QUERY.format(oids=indexes.as_array))
        answers = session.queries(queries)
        total = sample(TABLES, tables.total, server=label, datname=datname)
        if total is not None:
            yield total
        if isinstance(total, Sample):
            yield TABLES_LEFT_OUT(total.value - len(tables.oids), server=label, datname=datname)
        for row, sizes in tables.found(answers[0]):
            labels = dict(zip(_TABLE, (label, datname, text(row[1]), text(row[2])), strict=True))
            yield from _table_samples(row, labels, sizes)
        for row, sizes in indexes.found(answers[1]) if indexes is not None else ():
            names = (label, datname, text(row[1]), text(row[2]), text(row[3]))
            labels = dict(zip(_INDEX, names, strict=True))
            yield from samples(zip(INDEX.values(), row[4:], strict=True), **labels)
            yield from samples(((INDEX_SIZE, size) for size in sizes), **labels)


def _table_samples(row: Row, labels: dict[str, str], sizes: tuple[bytes | None, ...]) -> Iterator[Sample | Malformed]:
    figures, blocks = row[3 : 3 + len(TABLE)], row[3 + len(TABLE) :]
    yield from samples(zip(TABLE.values(), figures, strict=True), **labels)
    yield from samples(zip(TABLE_IO.values(), blocks, strict=True), **labels)
    yield from samples(zip(TABLE_IO_OLD.values(), blocks, strict=True), **labels)
    measured = [*samples(zip((TABLE_SIZE, INDEXES_SIZE), sizes, strict=bool(sizes)), **labels)]
    yield from measured
    parts = [it.value for it in measured if isinstance(it, Sample)]
    if len(parts) == 2:
        yield SIZE(sum(parts), **labels)


class TablesCollector:
    """The tables of the database that the DSN names."""

    def __init__(self, server: Server, settings: TablesSettings) -> None:
        self._server = server
        self._tables = Tables(settings)

    def collect(self) -> Samples:
        self._server.session.ensure()
        return self._tables.read(self._server.session, self._server.label, self._server.database)


_LIST_QUERY = f"""SELECT {MARK} datname, pg_catalog.current_database()
FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate AND datconnlimit <> -2"""


class OtherDatabasesCollector:
    """The tables of the other databases, one database after the other, each over its own connection.

    A database that cannot be read has `pg_database_tables_read 0` and does not affect the others.
    """

    def __init__(self, settings: PostgresSettings) -> None:
        self._settings = settings
        self._tables: dict[str, Tables] = {}

    def collect(self) -> Iterator[Sample | Malformed]:
        settings = self._settings
        home = self._session(None)
        try:
            home.connect()
            rows = home.query(_LIST_QUERY).rows
            label = home.server
        finally:
            home.close()
        own = {text(row[1]) for row in rows}
        present = sorted({text(row[0]) for row in rows} - own - settings.exclude_databases)
        wanted = present if settings.databases == "all" else [it for it in settings.databases if it not in own]
        self._tables = {name: self._tables.get(name) or Tables(settings.tables) for name in wanted}
        for datname, tables in self._tables.items():
            session = self._session(datname)
            found: list[Sample | Malformed] = []
            try:
                session.connect()
                found += tables.read(session, label, datname)
            except (NotConnected, QueryError):
                found = []
            yield READ(bool(found), server=label, datname=datname)
            yield from found
            try:
                if found:
                    yield from schema_samples(read_schema(session), label, datname)
            except (NotConnected, QueryError):
                continue
            finally:
                session.close()

    def _session(self, datname: str | None) -> Session:
        from psycopg.conninfo import make_conninfo

        conninfo = self._settings.conninfo
        if datname is not None:
            conninfo = make_conninfo(conninfo, dbname=datname)
        return Session(conninfo, self._settings.timeout, self._settings.lock_timeout)
