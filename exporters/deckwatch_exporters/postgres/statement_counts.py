"""Readings of pg_stat_statements, and the differences between them.

The columns depend on the version of the extension in the database (`pg_extension.extversion`), not on that of the
server: pg_upgrade leaves old versions behind. https://www.postgresql.org/docs/current/pgstatstatements.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.exporter import Malformed, Missing
from deckwatch_exporters.clients.libpq import MARK, text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from deckwatch_exporters.clients.libpq import Session


class StatementKey(NamedTuple):
    user: str
    datname: str
    queryid: str


class Figures(NamedTuple):
    """Counters of one statement, times in seconds; 0 where the extension has no such column."""

    calls: float
    seconds: float
    rows: float
    block_read_seconds: float
    block_write_seconds: float
    blocks_hit: float
    blocks_read: float
    temp_blocks_written: float
    wal_bytes: float

    def plus(self, other: Figures) -> Figures:
        return Figures(*[a + b for a, b in zip(self, other, strict=True)])


#: The key of the row that holds the evictions and the time of the last reset.
INFO_KEY = b"info"
NOTHING = Figures(*[0.0] * len(Figures._fields))


@dataclass(frozen=True)
class Delta:
    """Counters since the last reading. `longest` is the duration of the longest execution (seconds), if it is new."""

    key: StatementKey
    figures: Figures
    longest: float | None


@dataclass(frozen=True)
class Extension:
    """How to query the extension of a database."""

    version: str
    schema: str
    figures: tuple[str, ...]  # an expression for each field of Figures
    has_toplevel: bool
    has_info: bool
    since: str  # an expression for when the entry was made
    longest: str

    @property
    def counts_query(self) -> str:
        """The key and the counters of each entry as one text each: an unchanged entry costs one comparison.

        The row of INFO_KEY holds the number of evictions and the time of the last reset (Unix seconds). It is read
        first: with a reset in between, the counters since are lost; read last, old counters would count from 0 again.
        """
        toplevel = "toplevel" if self.has_toplevel else "true"
        columns = ", ".join((*self.figures, self.longest, self.since))
        info = (
            f"SELECT {MARK} '{INFO_KEY.decode()}',"
            " pg_catalog.concat_ws(' ', dealloc, extract(epoch FROM stats_reset))"
            f" FROM {self.schema}.pg_stat_statements_info UNION ALL "
        )
        return (
            f"{info if self.has_info else ''}"
            f"SELECT {MARK} pg_catalog.concat_ws(' ', userid, dbid, queryid, {toplevel}),"
            f" pg_catalog.concat_ws(' ', {columns})"
            f" FROM {self.schema}.pg_stat_statements(false) WHERE queryid IS NOT NULL"
        )

    def texts_query(self, queryids: Iterable[str], length: int) -> str:
        """The server converts every text to the encoding of the database, and fails if it cannot convert one."""
        return (
            f"SELECT {MARK} queryid, pg_catalog.min(pg_catalog.left(query, {length}))"
            f" FROM {self.schema}.pg_stat_statements(true)"
            f" WHERE queryid = ANY('{{{','.join(queryids)}}}') GROUP BY queryid"
        )


_EXTENSION_QUERY = f"""SELECT {MARK} e.extversion, pg_catalog.quote_ident(n.nspname),
    (SELECT pg_catalog.string_agg(a.attname, ' ') FROM pg_catalog.pg_class AS c
     JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
     WHERE c.relname = 'pg_stat_statements' AND c.relnamespace = n.oid),
    pg_catalog.quote_ident(current_user), pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
    (SELECT pg_catalog.string_agg(p.oid::regprocedure::text, ', ') FROM pg_catalog.pg_proc AS p
     WHERE p.proname IN ('pg_stat_statements', 'pg_stat_statements_info') AND p.pronamespace = n.oid
         AND NOT pg_catalog.has_function_privilege(p.oid, 'EXECUTE')),
    (SELECT c.oid::regclass::text FROM pg_catalog.pg_class AS c
     WHERE c.relname = 'pg_stat_statements_info' AND c.relnamespace = n.oid
         AND NOT pg_catalog.has_table_privilege(c.oid, 'SELECT'))
