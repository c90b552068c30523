"""What a database's schema should not have: duplicate indexes, sequences near their end, tables due for a vacuum."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.exporter import Gauge
from deckwatch_exporters.clients.libpq import MARK, Session, number, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from deckwatch.exporter import Sample

    from .server import Server

_RELATION = ("server", "datname", "schemaname", "relname")
DUPLICATE = Gauge(
    "pg_duplicate_index_size_bytes", "Size of an index that another one on the same columns makes needless, in bytes.",
    [*_RELATION, "indexrelname", "duplicate_of"],
)  # fmt: skip
SEQUENCE = Gauge(
    "pg_sequence_used_ratio", "How far the sequence, or the column that it fills, is to its end (1 is the end).",
    ["server", "datname", "schemaname", "sequencename"],
)  # fmt: skip
VACUUM_THRESHOLD = Gauge(
    "pg_stat_user_tables_autovacuum_threshold",
    "Dead rows from which on autovacuum takes the table; with pg_stat_user_tables_n_dead_tup.",
    _RELATION,
)

#: Nothing here changes quickly: not more often than this (seconds).
INTERVAL = 300.0
_MOST = 100

_SYSTEM = "('pg_catalog', 'information_schema', 'pg_toast')"
# The same columns, operator classes, collations, order, expressions and condition. Of two, the constraint's one stays,
# then the unique one, then the older one.
_DUPLICATES_QUERY = f"""SELECT {MARK} n.nspname, t.relname, c.relname, kept.relname, pg_relation_size(c.oid),
    quote_ident(n.nspname) || '.' || quote_ident(c.relname)
FROM (
    SELECT i.*, first_value(indexrelid) OVER (
        PARTITION BY indrelid, indkey::text, indclass::text, indcollation::text, indoption::text,
            coalesce(pg_get_expr(indexprs, indrelid), ''), coalesce(pg_get_expr(indpred, indrelid), '')
        ORDER BY indisprimary DESC, EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid) DESC,
            indisunique DESC, indexrelid) AS kept
    FROM pg_index AS i WHERE indisvalid AND indislive
) AS i
JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_class AS t ON t.oid = i.indrelid
JOIN pg_class AS kept ON kept.oid = i.kept JOIN pg_namespace AS n ON n.oid = t.relnamespace
WHERE i.kept <> i.indexrelid AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid)
    AND n.nspname NOT IN {_SYSTEM} AND t.relkind <> 'p'
    AND NOT EXISTS (SELECT FROM pg_locks AS l WHERE l.relation = c.oid AND l.mode = 'AccessExclusiveLock')
ORDER BY c.relpages DESC LIMIT {_MOST}"""
# An integer column that a bigint sequence fills ends before the sequence does.
_SEQUENCES_QUERY = f"""SELECT {MARK} schemaname, sequencename, last_value, ending, owner FROM (
    SELECT s.schemaname, s.sequencename, s.last_value::numeric,
        least(s.max_value, CASE a.atttypid WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647 END)
            AS ending,
        quote_ident(tn.nspname) || '.' || quote_ident(t.relname) || ' ALTER COLUMN ' || quote_ident(a.attname) AS owner
    FROM pg_sequences AS s
    JOIN pg_namespace AS n ON n.nspname = s.schemaname
    JOIN pg_class AS c ON c.relname = s.sequencename AND c.relnamespace = n.oid AND c.relkind = 'S'
    LEFT JOIN pg_depend AS d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
        AND d.refobjsubid > 0
    LEFT JOIN pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    LEFT JOIN pg_class AS t ON t.oid = a.attrelid LEFT JOIN pg_namespace AS tn ON tn.oid = t.relnamespace
    WHERE s.last_value IS NOT NULL AND s.increment_by > 0 AND NOT s.cycle
) AS s
ORDER BY last_value / ending DESC LIMIT {_MOST}"""
# https://www.postgresql.org/docs/current/routine-vacuuming.html#AUTOVACUUM
_VACUUM_QUERY = f"""SELECT {MARK} n.nspname, c.relname,
    coalesce((SELECT option_value::float8 FROM pg_options_to_table(c.reloptions)
              WHERE option_name = 'autovacuum_vacuum_threshold'),
             current_setting('autovacuum_vacuum_threshold')::float8)
    + greatest(c.reltuples, 0)
    * coalesce((SELECT option_value::float8 FROM pg_options_to_table(c.reloptions)
                WHERE option_name = 'autovacuum_vacuum_scale_factor'),
               current_setting('autovacuum_vacuum_scale_factor')::float8),
    pg_stat_get_dead_tuples(c.oid)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN {_SYSTEM}
ORDER BY c.relpages DESC LIMIT {_MOST}"""


class DuplicateIndex(NamedTuple):
    schemaname: str
    relname: str
    indexrelname: str
    duplicate_of: str
    size: float  # bytes
    identifier: str  # as SQL wants it


class Sequence(NamedTuple):
    schemaname: str
    sequencename: str
    last_value: float
    ending: float
    column: str  # `table ALTER COLUMN name`, of the column that it fills; `` for none

    @property
    def used(self) -> float:
        return self.last_value / self.ending


class VacuumThreshold(NamedTuple):
    schemaname: str
    relname: str
    threshold: float  # dead rows
    dead: float


class Schema(NamedTuple):
    duplicates: list[DuplicateIndex]
    sequences: list[Sequence]
    thresholds: list[VacuumThreshold]


def read_schema(session: Session) -> Schema:
    """The schema of the database that the session is in. Raises NotConnected, QueryError."""
    duplicates, sequences, thresholds = session.queries((_DUPLICATES_QUERY, _SEQUENCES_QUERY, _VACUUM_QUERY))
    return Schema(
        [
            DuplicateIndex(text(row[0]), text(row[1]), text(row[2]), text(row[3]), number(row[4]) or 0.0, text(row[5]))
            for row in duplicates
        ],
        [
            Sequence(text(row[0]), text(row[1]), float(row[2] or 0), float(row[3] or 1), text(row[4]))
            for row in sequences
        ],
        [VacuumThreshold(text(row[0]), text(row[1]), float(row[2] or 0), float(row[3] or 0)) for row in thresholds],
    )


def schema_samples(schema: Schema, label: str, datname: str) -> Iterator[Sample]:
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
    """The schema of the DSN's database, read every few minutes."""

    def __init__(self, server: Server, clock: Callable[[], float] = time.monotonic) -> None:
        self._server = server
        self._clock = clock
        self._samples: list[Sample] = []
        self._read = (-1, 0.0)

    def collect(self) -> Iterable[Sample]:
        session = self._server.session
        session.ensure()
        generation, when = self._read
        if generation != session.generation or self._clock() - when > INTERVAL - 1:
            schema = read_schema(session)
            self._samples = list(schema_samples(schema, self._server.label, self._server.database))
            self._read = (session.generation, self._clock())
        return self._samples
