"""Queries that took longer than `thresholds.slow_query`: an event each, a histogram and a counter.

Two views see them: pg_stat_activity while they run, pg_stat_statements when they have ended, also those that began and
ended between two runs. A query that both have seen is told of when it is found running, and again when it has ended.
The statements are read a moment after the sessions: what they have of a statement that was still running then is held
until the next run, which knows whether that was it.
"""

from __future__ import annotations

import collections
from collections import defaultdict
from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge, Histogram
from deckwatch_exporters.clients.libpq import NotConnected

from .sql_text import cut, fingerprint, one_line, redacted
from .statement_counts import Delta, StatementKey

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from deckwatch.exporter import Context, Sample

    from .activity import Activity, Backend
    from .plans import Plans
    from .server import Server
    from .settings import SlowQueriesSettings
    from .statements import StatementsCollector

_LABELS = ("server", "datname", "user")
DURATION = Histogram("pg_slow_query_duration_seconds", "How long slow queries took, in seconds.", _LABELS)
TOTAL = Counter("pg_slow_queries_total", "Queries that took longer than the threshold.", _LABELS)
RUNNING = Gauge("pg_slow_queries_running", "Queries that run for longer than the threshold.", _LABELS[:2])
UNTOLD = Counter(
    "pg_slow_query_events_dropped_total", "Slow queries that were counted without an event of their own.", ["server"]
)

_BOUNDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_EVENTS_A_RUN = 100
_MOST_USERS = 200  # pairs of database and user; beyond, they are `other`
_TEXT_BYTES = 4096

#: The events' text says this much, the fields the rest.
_RUNNING, _FINISHED = "running", "finished"


