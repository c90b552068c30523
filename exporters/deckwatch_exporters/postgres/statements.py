"""Statements: counters for the top ones and one `other`, their texts once each into the log."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge
from deckwatch_exporters.clients.libpq import MARK, text

from .sql_text import cut, fingerprint, one_line, redacted
from .statement_counts import INFO_KEY, NOTHING, Delta, Extension, Figures, Readings, StatementKey, find_extension
from .sticky_top import StickyTop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from deckwatch.exporter import Context, Metric, Sample

    from .server import Server
    from .settings import StatementsSettings

_LABELS = ("server", "user", "datname", "queryid")


def _counter(name: str, help: str) -> Metric:
    return Counter(f"pg_stat_statements_{name}", help, _LABELS)


#: By field of Figures; the first five are the peer's.
COUNTERS: Mapping[str, Metric] = {
    "calls": _counter("calls_total", "Times that the statement was executed."),
    "seconds": _counter("seconds_total", "Time that the statement took, in seconds."),
    "rows": _counter("rows_total", "Rows that the statement returned or changed."),
    "block_read_seconds": _counter("block_read_seconds_total", "Time spent reading blocks, in seconds."),
    "block_write_seconds": _counter("block_write_seconds_total", "Time spent writing blocks, in seconds."),
    "blocks_hit": _counter("shared_blocks_hit_total", "Blocks found in the buffer cache."),
    "blocks_read": _counter("shared_blocks_read_total", "Blocks read from disk, or from the kernel's cache."),
    "temp_blocks_written": _counter("temp_blocks_written_total", "Blocks written to temporary files."),
    "wal_bytes": _counter("wal_bytes_total", "WAL written, in bytes."),
}
ALL_CALLS = Counter("pg_stat_statements_all_calls_total", "Executions of all statements together.", ["server"])
ALL_SECONDS = Counter("pg_stat_statements_all_seconds_total", "Time that all statements took, in seconds.", ["server"])
QUERY = Counter(
    "pg_stat_statements_query_id", "1; the text of a statement that has series.", ["server", "queryid", "query"]
)
ENTRIES = Gauge("pg_stat_statements_entries", "Entries of pg_stat_statements.", ["server"])
TRACKED = Gauge("pg_stat_statements_tracked", "Statements that have series of their own.", ["server"])
DEALLOCATIONS = Counter(
    "pg_stat_statements_dealloc_total",
    "Times that entries were evicted for new ones (pg_stat_statements.max).",
    ["server"],
)
RESET = Gauge(
    "pg_stat_statements_stats_reset_timestamp_seconds", "When all was last reset, in Unix seconds.", ["server"]
)

OTHER = StatementKey("other", "other", "other")
_NAMES_QUERY = f"SELECT {MARK} 'u', oid, rolname FROM pg_roles UNION ALL SELECT 'd', oid, datname FROM pg_database"
#: Texts that one run fetches. The others' figures wait for theirs, since it tells whose they are.
_TEXTS_A_RUN = 1000
_TEXTS_REMEMBERED = 20_000
_FORMER_REMEMBERED = 5000


class StatementsCollector:
    """Reads pg_stat_statements. `deltas` is what the last run found, for those that run after it."""

    def __init__(
        self,
        server: Server,
        settings: StatementsSettings,
        context: Context,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server = server
        self._settings = settings
        self._context = context
        self._clock = clock
        self._extension: tuple[int, Extension] | None = None  # as of which connection
        self._names: dict[tuple[str, bytes], str] = {}
        self._readings = Readings()
        self._texts: OrderedDict[str, str | None] = OrderedDict()  # by queryid; None is one of our own
        self._own: set[bytes] = set()  # keys of what Deckwatch itself asks
        self._reset: float | None = None
        self._deallocations = 0.0
        self._deallocations_read = 0.0
        self._members: list[StatementKey] = []
        # Former members' too: one that comes back goes on where it left, or its counters would fall.
        self._totals: dict[StatementKey, Figures] = {}
        self._other = NOTHING
        self._all = NOTHING
        self._by_time: StickyTop[StatementKey] = StickyTop(settings.top)
        self._by_calls: StickyTop[StatementKey] = StickyTop(settings.top_by_calls)
        self._by_io: StickyTop[StatementKey] = StickyTop(settings.top_by_io)
        self.deltas: list[Delta] = []

    def collect(self) -> Iterator[Sample]:
        self.deltas = []
        self._server.needs_all_stats()
        extension = self._find_extension()
        session, label = self._server.session, self._server.label
        counts = session.query(extension.counts_query)
        entries = {key: figures for key, figures in counts if key is not None and figures is not None}
        info = entries.pop(INFO_KEY, None)
        deallocations, reset = map(float, info.split(b" ")) if info is not None else (None, None)
        self.deltas = self._differences(extension, entries, reset)
        self._count(self.deltas)
        yield ENTRIES(len(entries), server=label)
        yield TRACKED(len(self._members), server=label)
        if deallocations is not None:
            yield DEALLOCATIONS(self._add_deallocations(deallocations), server=label)
        if reset is not None:
            yield RESET(reset, server=label)
        yield ALL_CALLS(self._all.calls, server=label)
        yield ALL_SECONDS(self._all.seconds, server=label)
        for key, figures in (*((key, self._totals[key]) for key in self._members), (OTHER, self._other)):
            labels = {"server": label, **key._asdict()}
            for metric, value in zip(COUNTERS.values(), figures, strict=True):
                yield metric(value, **labels)
        if self._settings.query_text == "label":
            for queryid in sorted({key.queryid for key in self._members}):
                if query := self._texts.get(queryid):
                    yield QUERY(1, server=label, queryid=queryid, query=query)

    def _add_deallocations(self, read: float) -> float:
        """The server's own count begins at 0 again when it is reset."""
        before, self._deallocations_read = self._deallocations_read, read
        self._deallocations += read - before if read >= before else read
        return self._deallocations

    def text_of(self, queryid: str) -> str:
        """The text as it may be shown; `` where it is not known."""
        return self._texts.get(queryid) or ""

    def _find_extension(self) -> Extension:
        session = self._server.session
        if self._extension is None or self._extension[0] != session.generation:
            self._extension = session.generation, find_extension(session, self._server.database)
            self._names = {}
        return self._extension[1]

    def _differences(self, extension: Extension, entries: dict[bytes, bytes], reset: float | None) -> list[Delta]:
        before = self._readings.entries
        was_reset = reset is not None and self._reset is not None and reset > self._reset
        identity = self._server.started
        self._own &= entries.keys()
        changes = self._readings.changes(entries, identity, was_reset, self._own)
        slowest_first = sorted(changes, key=lambda raw: -changes[raw][0].seconds)
        parts = {raw: raw.split(b" ") for raw in slowest_first}  # userid, dbid, queryid, toplevel
        if any(("u", part[0]) not in self._names or ("d", part[1]) not in self._names for part in parts.values()):
            self._names = {
                (text(kind), oid or b""): text(name) for kind, oid, name in self._server.session.query(_NAMES_QUERY)
            }
        new = self._learn_texts(extension, [text(part[2]) for part in parts.values()])
        # From here on nothing is asked of the server: what failed so far is counted by the next run.
        self._readings.take(entries, identity)
        self._reset = reset
        merged: dict[StatementKey, Delta] = {}
        for raw, (userid, dbid, queryid, _toplevel) in parts.items():
            figures, longest = changes[raw]
            # A role or database that was dropped has its number for a name.
            user = self._names.setdefault(("u", userid), text(userid))
            key = StatementKey(user, self._names.setdefault(("d", dbid), text(dbid)), text(queryid))
            if key.queryid not in self._texts:
                self._readings.forget(raw, {} if was_reset else before)
                continue
            if self._texts[key.queryid] is None:
                self._own.add(raw)
                continue
            if sql := new.pop(key.queryid, ""):
                self._tell(key, sql)
            delta = merged.get(key)
            if delta is not None:  # at the top level, and within a function
                figures = figures.plus(delta.figures)
                longest = max(filter(None, (longest, delta.longest)), default=None)
            merged[key] = Delta(key, figures, longest)
        return list(merged.values())

    def _learn_texts(self, extension: Extension, queryids: list[str]) -> dict[str, str]:
        """Fetch the texts that are not known yet. Returns them as they came."""
        # Not known either: what was evicted before its text could be fetched, and has come back.
        unknown = [queryid for queryid in dict.fromkeys(queryids) if self._texts.get(queryid, "") == ""][:_TEXTS_A_RUN]
        if not unknown:
            return {}
        # Redacting may make a text shorter: what it is cut to afterwards is filled as far as it goes.
        query = extension.texts_query(unknown, 2 * self._settings.text_bytes)
        found = {text(queryid): text(sql) for queryid, sql in self._server.session.query(query)}
        for queryid in unknown:
            sql = found.get(queryid, "")
            self._texts[queryid] = None if MARK in sql else self._shown(sql)
        while len(self._texts) > _TEXTS_REMEMBERED:
            self._texts.popitem(last=False)
        return found

    def _shown(self, sql: str) -> str:
        return cut(redacted(sql) if self._settings.redact else one_line(sql), self._settings.text_bytes)

    def _tell(self, key: StatementKey, sql: str) -> None:
        if self._settings.query_text == "log":
            self._context.event(
                "postgres.statement",
                f"a new statement of {key.user} on {key.datname}",
                queryid=key.queryid,
                fingerprint=fingerprint(sql),
                user=key.user,
                database=key.datname,
                query=self._shown(sql),
            )

    def _count(self, deltas: list[Delta]) -> None:
        now = self._clock()
        self._by_time.update({delta.key: delta.figures.seconds for delta in deltas if delta.figures.seconds}, now)
        self._by_calls.update({delta.key: delta.figures.calls for delta in deltas if delta.figures.calls}, now)
        self._by_io.update(
            {
                delta.key: delta.figures.blocks_read + delta.figures.temp_blocks_written
                for delta in deltas
                if delta.figures.blocks_read + delta.figures.temp_blocks_written
            },
            now,
        )
        members = self._by_time.members | self._by_calls.members | self._by_io.members
        self._members = sorted(members)
        for delta in deltas:
            self._all = self._all.plus(delta.figures)
            if delta.key in members:
                self._totals[delta.key] = self._totals.get(delta.key, NOTHING).plus(delta.figures)
            else:
                self._other = self._other.plus(delta.figures)
        former = [key for key in self._totals if key not in members]
        for key in former[: max(0, len(former) - _FORMER_REMEMBERED)]:
            del self._totals[key]