FROM pg_catalog.pg_extension AS e JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'pg_stat_statements'"""


def find_extension(session: Session, database: str) -> Extension:
    """Raises Missing with the statement that fixes it, NotConnected, QueryError."""
    found = session.query(_EXTENSION_QUERY).rows
    if not found:
        raise Missing(f"pg_stat_statements is not in database {database}", "CREATE EXTENSION pg_stat_statements")
    version, schema, columns, role, is_usable, functions, view = (text(value) for value in found[0])
    for is_missing, what, grant in (
        (is_usable != "t", f"use the schema {schema} of pg_stat_statements", f"USAGE ON SCHEMA {schema}"),
        (functions, f"execute {functions}", f"EXECUTE ON FUNCTION {functions}"),
        (view, f"read {view}", f"SELECT ON {view}"),
    ):
        if is_missing:
            raise Missing(f"the role {role} may not {what}", f"GRANT {grant} TO {role}")
    return extension(version, schema, columns.split())


def extension(version: str, schema: str, columns: Iterable[str]) -> Extension:
    """How to query an extension with these columns (1.8 to 1.12, and older versions as far as possible)."""
    present = set(columns)

    def first(*names: str, per: str = "") -> str:
        return next((f"{name}{per}" for name in names if name in present), "0")

    figures = (
        first("calls"),
        first("total_exec_time", "total_time", per="/1000"),
        first("rows"),
        first("shared_blk_read_time", "blk_read_time", per="/1000"),
        first("shared_blk_write_time", "blk_write_time", per="/1000"),
        first("shared_blks_hit"),
        first("shared_blks_read"),
        first("temp_blks_written"),
        first("wal_bytes"),
    )
    return Extension(
        version,
        schema,
        figures,
        has_toplevel="toplevel" in present,
        has_info=tuple(map(int, re.findall(r"\d+", version))) >= (1, 9),
        since="extract(epoch FROM stats_since)" if "stats_since" in present else "0",
        longest=first("max_exec_time", "max_time", per="/1000"),
    )


class Reading(NamedTuple):
    """A parsed entry."""

    figures: Figures
    longest: float
    since: bytes


def parse(entry: bytes) -> Reading:
    """Raises ValueError, TypeError if a figure is missing (NULL), negative or not a number."""
    *parts, longest, since = entry.split(b" ")
    figures = Figures(*map(float, parts))
    if not min(figures) >= 0:
        raise ValueError("a negative counter")
    return Reading(figures, float(longest), since)


class Readings:
    """The entries as last read. The first reading is the baseline."""

    def __init__(self) -> None:
        self._entries: dict[bytes, bytes] | None = None
        self._identity: object = None
        self.malformed: list[Malformed] = []  # entries of the last reading

    def __len__(self) -> int:
        return len(self._entries or ())

    def changes(
        self, entries: Mapping[bytes, bytes], identity: object, reset: bool, ignored: Collection[bytes] = ()
    ) -> dict[bytes, tuple[Figures, float | None]]:
        """The counters of each changed entry since the last reading, by key, without those that are `ignored`.

        A new `identity` means another server (after a failover): its first reading is a baseline again. After a
        `reset` of the server's statistics, all entries count from 0.
        """
        self.malformed = []
        known = self._entries
        if known is None or identity != self._identity:
            return {}
        changed = {}
        for key, entry in entries.items():
            before = None if reset else known.get(key)
            if before != entry and key not in ignored:
                try:
                    difference = _difference(before, entry)
                except (ValueError, TypeError):
                    self.malformed.append(Malformed(f"pg_stat_statements: {text(key)}", text(entry)[:200]))
                    continue
                if any(difference[0]):
                    changed[key] = difference
        return changed

    def take(self, entries: Mapping[bytes, bytes], identity: object) -> None:
        """Make these entries the last reading."""
        self._entries, self._identity = dict(entries), identity

    def forget(self, key: bytes, before: Mapping[bytes, bytes]) -> None:
        """Undo one change of the last reading: it is part of the next one."""
        assert self._entries is not None
        if key in before:
            self._entries[key] = before[key]
        else:
            self._entries.pop(key, None)

    @property
    def entries(self) -> Mapping[bytes, bytes]:
        return self._entries or {}


def _difference(before: bytes | None, entry: bytes) -> tuple[Figures, float | None]:
    now = parse(entry)
    if before is not None:
        was = parse(before)
        # An entry that was evicted and came back, or was reset on its own, counts from 0 again.
        if (
            now.since == was.since
            and now.figures.calls >= was.figures.calls
            and now.figures.seconds >= was.figures.seconds
        ):
            step = Figures(*[max(0.0, a - b) for a, b in zip(now.figures, was.figures, strict=True)])
            return step, now.longest if now.longest > was.longest else None
    return now.figures, now.longest
