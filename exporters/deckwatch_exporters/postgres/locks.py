"""Locks by mode, and blocked sessions with the sessions that block them.

https://www.postgresql.org/docs/current/view-pg-locks.html
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge
from deckwatch_exporters.clients.libpq import MARK, text
from deckwatch_exporters.clients.samples import samples

from .sql_text import redacted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Context, Malformed, Sample

    from .activity import Activity, Backend
    from .server import Server
    from .settings import SlowQueriesSettings

LOCKS = Gauge("pg_locks_count", "Number of locks that sessions hold or wait for.", ["server", "datname", "mode"])
BLOCKED = Gauge("pg_blocked_sessions", "Number of sessions that wait for a lock.", ["server", "datname"])
BLOCKED_SINCE = Gauge(
    "pg_blocked_sessions_oldest_timestamp_seconds",
    "Start time of the oldest query that waits for a lock, in Unix seconds.",
    ["server", "datname"],
)
BLOCKED_TOTAL = Counter(
    "pg_blocked_sessions_total",
    "Number of waits for a lock that lasted longer than the setting `blocked_after`.",
    ["server", "datname"],
)

MODES = (
    "accesssharelock", "rowsharelock", "rowexclusivelock", "shareupdateexclusivelock", "sharelock",
    "sharerowexclusivelock", "exclusivelock", "accessexclusivelock", "sireadlock",
)  # fmt: skip

_LOCKS_QUERY = f"""SELECT {MARK} d.datname, pg_catalog.lower(l.mode), pg_catalog.count(*)
FROM pg_catalog.pg_database AS d
LEFT JOIN pg_catalog.pg_locks AS l ON l.database = d.oid AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
GROUP BY 1, 2"""
# pg_blocking_pids() locks the whole lock manager: call it for waiting sessions only, and not for too many.
_MOST_REPORTED = 20
_BLOCKERS_QUERY = (
    "SELECT {mark} pid, pg_catalog.array_to_string(pg_catalog.pg_blocking_pids(pid), ' ')"
    " FROM pg_catalog.unnest('{{{pids}}}'::int[]) AS pid"
)
# As bytes: see the query of the activity.
_BLOCKER_TEXTS_QUERY = """SELECT {mark} pid,
    pg_catalog.encode(substring(pg_catalog.textsend(query) FROM 1 FOR {length}), 'hex')
FROM pg_catalog.pg_stat_activity WHERE pid = ANY('{{{pids}}}')"""


class LocksCollector:
    def __init__(self, server: Server, exclude: frozenset[str] = frozenset()) -> None:
        self._server = server
        self._exclude = exclude

    def collect(self) -> Iterator[Sample | Malformed]:
        rows = self._server.session.query(_LOCKS_QUERY)
        held = {(text(datname), text(mode)): count for datname, mode, count in rows}
        for datname in sorted({datname for datname, _ in held} - self._exclude):
            for mode in MODES:
                labels = {"server": self._server.label, "datname": datname, "mode": mode}
                yield from samples(((LOCKS, held.get((datname, mode), b"0")),), **labels)


class BlockedCollector:
    """Blocked sessions, and an event `postgres.blocked` for each wait longer than `blocked_after`."""

    def __init__(
        self,
        server: Server,
        activity: Activity,
        context: Context,
        settings: SlowQueriesSettings,
        text_bytes: int = 4096,
    ) -> None:
        self._server = server
        self._activity = activity
        self._context = context
        self._settings = settings
        self._text_bytes = text_bytes
        self._reported: set[tuple[int, float | None]] = set()  # waits by process and start of the query
        self._totals: collections.Counter[str] = collections.Counter()
        self._seen = 0.0

    def collect(self) -> Iterator[Sample]:
        self._server.needs_all_stats()
        self._activity.read_unless_newer(self._seen)
        self._seen = self._activity.now
        now, label = self._activity.now, self._server.label
        waiting = [it for it in self._activity.backends if it.wait_event_type == "Lock" and it.datname]
        self._reported &= {(it.pid, it.query_start) for it in waiting}
        lasting = [
            it
            for it in waiting
            if (it.pid, it.query_start) not in self._reported
            and it.query_start is not None
            and now - it.query_start >= self._settings.blocked_after
        ]
        if lasting:
            self._report(lasting[:_MOST_REPORTED], now)
            for it in lasting:
                self._reported.add((it.pid, it.query_start))
                self._totals[it.datname] += 1
        counts = collections.Counter(it.datname for it in waiting)
        for datname in self._activity.databases:
            yield BLOCKED(counts[datname], server=label, datname=datname)
            yield BLOCKED_TOTAL(self._totals[datname], server=label, datname=datname)
        for datname in counts:
            starts = [it.query_start for it in waiting if it.datname == datname and it.query_start is not None]
            if starts:
                yield BLOCKED_SINCE(min(starts), server=label, datname=datname)

    def _report(self, lasting: list[Backend], now: float) -> None:
        session = self._server.session
        pids = ",".join(str(it.pid) for it in lasting)
        found = session.query(_BLOCKERS_QUERY.format(mark=MARK, pids=pids))
        blockers = {int(pid or 0): [int(one) for one in text(by).split()] for pid, by in found}
        by_pid = {it.pid: it for it in self._activity.backends}
        texts = {pid: it.query for pid, it in by_pid.items() if it.query}
        silent = {pid for found in blockers.values() for pid in found} - texts.keys()
        if silent:
            wanted = ",".join(map(str, sorted(silent)))
            query = _BLOCKER_TEXTS_QUERY.format(mark=MARK, pids=wanted, length=self._text_bytes)
            texts |= {int(pid or 0): text(bytes.fromhex(text(sent))) for pid, sent in session.query(query)}
        for it in lasting:
            self._context.event(
                "postgres.blocked",
                f"a session of {it.usename} in database {it.datname} waits for a lock",
                database=it.datname,
                user=it.usename,
                application=it.application_name,
                pid=it.pid,
                queryid=it.query_id or None,
                wait_event=f"{it.wait_event_type}:{it.wait_event}",
                waiting_seconds=round(now - (it.query_start or now), 3),
                query=self._shown(it.query),
                blocked_by=[
                    self._described(pid, by_pid.get(pid), texts.get(pid, ""), now) for pid in blockers.get(it.pid, [])
                ],
            )

    def _described(self, pid: int, it: Backend | None, query: str, now: float) -> dict[str, object]:
        if it is None:
            return {"pid": pid}  # 0 is a prepared transaction
        return {
            "pid": pid,
            "user": it.usename,
            "application": it.application_name,
            "state": it.state,
            "transaction_seconds": round(now - it.xact_start, 3) if it.xact_start is not None else None,
            "query": self._shown(query),
        }

    def _shown(self, query: str) -> str:
        return redacted(query) if self._settings.redact else query
