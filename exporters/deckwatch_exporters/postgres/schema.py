"""Problems in a database's schema: duplicate indexes, sequences near their end, tables that need a vacuum."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

from deckwatch.exporter import Gauge, Malformed, Refresh
from deckwatch_exporters.clients.libpq import MARK, QueryError, Session, number, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deckwatch.exporter import Sample, Samples
    from deckwatch_exporters.clients.libpq import Result, Row

    from .server import Server

T = TypeVar("T")
_Rows: TypeAlias = "Result | tuple[()]"

_RELATION = ("server", "datname", "schemaname", "relname")
DUPLICATE = Gauge(
    "pg_duplicate_index_size_bytes", "Size of an index that duplicates another index of the table, in bytes.",
    [*_RELATION, "indexrelname", "duplicate_of"],
)  # fmt: skip
SEQUENCE = Gauge(
    "pg_sequence_used_ratio", "Fraction of the values of the sequence, or of the column that it fills, in use.",
    ["server", "datname", "schemaname", "sequencename"],
)  # fmt: skip
VACUUM_THRESHOLD = Gauge(
    "pg_stat_user_tables_autovacuum_threshold", "Number of dead rows at which autovacuum vacuums the table.", _RELATION
)

#: Seconds between two readings: nothing here changes quickly.
INTERVAL = 300.0
_MOST = 100

_SYSTEM = "('pg_catalog', 'information_schema', 'pg_toast')"
# Duplicates have the same columns, operator classes, collations, order, expressions and condition. Of several, the
# index of a constraint is kept, otherwise a unique one, otherwise the oldest.
_DUPLICATES_QUERY = f"""SELECT {MARK} n.nspname, t.relname, c.relname, kept.relname, pg_catalog.pg_relation_size(c.oid),
    pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)
FROM (
    SELECT i.*, pg_catalog.first_value(indexrelid) OVER (
        PARTITION BY indrelid, indkey::text, indclass::text, indcollation::text, indoption::text,
            coalesce(pg_catalog.pg_get_expr(indexprs, indrelid), ''),
            coalesce(pg_catalog.pg_get_expr(indpred, indrelid), '')
        ORDER BY indisprimary DESC, indisreplident DESC,
            EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conindid = indexrelid) DESC, indisunique DESC,
            indexrelid) AS kept
    FROM pg_catalog.pg_index AS i WHERE indisvalid AND indislive
) AS i
JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid JOIN pg_catalog.pg_class AS t ON t.oid = i.indrelid
JOIN pg_catalog.pg_class AS kept ON kept.oid = i.kept JOIN pg_catalog.pg_namespace AS n ON n.oid = t.relnamespace
WHERE i.kept <> i.indexrelid AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conindid = i.indexrelid)
    AND n.nspname NOT IN {_SYSTEM} AND t.relkind <> 'p' AND NOT c.relispartition
    AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_locks AS l WHERE l.relation = c.oid AND l.mode = 'AccessExclusiveLock')
ORDER BY c.relpages DESC LIMIT {_MOST}"""
# A sequence fills the columns that own it and those with a default that uses it. Reading the last value takes
# a lock that conflicts with ALTER SEQUENCE, and is refused for an unlogged sequence of a standby.
_SEQUENCES_QUERY = f"""SELECT {MARK} nspname, relname, last_value, CASE WHEN increment > 0 THEN high ELSE low END,
    CASE WHEN high <= low THEN 1 WHEN increment > 0 THEN (last_value - low + 1) / (high - low + 1)
         ELSE (high - last_value + 1) / (high - low + 1) END AS used,
    identifier, owner, owner_limits, type <> 'int8'::pg_catalog.regtype, own_limits, increment < 0
