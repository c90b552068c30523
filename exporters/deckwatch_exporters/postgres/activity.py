"""pg_stat_activity, read once per cycle: sessions by state, oldest transactions, waits, autovacuum workers.

https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-ACTIVITY-VIEW
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.exporter import Gauge, Histogram, LabelBudget, Malformed
from deckwatch_exporters.clients.libpq import APPLICATION_NAME, MARK, number, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from deckwatch.exporter import Sample
    from deckwatch_exporters.clients.libpq import Row

    from .server import Server

_LABELS = ("server", "datname", "state")
COUNT = Gauge("pg_stat_activity_count", "Number of sessions in this state.", _LABELS)
MAX_TRANSACTION = Gauge(
    "pg_stat_activity_max_tx_duration",
    "Longest time that a transaction in this state has been running, in seconds.",
    _LABELS,
)
OLDEST_TRANSACTION = Gauge(
    "pg_stat_activity_oldest_transaction_start_timestamp_seconds",
    "Start time of the oldest transaction of the sessions in this state, in Unix seconds.",
    _LABELS,
)
OLDEST_QUERY = Gauge(
    "pg_stat_activity_oldest_query_start_timestamp_seconds",
    "Start time of the oldest query of the active sessions, in Unix seconds.",
    ["server", "datname"],
)
WAITS = Gauge(
    "pg_stat_activity_wait_events",
    "Number of active sessions by the type of event they wait for (`none`: not waiting).",
    ["server", "datname", "wait_event_type"],
)  # fmt: skip
BACKENDS = Gauge("pg_stat_activity_backends", "Number of server processes of this type.", ["server", "backend_type"])
LONG_TRANSACTIONS = Gauge("pg_long_running_transactions", "Number of open transactions.", ["server"])
LONGEST_TRANSACTION = Gauge(
    "pg_long_running_transactions_oldest_timestamp_seconds",
    "Age of the oldest open transaction, in seconds (despite the name, not a timestamp).",
    ["server"],
)
IDLE = Histogram(
    "pg_process_idle_seconds", "Time that idle sessions have been idle, in seconds.",
    ["server", "state", "application_name"],
)  # fmt: skip
AUTOVACUUM = Gauge(
    "pg_stat_activity_autovacuum_timestamp_seconds",
    "Start time of the autovacuum worker on this table, in Unix seconds.",
    ["server", "relname"],
)
AUTOVACUUM_WORKERS = Gauge("pg_autovacuum_workers", "Number of running autovacuum workers.", ["server", "datname"])

#: postgres_exporter has a series for each of these states, also without a session.
STATES = (
    "active", "idle", "idle in transaction", "idle in transaction (aborted)", "fastpath function call", "disabled",
)  # fmt: skip
_IDLE_BOUNDS = (1.0, 2.0, 5.0, 15.0, 30.0, 60.0, 90.0, 120.0, 300.0)
#: Applications choose their names, some with a process id in them. The most frequent ones have their own series.
_MOST_APPLICATIONS = 50
_MOST_USERS = 50

_TIMES = ("backend_start", "xact_start", "query_start", "state_change")
_COLUMNS = ", ".join(f"extract(epoch FROM a.{column})" for column in _TIMES)
# Only the texts that are used: they may be long. As bytes, because the text of a database in another encoding may be
# invalid in this one's, and left() would fail for all sessions.
_QUERY = """SELECT {mark}
    extract(epoch FROM pg_catalog.clock_timestamp()), EXISTS (SELECT FROM pg_catalog.pg_stat_progress_vacuum), a.pid,
    a.datname, a.usename,
    a.application_name, a.client_addr, a.backend_type, a.state, a.wait_event_type, a.wait_event, {columns}, {query_id},
    CASE WHEN a.backend_type = 'autovacuum worker' OR a.wait_event_type = 'Lock'
           OR a.state = 'active' AND a.query_start < pg_catalog.clock_timestamp() - interval '{slow} s'
         THEN pg_catalog.encode(substring(pg_catalog.textsend(a.query) FROM 1 FOR {length}), 'hex') END
FROM pg_catalog.pg_stat_activity AS a
WHERE a.pid <> pg_catalog.pg_backend_pid() AND a.application_name <> '{own}'"""
_DATABASES_QUERY = f"SELECT {MARK} datname FROM pg_catalog.pg_database"


class Backend(NamedTuple):
    """A row of pg_stat_activity. Times are in Unix seconds of the server's clock; None is NULL."""

    pid: int
    datname: str
    usename: str
    application_name: str
    client_addr: str
    backend_type: str
    state: str
    wait_event_type: str
    wait_event: str
    backend_start: float | None
    xact_start: float | None
    query_start: float | None
    state_change: float | None
    query_id: str
    query: str


