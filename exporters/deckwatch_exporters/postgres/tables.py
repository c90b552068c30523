"""Tables and indexes of a database: scans, changes, vacuums, blocks read, sizes. The largest ones of each database.

https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-ALL-TABLES-VIEW
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge
from deckwatch_exporters.clients.libpq import MARK, NotConnected, QueryError, Session, text

from .schema import read_schema, schema_samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from deckwatch.exporter import Metric, Sample
    from deckwatch_exporters.clients.libpq import Result, Row

    from .server import Server
    from .settings import PostgresSettings, TablesSettings

_TABLE = ("server", "datname", "schemaname", "relname")
_INDEX = (*_TABLE, "indexrelname")


def _table(kind: Callable[..., Metric], column: str, help: str) -> Metric:
    return kind(f"pg_stat_user_tables_{column}", help, _TABLE)


#: By column of pg_stat_user_tables, with the expression where it is not the column itself.
TABLE: Mapping[str, Metric] = {
    "seq_scan": _table(Counter, "seq_scan", "Scans of the table from end to end."),
    "seq_tup_read": _table(Counter, "seq_tup_read", "Rows read by scans from end to end."),
    "idx_scan": _table(Counter, "idx_scan", "Scans of the table's indexes."),
    "idx_tup_fetch": _table(Counter, "idx_tup_fetch", "Rows fetched by index scans."),
    "n_tup_ins": _table(Counter, "n_tup_ins", "Rows inserted."),
    "n_tup_upd": _table(Counter, "n_tup_upd", "Rows updated."),
    "n_tup_del": _table(Counter, "n_tup_del", "Rows deleted."),
    "n_tup_hot_upd": _table(Counter, "n_tup_hot_upd", "Rows updated without a change to an index."),
    "n_live_tup": _table(Gauge, "n_live_tup", "Estimated live rows."),
    "n_dead_tup": _table(Gauge, "n_dead_tup", "Estimated dead rows."),
    "n_mod_since_analyze": _table(Gauge, "n_mod_since_analyze", "Estimated rows changed since the last ANALYZE."),
    "last_vacuum": _table(Gauge, "last_vacuum", "When somebody last ran VACUUM, in Unix seconds."),
    "last_autovacuum": _table(Gauge, "last_autovacuum", "When autovacuum last vacuumed, in Unix seconds."),
    "last_analyze": _table(Gauge, "last_analyze", "When somebody last ran ANALYZE, in Unix seconds."),
    "last_autoanalyze": _table(Gauge, "last_autoanalyze", "When autovacuum last analyzed, in Unix seconds."),
    "vacuum_count": _table(Counter, "vacuum_count", "Times that somebody ran VACUUM."),
    "autovacuum_count": _table(Counter, "autovacuum_count", "Times that autovacuum vacuumed."),
    "analyze_count": _table(Counter, "analyze_count", "Times that somebody ran ANALYZE."),
    "autoanalyze_count": _table(Counter, "autoanalyze_count", "Times that autovacuum analyzed."),
}
_IO = {
    "heap_blks_read": "Blocks of the table that were read from disk.",
    "heap_blks_hit": "Blocks of the table that were found in the buffer cache.",
    "idx_blks_read": "Blocks of the table's indexes that were read from disk.",
    "idx_blks_hit": "Blocks of the table's indexes that were found in the buffer cache.",
    "toast_blks_read": "Blocks of the table's TOAST that were read from disk.",
    "toast_blks_hit": "Blocks of the table's TOAST that were found in the buffer cache.",
    "tidx_blks_read": "Blocks of the TOAST's index that were read from disk.",
    "tidx_blks_hit": "Blocks of the TOAST's index that were found in the buffer cache.",
}
#: By column of pg_statio_user_tables: `_blocks_` since version 0.13 of the peer, `_blks_` in its older queries.
TABLE_IO = {
    column: Counter(f"pg_statio_user_tables_{column.replace('_blks_', '_blocks_')}", help, _TABLE)
    for column, help in _IO.items()
}
TABLE_IO_OLD = {column: Counter(f"pg_statio_user_tables_{column}", help, _TABLE) for column, help in _IO.items()}
#: By column of pg_stat_user_indexes and pg_statio_user_indexes.
INDEX = {
    "idx_scan": Counter("pg_stat_user_indexes_idx_scan_total", "Scans of the index.", _INDEX),
    "idx_tup_read": Counter("pg_stat_user_indexes_idx_tup_read_total", "Entries that scans returned.", _INDEX),
    "idx_tup_fetch": Counter("pg_stat_user_indexes_idx_tup_fetch_total", "Rows that scans fetched.", _INDEX),
    "idx_blks_read": Counter("pg_statio_user_indexes_idx_blks_read_total", "Blocks read from disk.", _INDEX),
    "idx_blks_hit": Counter("pg_statio_user_indexes_idx_blks_hit_total", "Blocks found in the buffer cache.", _INDEX),
}
SIZE = Gauge("pg_stat_user_tables_size_bytes", "Size of the table with its indexes and TOAST, in bytes.", _TABLE)
TABLE_SIZE = Gauge("pg_stat_user_tables_table_size_bytes", "Size of the table with its TOAST, in bytes.", _TABLE)
INDEXES_SIZE = Gauge("pg_stat_user_tables_index_size_bytes", "Size of the table's indexes, in bytes.", _TABLE)
INDEX_SIZE = Gauge("pg_index_size_bytes", "Size of the index, in bytes.", _INDEX)
TABLES = Gauge("pg_user_tables", "Tables of the database, those without series of their own included.", _TABLE[:2])
TABLES_LEFT_OUT = Gauge(
    "pg_user_tables_left_out", "Tables that have no series of their own, since `tables.top` is lower.", _TABLE[:2]
)
READ = Gauge("pg_database_tables_read", "Whether the database's tables could be read.", _TABLE[:2])

_TIMES = {"last_vacuum", "last_autovacuum", "last_analyze", "last_autoanalyze"}
_TABLE_COLUMNS = ", ".join(f"extract(epoch FROM t.{name})" if name in _TIMES else f"t.{name}" for name in TABLE)
_IO_COLUMNS = ", ".join(f"io.{name}" for name in _IO)
# Which are the largest, by what VACUUM or ANALYZE last saw: to measure them would take a lock on each. The views are
# then asked for these alone: over ten thousand tables that is a fiftieth of their cost.
_USERS = """n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'
    AND c.relpersistence <> 't'"""
_LARGEST_TABLES_QUERY = f"""SELECT {MARK} c.oid, count(*) OVER ()
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm', 'p') AND {_USERS}
ORDER BY c.relpages DESC, pg_stat_get_live_tuples(c.oid) DESC, c.oid LIMIT {{top}}"""
_LARGEST_INDEXES_QUERY = f"""SELECT {MARK} c.oid, count(*) OVER ()
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind = 'i' AND {_USERS}
ORDER BY c.relpages DESC, c.oid LIMIT {{top}}"""
_TABLES_QUERY = f"""SELECT {MARK} t.relid, t.schemaname, t.relname, {_TABLE_COLUMNS}, {_IO_COLUMNS}
FROM pg_stat_user_tables AS t JOIN pg_statio_user_tables AS io USING (relid)
WHERE t.relid = ANY(ARRAY[{{oids}}]::oid[]) AND io.relid = ANY(ARRAY[{{oids}}]::oid[])"""
_INDEXES_QUERY = f"""SELECT {MARK} i.indexrelid, i.schemaname, i.relname, i.indexrelname, i.idx_scan, i.idx_tup_read,
    i.idx_tup_fetch, io.idx_blks_read, io.idx_blks_hit