FROM (
    SELECT n.nspname, c.relname, s.seqincrement AS increment, s.seqtypid AS type,
        pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS identifier,
        CASE WHEN seqincrement > 0 THEN column_high <= s.seqmax ELSE column_low >= s.seqmin END AS owner_limits,
        CASE s.seqtypid WHEN 'int2'::pg_catalog.regtype THEN seqmax < 32767 AND seqmin > -32768
            WHEN 'int4'::pg_catalog.regtype THEN seqmax < 2147483647 AND seqmin > -2147483648
            ELSE CASE WHEN seqincrement > 0 THEN seqmax < 9223372036854775807
                 ELSE seqmin > -9223372036854775807 END END AS own_limits,
        least(s.seqmax::numeric, CASE WHEN seqincrement > 0 THEN column_high END) AS high,
        greatest(s.seqmin::numeric, CASE WHEN seqincrement < 0 THEN column_low END) AS low,
        f.owner,
        CASE WHEN c.relpersistence <> 't' AND NOT (c.relpersistence = 'u' AND pg_catalog.pg_is_in_recovery())
                AND pg_catalog.has_sequence_privilege(s.seqrelid, 'SELECT, USAGE')
             THEN pg_catalog.pg_sequence_last_value(s.seqrelid) END::numeric AS last_value
    FROM pg_catalog.pg_sequence AS s
    JOIN pg_catalog.pg_class AS c ON c.oid = s.seqrelid
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    LEFT JOIN LATERAL (
        SELECT owner, column_high, -column_high - 1 AS column_low FROM (
            SELECT pg_catalog.quote_ident(tn.nspname) || '.' || pg_catalog.quote_ident(t.relname) || ' ALTER COLUMN '
                    || pg_catalog.quote_ident(a.attname) AS owner,
                CASE coalesce(nullif(y.typbasetype, 0), y.oid) WHEN 'int2'::pg_catalog.regtype THEN 32767
                    WHEN 'int4'::pg_catalog.regtype THEN 2147483647 END::numeric AS column_high
            FROM (
                SELECT refobjid AS relid, refobjsubid AS number FROM pg_catalog.pg_depend
                WHERE classid = 'pg_class'::pg_catalog.regclass AND objid = s.seqrelid AND deptype IN ('a', 'i')
                    AND refobjsubid > 0
                UNION SELECT e.adrelid, e.adnum FROM pg_catalog.pg_depend AS d
                JOIN pg_catalog.pg_attrdef AS e ON e.oid = d.objid
                WHERE d.classid = 'pg_attrdef'::pg_catalog.regclass
                    AND d.refclassid = 'pg_class'::pg_catalog.regclass AND d.refobjid = s.seqrelid
            ) AS filled
            JOIN pg_catalog.pg_attribute AS a ON a.attrelid = filled.relid AND a.attnum = filled.number
            JOIN pg_catalog.pg_type AS y ON y.oid = a.atttypid
            JOIN pg_catalog.pg_class AS t ON t.oid = a.attrelid AND t.relkind IN ('r', 'p')
            JOIN pg_catalog.pg_namespace AS tn ON tn.oid = t.relnamespace
        ) AS columns ORDER BY column_high NULLS LAST, owner LIMIT 1
    ) AS f ON true
    WHERE NOT s.seqcycle AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_locks AS l WHERE l.relation = c.oid AND l.granted
            AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'))
) AS s WHERE last_value IS NOT NULL
ORDER BY used DESC LIMIT {_MOST}"""
# https://www.postgresql.org/docs/current/routine-vacuuming.html#AUTOVACUUM; the maximum exists since 18.
_OPTION = """coalesce((SELECT option_value::float8 FROM pg_catalog.pg_options_to_table(c.reloptions)
    WHERE option_name = '{0}'), pg_catalog.current_setting('{0}', true)::float8)"""
_VACUUM_QUERY = f"""SELECT {MARK} nspname, relname, CASE WHEN maximum >= 0 THEN least(maximum, threshold)
    ELSE threshold END, dead, identifier