class Activity:
    """The sessions at the time `now` (Unix seconds of the server), without Deckwatch's own.

    `vacuums` is False if pg_stat_progress_vacuum has no rows. `malformed` are the rows that could not be parsed.
    """

    def __init__(self, server: Server, thresholds: Mapping[str, float], text_bytes: int = 4096) -> None:
        self._server = server
        self._thresholds = thresholds
        self._text_bytes = text_bytes
        self.now = 0.0
        self.backends: list[Backend] = []
        self.databases: list[str] = []
        self.malformed: list[Malformed] = []
        self.vacuums = True

    def forget(self) -> None:
        self.backends, self.malformed, self.vacuums = [], [], True

    def read_unless_newer(self, seen: float) -> None:
        """Read again if the last reading is the one at `seen`: the collector `stat_activity` failed or is disabled."""
        if self.now == seen:
            self.read()

    def read(self) -> None:
        server = self._server
        query = _QUERY.format(
            mark=MARK,
            columns=_COLUMNS,
            query_id="a.query_id" if server.version >= 140000 else "NULL",
            slow=f"{self._thresholds.get('slow_query', 1.0):.6f}",
            length=self._text_bytes,
            own=APPLICATION_NAME,
        )
        sessions = server.session.query(query)
        self.forget()
        self.databases = server.databases or [text(name) for (name,) in server.session.query(_DATABASES_QUERY)]
        self.now = _time(sessions.rows)
        self.vacuums = not sessions.rows or sessions.rows[0][1] == b"t"
        for row in sessions:
            try:
                self.backends.append(_backend(row))
            except ValueError:
                found = " ".join(text(value) for value in row[2:16])
                self.malformed.append(Malformed("pg_stat_activity", found[:200]))


def _time(rows: list[Row]) -> float:
    """The time of the reading, which is in each row; without a row there is no age to compute."""
    for row in rows:
        try:
            return _moment(row[0]) or 0.0
        except ValueError:
            continue
    return 0.0


def _moment(value: bytes | None) -> float | None:
    moment = number(value)
    if moment is not None and not math.isfinite(moment):
        raise ValueError(f"not a point in time: {moment}")
    return moment


def _backend(row: Row) -> Backend:
    (pid, datname, usename, application, address, kind, state, wait_type, wait) = row[2:11]
    times = [_moment(value) for value in row[11:15]]
    return Backend(
        int(pid or 0), text(datname), text(usename), text(application), text(address), text(kind), text(state),
        text(wait_type), text(wait), times[0], times[1], times[2], times[3], text(row[15]),
        text(bytes.fromhex(text(row[16]))),
    )  # fmt: skip


class ActivityCollector:
    """Reads the activity for itself and for the collectors that run after it. Requires pg_read_all_stats."""

    def __init__(self, server: Server, activity: Activity, exclude: frozenset[str] = frozenset()) -> None:
        self._server = server
        self._activity = activity
        self._exclude = exclude

    def collect(self) -> Iterator[Sample | Malformed]:
        self._activity.forget()
        self._server.needs_all_stats()
        self._activity.read()
        yield from self._activity.malformed
        label, now = self._server.label, self._activity.now
        backends = [it for it in self._activity.backends if it.datname not in self._exclude]
        databases = [name for name in self._activity.databases if name not in self._exclude]
        yield from self._by_state(label, now, backends, databases)
        yield from _long_transactions(label, now, backends)
        yield from _idle(label, now, backends)
        yield from _autovacuum(label, backends)
        for kind, count in Counter(it.backend_type for it in backends).items():
            yield BACKENDS(count, server=label, backend_type=kind or "unknown")

    def _by_state(self, label: str, now: float, backends: list[Backend], databases: list[str]) -> Iterable[Sample]:
        counts: Counter[tuple[str, str]] = Counter()
        waits: Counter[tuple[str, str]] = Counter()
        transactions: dict[tuple[str, str], float] = {}
        queries: dict[str, float] = {}
        for it in backends:
            if not it.datname or not it.state:
                continue  # background processes
            key = it.datname, it.state
            counts[key] += 1
            if it.xact_start is not None:
                transactions[key] = min(it.xact_start, transactions.get(key, it.xact_start))
            if it.state == "active":
                waits[it.datname, it.wait_event_type or "none"] += 1
                if it.query_start is not None:
                    queries[it.datname] = min(it.query_start, queries.get(it.datname, it.query_start))
        for datname in databases:
            for state in STATES:
                labels = {"server": label, "datname": datname, "state": state}
                oldest = transactions.get((datname, state))
                yield COUNT(counts.get((datname, state), 0), **labels)
                yield MAX_TRANSACTION(0.0 if oldest is None else max(0.0, now - oldest), **labels)
                if oldest is not None:
                    yield OLDEST_TRANSACTION(oldest, **labels)
        for (datname, kind), count in waits.items():
            yield WAITS(count, server=label, datname=datname, wait_event_type=kind)
        for datname, oldest in queries.items():
            yield OLDEST_QUERY(oldest, server=label, datname=datname)