FROM pg_stat_user_indexes AS i JOIN pg_statio_user_indexes AS io USING (indexrelid)
WHERE i.indexrelid = ANY(ARRAY[{{oids}}]::oid[]) AND io.indexrelid = ANY(ARRAY[{{oids}}]::oid[])"""
# The size functions lock what they measure. What somebody has locked for good (ALTER TABLE, VACUUM FULL, REINDEX) is
# left out, with the indexes of a locked table and the table of a locked index.
_BUSY = f"""WITH {MARK} held AS MATERIALIZED (
    SELECT relation FROM pg_locks WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock'
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
), busy AS MATERIALIZED (
    SELECT relation FROM held
    UNION SELECT indrelid FROM pg_index WHERE indexrelid IN (SELECT relation FROM held)
    UNION SELECT indexrelid FROM pg_index WHERE indrelid IN (SELECT relation FROM held)
)"""
_UNLOCKED = "FROM pg_class AS r WHERE r.oid = ANY(ARRAY[{oids}]::oid[]) AND r.oid NOT IN (SELECT relation FROM busy)"
_SIZES_QUERY = f"{_BUSY} SELECT r.oid, pg_table_size(r.oid), pg_indexes_size(r.oid) {_UNLOCKED}"
_INDEX_SIZES_QUERY = f"{_BUSY} SELECT r.oid, pg_relation_size(r.oid) {_UNLOCKED}"
# Locked or dropped between the look at the locks and the measuring, or too many files for one statement: the next time.
_SIZE_FAILURES = ("55P03", "42P01", "XX000", "57014")


class _Largest:
    """The largest relations of a database with their sizes, looked up once in a while."""

    def __init__(self, query: str, sizes_query: str, interval: float, clock: Callable[[], float]) -> None:
        self._query = query
        self._sizes_query = sizes_query
        self._interval = interval
        self._clock = clock
        self._due = 0.0
        self._generation = -1
        self.oids: list[bytes] = []  # largest first
        self.total = 0.0  # of all relations of the kind
        self.sizes: Mapping[bytes, tuple[float, ...]] = {}

    @property
    def as_array(self) -> str:
        return b",".join(self.oids).decode()

    def look(self, session: Session) -> None:
        """Raises NotConnected, QueryError."""
        session.ensure()
        if self._generation == session.generation and self._clock() < self._due:
            return
        rows = session.query(self._query).rows
        self.oids = [row[0] for row in rows if row[0] is not None]
        self.total = float(rows[0][1] or 0) if rows else 0.0
        try:
            sizes = session.query(self._sizes_query.format(oids=self.as_array)) if self.oids else ()
        except QueryError as failure:
            if failure.sqlstate not in _SIZE_FAILURES:
                raise
            sizes = ()
        self.sizes = {
            row[0]: tuple(float(size) for size in row[1:] if size is not None) for row in sizes if row[0] is not None
        }
        self._generation, self._due = session.generation, self._clock() + self._interval - 1

    def found(self, result: Result | None) -> Iterator[tuple[Row, tuple[float, ...]]]:
        """The rows, which begin with an oid, largest first, and the sizes. What was dropped since is left out."""
        rows = {row[0]: row for row in result or ()}
        for oid in self.oids:
            if oid in rows:
                yield rows[oid], self.sizes.get(oid, ())


class Tables:
    """The tables and indexes of the database that a session is in."""

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

    def read(self, session: Session, label: str, datname: str) -> Iterator[Sample]:
        """Raises NotConnected and QueryError."""
        tables, indexes = self._tables, self._indexes
        tables.look(session)
        queries = [_TABLES_QUERY.format(oids=tables.as_array)]
        if indexes is not None:
            indexes.look(session)
            queries.append(_INDEXES_QUERY.format(oids=indexes.as_array))
        answers = session.queries(queries)
        yield TABLES(tables.total, server=label, datname=datname)
        yield TABLES_LEFT_OUT(tables.total - len(tables.oids), server=label, datname=datname)
        for row, sizes in tables.found(answers[0]):
            labels = dict(zip(_TABLE, (label, datname, text(row[1]), text(row[2])), strict=True))
            yield from _table_samples(row, labels, sizes)
        for row, sizes in indexes.found(answers[1]) if indexes is not None else ():
            names = (label, datname, text(row[1]), text(row[2]), text(row[3]))
            labels = dict(zip(_INDEX, names, strict=True))
            for metric, value in zip(INDEX.values(), row[4:], strict=True):
                if value is not None:
                    yield metric(float(value), **labels)
            for size in sizes:
                yield INDEX_SIZE(size, **labels)


def _table_samples(row: Row, labels: dict[str, str], sizes: tuple[float, ...]) -> Iterator[Sample]:
    figures = row[3 : 3 + len(TABLE)]
    for metric, value in zip(TABLE.values(), figures, strict=True):
        if value is not None:
            yield metric(float(value), **labels)
    for column, value in zip(TABLE_IO, row[3 + len(TABLE) :], strict=True):
        if value is not None:
            yield TABLE_IO[column](float(value), **labels)
            yield TABLE_IO_OLD[column](float(value), **labels)
    if len(sizes) == 2:
        yield TABLE_SIZE(sizes[0], **labels)
        yield INDEXES_SIZE(sizes[1], **labels)
        yield SIZE(sizes[0] + sizes[1], **labels)


class TablesCollector:
    """The tables of the database that the DSN names."""

    def __init__(self, server: Server, settings: TablesSettings) -> None:
        self._server = server
        self._tables = Tables(settings)

    def collect(self) -> Iterable[Sample]:
        self._server.session.ensure()
        return self._tables.read(self._server.session, self._server.label, self._server.database)


_LIST_QUERY = f"SELECT {MARK} datname, current_database() FROM pg_database WHERE datallowconn AND NOT datistemplate"


class OtherDatabasesCollector:
    """The tables of the other databases, one after the other, over a connection of their own for each.

    A database that cannot be entered has a `pg_database_tables_read` of 0, and takes nothing from the others.
    """

    def __init__(self, settings: PostgresSettings) -> None:
        self._settings = settings
        self._tables: dict[str, Tables] = {}

    def collect(self) -> Iterator[Sample]:
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
            try:
                session.connect()
                samples = list(tables.read(session, label, datname))
            except (NotConnected, QueryError):
                session.close()
                samples = []
            yield READ(bool(samples), server=label, datname=datname)
            yield from samples
            try:
                samples = list(schema_samples(read_schema(session), label, datname)) if samples else []
            except (NotConnected, QueryError):
                samples = []
            finally:
                session.close()
            yield from samples

    def _session(self, datname: str | None) -> Session:
        from psycopg.conninfo import make_conninfo

        conninfo = self._settings.conninfo
        if datname is not None:
            conninfo = make_conninfo(conninfo, dbname=datname)
        return Session(conninfo, self._settings.timeout, self._settings.lock_timeout)