FROM (
    SELECT n.nspname, c.relname, c.relpages, {_OPTION.format("autovacuum_vacuum_threshold")}
        + greatest(c.reltuples, 0) * {_OPTION.format("autovacuum_vacuum_scale_factor")} AS threshold,
        {_OPTION.format("autovacuum_vacuum_max_threshold")} AS maximum,
        pg_catalog.pg_stat_get_dead_tuples(c.oid) AS dead,
        pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS identifier
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN {_SYSTEM}
) AS tables
ORDER BY relpages DESC LIMIT {_MOST}"""
# lock_not_available, query_canceled: something holds a lock, or there is too much to read at once.
_TRANSIENT = ("55P03", "57014")


class DuplicateIndex(NamedTuple):
    schemaname: str
    relname: str
    indexrelname: str
    duplicate_of: str
    size: float  # bytes
    identifier: str  # quoted


class Sequence(NamedTuple):
    schemaname: str
    sequencename: str
    last_value: float
    ending: float  # the last possible value
    used: float
    identifier: str  # quoted
    column: str  # `table ALTER COLUMN name` of the column that it fills; `` if there is none
    is_limited_by_column: bool  # its type ends where the sequence does, or before
    is_narrow: bool  # the sequence's own type is smaller than bigint
    has_own_limit: bool  # a MAXVALUE or MINVALUE below what its type allows
    is_descending: bool


class VacuumThreshold(NamedTuple):
    schemaname: str
    relname: str
    threshold: float  # dead rows
    dead: float
    identifier: str  # quoted


@dataclass
class Schema:
    duplicates: list[DuplicateIndex] = field(default_factory=list)
    sequences: list[Sequence] = field(default_factory=list)
    thresholds: list[VacuumThreshold] = field(default_factory=list)
    malformed: list[Malformed] = field(default_factory=list)
    is_complete: bool = True  # False if a query was refused for a reason that passes


def read_schema(session: Session) -> Schema:
    """The schema of the session's database. Raises NotConnected, QueryError."""
    queries = (_DUPLICATES_QUERY, _SEQUENCES_QUERY, _VACUUM_QUERY)
    schema = Schema()
    duplicates: _Rows
    sequences: _Rows
    thresholds: _Rows
    try:
        duplicates, sequences, thresholds = session.queries(queries)
    except QueryError as failure:
        if failure.sqlstate not in _TRANSIENT:
            raise
        schema.is_complete = False
        duplicates, sequences, thresholds = (_rows_or_none(session, query) for query in queries)
    schema.duplicates = _parsed(schema, DUPLICATE.name, duplicates, _duplicate)
    schema.sequences = _parsed(schema, SEQUENCE.name, sequences, _sequence)
    schema.thresholds = _parsed(schema, VACUUM_THRESHOLD.name, thresholds, _threshold)
    return schema


def _rows_or_none(session: Session, query: str) -> _Rows:
    try:
        return session.query(query)
    except QueryError as failure:
        if failure.sqlstate not in _TRANSIENT:
            raise
        return ()


def _parsed(schema: Schema, what: str, rows: _Rows, parse: Callable[[Row], T]) -> list[T]:
    parsed = []
    for row in rows:
        try:
            parsed.append(parse(row))
        except (ValueError, TypeError):
            schema.malformed.append(Malformed(what, " ".join(text(value) for value in row)[:200]))
    return parsed


def _figure(value: bytes | None) -> float:
    """Raises ValueError also for NULL."""
    figure = number(value)
    if figure is None:
        raise ValueError("NULL")
    return figure


def _duplicate(row: Row) -> DuplicateIndex:
    return DuplicateIndex(text(row[0]), text(row[1]), text(row[2]), text(row[3]), _figure(row[4]), text(row[5]))


def _sequence(row: Row) -> Sequence:
    last, ending, used = (_figure(value) for value in row[2:5])
    flags = (value == b"t" for value in row[7:11])
    return Sequence(text(row[0]), text(row[1]), last, ending, used, text(row[5]), text(row[6]), *flags)


def _threshold(row: Row) -> VacuumThreshold:
    return VacuumThreshold(text(row[0]), text(row[1]), _figure(row[2]), _figure(row[3]), text(row[4]))


def schema_samples(schema: Schema, label: str, datname: str) -> Iterator[Sample | Malformed]:
    yield from schema.malformed
    for index in schema.duplicates:
        yield DUPLICATE(
            index.size,
            server=label,
            datname=datname,
            schemaname=index.schemaname,
            relname=index.relname,
            indexrelname=index.indexrelname,
            duplicate_of=index.duplicate_of,
        )
    for sequence in schema.sequences:
        name = {"schemaname": sequence.schemaname, "sequencename": sequence.sequencename}
        yield SEQUENCE(sequence.used, server=label, datname=datname, **name)
    for table in schema.thresholds:
        names = {"schemaname": table.schemaname, "relname": table.relname}
        yield VACUUM_THRESHOLD(table.threshold, server=label, datname=datname, **names)


class SchemaCollector:
    """Reads the schema of the DSN's database every few minutes, and after a reconnect."""

    def __init__(self, server: Server, clock: Callable[[], float] = time.monotonic) -> None:
        self._server = server
        self._refresh = Refresh(INTERVAL - 1, clock)
        self._generation = -1
        self._samples: list[Sample | Malformed] = []

    def collect(self) -> Samples:
        session = self._server.session
        session.ensure()
        if self._refresh.is_due or self._generation != session.generation:
            schema = read_schema(session)
            self._samples = list(schema_samples(schema, self._server.label, self._server.database))
            self._generation = session.generation
            if schema.is_complete:
                self._refresh.done()
        return self._samples
