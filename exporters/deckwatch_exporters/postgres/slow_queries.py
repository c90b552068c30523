"""Queries slower than `thresholds.slow_query`: an event for each, a histogram and a counter.

pg_stat_activity shows them while they run. pg_stat_statements shows them when they have ended, including those that
started and ended between two runs. A query is reported when it is first seen running and again when it has ended.
The statements are read shortly after the sessions: the counters of a statement that was running at that time are held
until the next run, which shows whether that execution has ended.
"""

from __future__ import annotations

import collections
from collections import defaultdict
from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge, Histogram, LabelBudget

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
DURATION = Histogram("pg_slow_query_duration_seconds", "Duration of slow queries, in seconds.", _LABELS)
TOTAL = Counter("pg_slow_queries_total", "Number of queries that took longer than the threshold.", _LABELS)
RUNNING = Gauge(
    "pg_slow_queries_running", "Number of running queries that have taken longer than the threshold.", _LABELS[:2]
)
NOT_REPORTED = Counter(
    "pg_slow_query_events_dropped_total",
    "Number of slow queries that were counted but not logged as events.",
    ["server"],
)

_BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
_EVENTS_A_RUN = 100
_MOST_USERS = 200  # pairs of database and user with their own series
_TEXT_BYTES = 4096

#: Values of the event field `state`.
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
        self._seen = 0.0  # time of that reading, by the server's clock
        self._held: dict[StatementKey, Delta] = {}
        self._users: LabelBudget[tuple[str, str]] = LabelBudget(_MOST_USERS, ("other", "other"))
        self._durations: dict[tuple[str, str], dict[float, float]] = {}
        self._sums: dict[tuple[str, str], float] = {}
        self._not_reported = 0
        self._events_left = 0

    def collect(self) -> Iterator[Sample]:
        self._server.needs_all_stats()
        self._activity.read_unless_newer(self._seen)
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
        """Sessions have no queryid before PostgreSQL 14: compare the texts instead."""
        if it.query_id or self._statements is None:
            return StatementKey(it.usename, it.datname, it.query_id)
        shape = fingerprint(it.query)
        for key in known:
            if key[:2] == (it.usename, it.datname) and fingerprint(self._statements.text_of(key.queryid)) == shape:
                return key
        return StatementKey(it.usename, it.datname, "")

    def _follow(self, threshold: float) -> tuple[list[tuple[Backend, float]], dict[tuple[int, float], Backend]]:
        """The queries that have ended since the last run with their durations (seconds), and those that run now."""
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
            end = self._seen  # a lower bound
            if last is not None and last.query_start == start and last.state_change is not None:
                end = last.state_change
            ended.append((it, max(0.0, end - start)))
        return ended, running

    def _finished(self, it: Backend, duration: float, key: StatementKey, delta: Delta | None, together: int) -> float:
        """Report one of `together` queries of a statement that have ended. Returns its duration in seconds."""
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
            self._not_reported += 1
            return
        self._events_left -= 1
        plan = self._plans.of(datname, queryid) if self._plans is not None and queryid else None
        self._context.event(
            "postgres.slow_query",
            f"a query of {user} in database {datname}"
            f" {'has been running for' if state == _RUNNING else 'took'} {seconds:.3f} s",
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
        key = self._users.admit((datname, user))
        counts = self._durations.setdefault(key, dict.fromkeys((*_BOUNDS, float("inf")), 0.0))
        counts[next((bound for bound in _BOUNDS if seconds <= bound), float("inf"))] += times
        self._sums[key] = self._sums.get(key, 0.0) + seconds * times

    def _samples(self) -> Iterator[Sample]:
        label = self._server.label
        for (datname, user), counts in self._durations.items():
            labels = {"server": label, "datname": datname, "user": user}
            yield from DURATION.counted(counts, self._sums[datname, user], **labels)
            yield TOTAL(sum(counts.values()), **labels)
        running = collections.Counter(it.datname for it in self._running.values())
        for datname in self._activity.databases:
            yield RUNNING(running[datname], server=label, datname=datname)
        yield NOT_REPORTED(self._not_reported, server=label)


def _together(held: Delta | None, new: Delta | None) -> Delta | None:
    if held is None or new is None:
        return held or new
    longest = max(filter(None, (held.longest, new.longest)), default=None)
    return Delta(new.key, new.figures.plus(held.figures), longest)


def _without(delta: Delta, took: list[float]) -> Delta | None:
    """The counters of a statement without the executions of these durations (seconds)."""
    if not took:
        return delta
    figures = delta.figures._replace(
        calls=delta.figures.calls - len(took), seconds=max(0.0, delta.figures.seconds - sum(took))
    )
    # The longest execution was most likely one of them.
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