class DetailedActivityCollector(ActivityCollector):
    """With the labels of postgres_exporter 0.17 and later: a series for each combination that occurs."""

    LABELS = (*_LABELS, "usename", "application_name", "backend_type", "wait_event_type", "wait_event")
    COUNT = Gauge(COUNT.name, COUNT.help, LABELS)
    MAX_TRANSACTION = Gauge(MAX_TRANSACTION.name, MAX_TRANSACTION.help, LABELS)

    def _by_state(self, label: str, now: float, backends: list[Backend], databases: list[str]) -> Iterable[Sample]:
        sessions = [it for it in backends if it.datname and it.state]
        users = LabelBudget.most_frequent((it.usename for it in sessions), _MOST_USERS, "other")
        names = (it.application_name for it in sessions)
        applications = LabelBudget.most_frequent(names, _MOST_APPLICATIONS, "other")
        counts: Counter[tuple[str, ...]] = Counter()
        oldest: dict[tuple[str, ...], float] = {}
        for it in sessions:
            session = it.datname, it.state, users.admit(it.usename), applications.admit(it.application_name)
            kind = (*session, it.backend_type, it.wait_event_type, it.wait_event)
            counts[kind] += 1
            oldest[kind] = min(oldest.get(kind, now), it.xact_start or now)
        present = {key[:2] for key in counts}
        for datname in databases:
            for state in STATES:
                if (datname, state) not in present:
                    counts[datname, state, "", "", "", "", ""] = 0
        for key, count in counts.items():
            labels = dict(zip(self.LABELS, (label, *key), strict=True))
            yield self.COUNT(count, **labels)
            yield self.MAX_TRANSACTION(max(0.0, now - oldest.get(key, now)), **labels)


def _long_transactions(label: str, now: float, backends: list[Backend]) -> Iterable[Sample]:
    starts = [
        it.xact_start
        for it in backends
        if it.xact_start is not None and it.state != "idle" and it.backend_type != "autovacuum worker"
    ]
    yield LONG_TRANSACTIONS(len(starts), server=label)
    yield LONGEST_TRANSACTION(max(0.0, now - min(starts)) if starts else 0.0, server=label)


def _idle(label: str, now: float, backends: list[Backend]) -> Iterable[Sample]:
    idle: dict[tuple[str, str], list[float]] = defaultdict(list)
    names = (it.application_name for it in backends if it.state.startswith("idle"))
    applications = LabelBudget.most_frequent(names, _MOST_APPLICATIONS, "other")
    for it in backends:
        if it.state.startswith("idle") and it.state_change is not None:
            idle[it.state, applications.admit(it.application_name)].append(max(0.0, now - it.state_change))
    for (state, application), ages in idle.items():
        counts = dict.fromkeys(_IDLE_BOUNDS, 0.0)
        for age in ages:
            bound = next((bound for bound in _IDLE_BOUNDS if age <= bound), float("inf"))
            counts[bound] = counts.get(bound, 0.0) + 1
        labels = {"server": label, "state": state, "application_name": application}
        yield from IDLE.counted(counts, float(sum(map(int, ages))), **labels)


def _autovacuum(label: str, backends: list[Backend]) -> Iterable[Sample]:
    started: dict[str, float] = {}
    workers: Counter[str] = Counter()
    for it in backends:
        if it.backend_type != "autovacuum worker":
            continue
        workers[it.datname] += 1
        # "autovacuum: VACUUM public.orders (to prevent wraparound)"
        relation = it.query.partition(".")[2]
        if it.xact_start is not None and relation:
            started[relation] = min(it.xact_start, started.get(relation, it.xact_start))
    for datname, count in workers.items():
        yield AUTOVACUUM_WORKERS(count, server=label, datname=datname)
    for relation, when in started.items():
        yield AUTOVACUUM(when, server=label, relname=relation)