class SlowQueriesCollector:
    def __init__(
        self,
        server: Server,
        activity: Activity,
        statements: StatementsCollector | None,
        context: Context,
        settings: SlowQueriesSettings,
        plans: Plans | None = None,
    ) -> None:
        self._server = server
        self._activity = activity
        self._statements = statements
        self._context = context
        self._settings = settings
        self._plans = plans
        self._running: dict[tuple[int, float], Backend] = {}  # by process and start of the query
        self._seen = 0.0  # when those were seen, by the server's clock
        self._held: dict[StatementKey, Delta] = {}
        self._durations: dict[tuple[str, str], collections.Counter[float]] = {}
        self._sums: collections.Counter[tuple[str, str]] = collections.Counter()
        self._untold = 0
        self._events_left = 0

    def collect(self) -> Iterator[Sample]:
        self._server.needs_all_stats()
        if self._activity.now == self._seen:
            raise NotConnected("the sessions could not be read")  # or all that run would seem to have ended
        self._events_left = _EVENTS_A_RUN
        threshold = self._context.thresholds.get("slow_query", 1.0)
        ended, running = self._follow(threshold)
        new = {delta.key: delta for delta in self._deltas()}
        held, self._held = self._held, {}
        done = defaultdict(list)
        for it, duration in ended:
            done[self._key_of(it, held.keys() | new.keys())].append((it, duration))
        still_running = {self._key_of(it, new.keys()) for it in running.values()}
        for key in dict.fromkeys((*done, *held, *new)):
            delta = _together(held.get(key), new.get(key))
            took = [self._finished(it, duration, key, delta, len(done[key])) for it, duration in done[key]]
            if delta is not None and (rest := _without(delta, took)) and _longest(rest) >= threshold:
                if key in still_running and key not in held:
                    self._held[key] = rest
                else:
                    self._from_statements(rest, threshold)
        self._running = running
        self._seen = self._activity.now
        yield from self._samples()

    def _deltas(self) -> list[Delta]:
        return self._statements.deltas if self._statements is not None else []

    def _key_of(self, it: Backend, known: Collection[StatementKey]) -> StatementKey:
        """Before PostgreSQL 14 sessions have no queryid: there it is the statement with the same text."""
        if it.query_id or self._statements is None:
            return StatementKey(it.usename, it.datname, it.query_id)
        shape = fingerprint(it.query)
        for key in known:
            if key[:2] == (it.usename, it.datname) and fingerprint(self._statements.text_of(key.queryid)) == shape:
                return key
        return StatementKey(it.usename, it.datname, "")

    def _follow(self, threshold: float) -> tuple[list[tuple[Backend, float]], dict[tuple[int, float], Backend]]:
        """Which of the queries that were running have ended, and after how long; and which run now."""
        now = self._activity.now
        present = {it.pid: it for it in self._activity.backends}
        running: dict[tuple[int, float], Backend] = {}
        ended: list[tuple[Backend, float]] = []
        for it in present.values():
            if it.state != "active" or it.query_start is None or it.backend_type != "client backend":
                continue
            if now - it.query_start < threshold:
                continue
            key = it.pid, it.query_start
            running[key] = it
            if key not in self._running:
                self._event(
                    _RUNNING,
                    it.usename,
                    it.datname,
                    now - it.query_start,
                    it.query_id,
                    self._query_of(it),
                    **_of_session(it),
                )
        for (pid, start), it in self._running.items():
            if (pid, start) in running:
                continue
            last = present.get(pid)
            end = self._seen  # at least
            if last is not None and last.query_start == start and last.state_change is not None:
                end = last.state_change
            ended.append((it, max(0.0, end - start)))
        return ended, running

    def _finished(self, it: Backend, duration: float, key: StatementKey, delta: Delta | None, together: int) -> float:
        """Tell of a query that was running, one of so many of its statement. Returns its duration in seconds."""
        if delta is not None and delta.figures.calls == together == 1:
            duration = max(duration, delta.figures.seconds)
        fields = _of_session(it) | (_of_statement(delta) if delta is not None else {})
        self._event(_FINISHED, it.usename, it.datname, duration, key.queryid, self._query_of(it), **fields)
        self._observe(it.datname, it.usename, duration, 1)
        return duration

    def _from_statements(self, delta: Delta, threshold: float) -> None:
        user, datname, queryid = delta.key
        mean = delta.figures.seconds / max(1.0, delta.figures.calls)
        longest = _longest(delta)
        text = self._statements.text_of(queryid) if self._statements is not None else ""
        self._event(
            _FINISHED, user, datname, longest, queryid, text, mean_seconds=round(mean, 6), **_of_statement(delta)
        )
        if mean >= threshold:
            self._observe(datname, user, mean, int(delta.figures.calls))
        else:
            self._observe(datname, user, longest, 1)

    def _query_of(self, it: Backend) -> str:
        return cut(redacted(it.query) if self._settings.redact else one_line(it.query), _TEXT_BYTES)

    def _event(
        self, state: str, user: str, datname: str, seconds: float, queryid: str, query: str, **fields: object
    ) -> None:
        if not self._events_left:
            self._untold += 1
            return
        self._events_left -= 1
        plan = self._plans.of(datname, queryid) if self._plans is not None and queryid else None
        self._context.event(
            "postgres.slow_query",
            f"a query of {user} on {datname} {'runs' if state == _RUNNING else 'took'} {seconds:.3f} s",
            state=state,
            user=user,
            database=datname,
            duration_seconds=round(seconds, 6),
            queryid=queryid or None,
            fingerprint=fingerprint(query) if query else None,
            query=query or None,
            **({"plan": plan} if plan is not None else {}),
            **fields,
        )

    def _observe(self, datname: str, user: str, seconds: float, times: int) -> None:
        key = datname, user
        if key not in self._durations and len(self._durations) >= _MOST_USERS:
            key = "other", "other"
        buckets = self._durations.setdefault(key, collections.Counter())
        buckets[next((bound for bound in _BOUNDS if seconds <= bound), float("inf"))] += times
        self._sums[key] += seconds * times  # type: ignore[assignment]  # Counter is declared over int alone

    def _samples(self) -> Iterator[Sample]:
        label = self._server.label
        for (datname, user), counts in self._durations.items():
            cumulative, total = {}, 0
            for bound in (*_BOUNDS, float("inf")):
                total += counts[bound]
                cumulative[bound] = float(total)
            labels = {"server": label, "datname": datname, "user": user}
            yield from DURATION.cumulative(cumulative, float(self._sums[datname, user]), **labels)
            yield TOTAL(total, **labels)
        running = collections.Counter(it.datname for it in self._running.values())
        for datname in self._activity.databases:
            yield RUNNING(running[datname], server=label, datname=datname)
        yield UNTOLD(self._untold, server=label)


def _together(held: Delta | None, new: Delta | None) -> Delta | None:
    if held is None or new is None:
        return held or new
    longest = max(filter(None, (held.longest, new.longest)), default=None)
    return Delta(new.key, new.figures.plus(held.figures), longest)


def _without(delta: Delta, took: list[float]) -> Delta | None:
    """What is left of a statement's executions without those that took so long (seconds)."""
    if not took:
        return delta
    figures = delta.figures._replace(
        calls=delta.figures.calls - len(took), seconds=max(0.0, delta.figures.seconds - sum(took))
    )
    # The longest was most likely one of them.
    return Delta(delta.key, figures, None) if figures.calls > 0 else None


def _longest(delta: Delta) -> float:
    return max(delta.longest or 0.0, delta.figures.seconds / max(1.0, delta.figures.calls))


def _of_session(it: Backend) -> dict[str, object]:
    return {
        "pid": it.pid,
        "application": it.application_name or None,
        "client": it.client_addr or None,
        "wait_event": f"{it.wait_event_type}:{it.wait_event}" if it.wait_event_type else None,
    }


def _of_statement(delta: Delta) -> dict[str, object]:
    figures = delta.figures
    return {
        "calls": int(figures.calls),
        "rows": int(figures.rows),
        "blocks_hit": int(figures.blocks_hit),
        "blocks_read": int(figures.blocks_read),
        "temp_blocks_written": int(figures.temp_blocks_written),
    }
