"""Locks by mode, and who blocks whom.

https://www.postgresql.org/docs/current/view-pg-locks.html
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge
from deckwatch_exporters.clients.libpq import MARK, NotConnected, text

from .sql_text import redacted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Context, Sample

    from .activity import Activity, Backend
    from .server import Server
    from .settings import SlowQueriesSettings

LOCKS = Gauge("pg_locks_count", "Locks that sessions hold or wait for.", ["server", "datname", "mode"])
BLOCKED = Gauge("pg_blocked_sessions", "Sessions that wait for a lock.", ["server", "datname"])
BLOCKED_SINCE = Gauge(
    "pg_blocked_sessions_oldest_timestamp_seconds",
    "When the query that has waited for a lock the longest began, in Unix seconds.",
    ["server", "datname"],
)
BLOCKED_TOTAL = Counter(
    "pg_blocked_sessions_total", "Waits for a lock that lasted for longer than `blocked_after`.", ["server", "datname"]
)

MODES = (
    "accesssharelock", "rowsharelock", "rowexclusivelock", "shareupdateexclusivelock", "sharelock",
    "sharerowexclusivelock", "exclusivelock", "accessexclusivelock", "sireadlock",
)  # fmt: skip

_LOCKS_QUERY = f"""SELECT {MARK} d.datname, lower(l.mode), count(*)
FROM pg_database AS d LEFT JOIN pg_locks AS l ON l.database = d.oid AND l.pid IS DISTINCT FROM pg_backend_pid()
GROUP BY 1, 2"""
# pg_blocking_pids() takes every lock of the lock manager: only for those who wait, and not for a whole crowd.
_MOST_ASKED_FOR = 20
_BLOCKERS_QUERY = (
    "SELECT {mark} pid, array_to_string(pg_blocking_pids(pid), ' ') FROM unnest('{{{pids}}}'::int[]) AS pid"
)
_BLOCKER_TEXTS_QUERY = """SELECT {mark} pid, left(query, {length})
FROM pg_stat_activity WHERE pid = ANY('{{{pids}}}')"""


class LocksCollector:
    def __init__(self, server: Server, exclude: frozenset[str] = frozenset()) -> None:
        self._server = server
        self._exclude = exclude

    def collect(self) -> Iterator[Sample]:
        rows = self._server.session.query(_LOCKS_QUERY)
        held = {(text(datname), text(mode)): float(count or 0) for datname, mode, count in rows}
        for datname in sorted({datname for datname, _ in held} - self._exclude):
            for mode in MODES:
                yield LOCKS(held.get((datname, mode), 0), server=self._server.label, datname=datname, mode=mode)


class BlockedCollector:
    """Who waits for a lock, and an event `postgres.blocked` for each wait that lasts."""

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
        self._told: set[tuple[int, float | None]] = set()  # waits, by process and start of the query
        self._totals: collections.Counter[str] = collections.Counter()
        self._seen = 0.0

    def collect(self) -> Iterator[Sample]:
        self._server.needs_all_stats()
        if self._activity.now == self._seen:
            raise NotConnected("the sessions could not be read")  # nobody waiting would be a made-up figure
        self._seen = self._activity.now
        now, label = self._activity.now, self._server.label
        waiting = [it for it in self._activity.backends if it.wait_event_type == "Lock" and it.datname]
        self._told &= {(it.pid, it.query_start) for it in waiting}
        lasting = [
            it
            for it in waiting
            if (it.pid, it.query_start) not in self._told
            and it.query_start is not None
            and now - it.query_start >= self._settings.blocked_after
        ]
        if lasting:
            self._tell(lasting[:_MOST_ASKED_FOR], now)
            for it in lasting:
                self._told.add((it.pid, it.query_start))
                self._totals[it.datname] += 1
        counts = collections.Counter(it.datname for it in waiting)
        for datname in self._activity.databases:
            yield BLOCKED(counts[datname], server=label, datname=datname)
            yield BLOCKED_TOTAL(self._totals[datname], server=label, datname=datname)
        for datname in counts:
            starts = [it.query_start for it in waiting if it.datname == datname and it.query_start is not None]
            if starts:
                yield BLOCKED_SINCE(min(starts), server=label, datname=datname)

    def _tell(self, lasting: list[Backend], now: float) -> None:
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
            texts |= {int(pid or 0): text(query) for pid, query in session.query(query)}
        for it in lasting:
            self._context.event(
                "postgres.blocked",
                f"a session of {it.usename} on {it.datname} waits for a lock",
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
