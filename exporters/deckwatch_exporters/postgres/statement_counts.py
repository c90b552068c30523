"""pg_stat_statements as it is read, and what was done between two readings.

The columns that there are depend on the version of the extension in the database (`pg_extension.extversion`), not on
the server's: pg_upgrade leaves old ones behind. https://www.postgresql.org/docs/current/pgstatstatements.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.exporter import Missing
from deckwatch_exporters.clients.libpq import MARK, text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from deckwatch_exporters.clients.libpq import Session


class StatementKey(NamedTuple):
    user: str
    datname: str
    queryid: str


class Figures(NamedTuple):
    """What one statement has done. Times in seconds. Later fields are None where the extension has no such column."""

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


#: Of the row that is no entry.
INFO_KEY = b"info"
NOTHING = Figures(*[0.0] * len(Figures._fields))


@dataclass(frozen=True)
class Delta:
    """What a statement did since the last reading; `longest` (seconds) where it was the longest run so far."""

    key: StatementKey
    figures: Figures
    longest: float | None


@dataclass(frozen=True)
class Extension:
    """How to ask for the statements of a server."""

    version: str
    schema: str
    figures: tuple[str, ...]  # an expression for each field of Figures
    has_toplevel: bool
    has_info: bool
    since: str  # an expression for when the entry was made
    longest: str

    @property
    def counts_query(self) -> str:
        """The key and the figures as one text each, so that an entry that stands still costs one comparison.

        Under INFO_KEY, where the extension has that, the evictions so far and when all was last reset, in Unix seconds.
        It comes first, and Append runs what it joins in order: a reset in between costs no more than what was done
        since. A look back at old counts as if they had begun at 0 would be worse.
        """
        toplevel = "toplevel" if self.has_toplevel else "true"
        columns = ", ".join((*self.figures, self.longest, self.since))
        info = (
            f"SELECT {MARK} '{INFO_KEY.decode()}', concat_ws(' ', dealloc, extract(epoch FROM stats_reset))"
            f" FROM {self.schema}.pg_stat_statements_info UNION ALL "
        )
        return (
            f"{info if self.has_info else ''}"
            f"SELECT {MARK} concat_ws(' ', userid, dbid, queryid, {toplevel}), concat_ws(' ', {columns})"
            f" FROM {self.schema}.pg_stat_statements(false) WHERE queryid IS NOT NULL"
        )

    def texts_query(self, queryids: Iterable[str], length: int) -> str:
        return (
            f"SELECT {MARK} queryid, min(left(query, {length})) FROM {self.schema}.pg_stat_statements(true)"
            f" WHERE queryid = ANY('{{{','.join(queryids)}}}') GROUP BY queryid"
        )


_EXTENSION_QUERY = f"""SELECT {MARK} e.extversion, quote_ident(n.nspname),
    (SELECT string_agg(attname, ' ') FROM pg_attribute
     WHERE attrelid = (quote_ident(n.nspname) || '.pg_stat_statements')::regclass AND attnum > 0)
FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements'"""


def find_extension(session: Session, database: str) -> Extension:
    """Raises Missing, with the statement that mends it; NotConnected, QueryError."""
    found = session.query(_EXTENSION_QUERY).rows
    if not found:
        raise Missing(f"pg_stat_statements is not in database {database}", "CREATE EXTENSION pg_stat_statements")
    version, schema, columns = (text(value) for value in found[0])
    return extension(version, schema, columns.split())


def extension(version: str, schema: str, columns: Iterable[str]) -> Extension:
    """How to ask an extension that has these columns (1.8 to 1.12; older ones as far as they go)."""
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
        has_info=tuple(map(int, version.split("."))) >= (1, 9),
        since="extract(epoch FROM stats_since)" if "stats_since" in present else "0",
        longest=first("max_exec_time", "max_time", per="/1000"),
    )


class Reading(NamedTuple):
    """One entry, parsed."""

    figures: Figures
    longest: float
    since: bytes


def parse(entry: bytes) -> Reading:
    *figures, longest, since = entry.split(b" ")
    return Reading(Figures(*map(float, figures)), float(longest), since)


class Readings:
    """The entries as they were read last. What is there at the first reading counts from there on."""

    def __init__(self) -> None:
        self._entries: dict[bytes, bytes] | None = None
        self._identity: object = None

    def __len__(self) -> int:
        return len(self._entries or ())

    def changes(
        self, entries: Mapping[bytes, bytes], identity: object, reset: bool, ignored: Collection[bytes] = ()
    ) -> dict[bytes, tuple[Figures, float | None]]:
        """By key what each entry did since the reading that was last taken, without those that are `ignored`.

        `identity` is the server's: another one's entries (after a fail-over) have nothing to do with those that are
        known, and are a first reading again. After a `reset` of the server's statistics all entries began at 0.
        """
        known = self._entries
        if known is None or identity != self._identity:
            return {}
        changed = {}
        for key, entry in entries.items():
            before = None if reset else known.get(key)
            if before != entry and key not in ignored:
                difference = _difference(before, entry)
                if any(difference[0]):
                    changed[key] = difference
        return changed

    def take(self, entries: Mapping[bytes, bytes], identity: object) -> None:
        """Count from these entries on."""
        self._entries, self._identity = dict(entries), identity

    def forget(self, key: bytes, before: Mapping[bytes, bytes]) -> None:
        """Take back one change of the reading that was taken: it will come again, with what is done until then."""
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
        # An entry that was evicted and came back, or was reset by itself, began at 0 again.
        if (
            now.since == was.since
            and now.figures.calls >= was.figures.calls
            and now.figures.seconds >= was.figures.seconds
        ):
            step = Figures(*[max(0.0, a - b) for a, b in zip(now.figures, was.figures, strict=True)])
            return step, now.longest if now.longest > was.longest else None
    return now.figures, now.longest
