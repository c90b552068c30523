"""Runs the queries that are due, and serves the figures of all until they are too old."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from deckwatch.exporter import Counter, Gauge, Incomplete, Unreachable

from .rows import Figures, QueryFailed, declared, figures, row_limit
from .singleton import Singleton

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deckwatch.exporter import Context, Malformed, Metric, Results, Sample

    from .schedule import Schedule
    from .settings import BusinessSettings, QuerySettings
    from .sources import LockingSource, Source

UP = Gauge("deckwatch_business_up", "Whether the source of the figures can be read (1) or not (0).")
_QUERY = ["query"]
SUCCESS = Gauge("deckwatch_business_query_success", "Whether the query's last run succeeded (1) or failed (0).", _QUERY)
FAILURES = Counter("deckwatch_business_query_failures_total", "Number of runs of the query that failed.", _QUERY)
DURATION = Gauge("deckwatch_business_query_duration_seconds", "Duration of the query's last run, in seconds.", _QUERY)
SERIES = Gauge("deckwatch_business_query_series", "Number of series from the query's last successful run.", _QUERY)
LAST_SUCCESS = Gauge(
    "deckwatch_business_query_last_success_timestamp_seconds",
    "Time when the query's last successful run ended, in Unix seconds.",
    _QUERY,
)
STALE = Gauge(
    "deckwatch_business_query_stale",
    "Whether the query's figures were removed (1) because it failed three times in a row at its schedule.",
    _QUERY,
)
LIMITED = Gauge(
    "deckwatch_business_series_limited",
    "Whether the metric is not exposed (1) because it has more than max_series series.",
    ["metric"],
)
HOLDER = Gauge(
    "deckwatch_business_singleton_holder",
    "Whether this agent reads the figures (1) or another one does (0), with `singleton`.",
)
FAILING = Gauge("deckwatch_business_queries_failing", "Number of queries with a failed last run.")

#: Seconds that the queries of one run may take together. The others run in the next one.
_MAX_RUN = 4.0
_TRIES = 3  # times of its schedule after which the figures of a failing query are gone


@dataclass
class _Query:
    """A query and what is known of its runs. Times are Unix seconds."""

    settings: QuerySettings
    schedule: Schedule
    metrics: list[Metric]
    due: float = 0.0
    found: Figures = field(default_factory=Figures)
    expires: float = 0.0
    last_success: float | None = None
    duration: float | None = None
    failures: int = 0
    error: str = ""
    limited: frozenset[str] = frozenset()  # metrics over their limit
    totals: dict[str, float] = field(default_factory=dict)  # of its counters, by series

    @property
    def name(self) -> str:
        """The metrics that it is for: names of the config, and so bounded."""
        return ",".join(metric.name for metric in self.metrics)


class BusinessCollector:
    def __init__(
        self,
        settings: BusinessSettings,
        source: Source,
        context: Context,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._context = context
        self._clock = clock
        self._singleton: Singleton | None = None
        if settings.singleton:
            # The settings allow this only for sources with locks.
            self._singleton = Singleton(context.target, cast("LockingSource", source))
        self._timeout = settings.timeout
        self._queries = [
            _Query(query, settings.schedule_of(query), [declared(metric) for metric in query.metrics])
            for query in settings.all_queries
        ]

    def collect(self) -> Results:
        if self._singleton is not None:
            try:
                is_held = self._singleton.is_held()
            except QueryFailed as failure:
                self._forget()
                yield HOLDER(0)
                yield Incomplete(str(failure))
                return
            yield HOLDER(is_held)
            if not is_held:
                self._forget()
                return
        yield from self._figures()

    def _forget(self) -> None:
        """Another agent reports: what this one knows would be old when it is its turn."""
        for query in self._queries:
            query.found, query.due, query.totals = Figures(), 0.0, {}

    def _figures(self) -> Results:
        unreachable = self._run_due()
        now = self._clock()
        samples: list[Sample] = []
        malformed: list[Malformed] = []
        for query in self._queries:
            is_stale = query.last_success is not None and now > query.expires
            if not is_stale:
                samples += query.found.samples
                malformed += query.found.malformed
            samples += _about(query, is_stale)
        samples.append(FAILING(sum(bool(query.error) for query in self._queries)))
        if unreachable is not None:
            raise Unreachable(str(unreachable), samples)
        yield from samples
        yield from malformed
        for query in self._queries:
            if query.error:
                yield Incomplete(f"the query of {query.name} failed: {query.error}")
            for name, limit in query.found.limited.items():
                yield Incomplete(f"{name} has more than {limit} series. Group its rows, or increase max_series")

    def _run_due(self) -> Unreachable | None:
        """Run the queries that are due, the most overdue first. Returns why the source cannot be reached."""
        began = time.monotonic()
        for query in sorted(self._queries, key=lambda query: query.due):
            if query.due > self._clock() or time.monotonic() - began > _MAX_RUN:
                break
            try:
                self._run(query)
            except Unreachable as failure:
                query.failures += 1
                query.error = query.error or "the source is unreachable"
                query.due = 0.0  # again in the next run: the source may be back
                return failure
        return None

    def _run(self, query: _Query) -> None:
        started, began = self._clock(), time.monotonic()
        try:
            table = self._source.run(query.settings.query, row_limit(query.settings))
            found = figures(query.settings, query.metrics, table)
        except QueryFailed as failure:
            query.duration = time.monotonic() - began
            self._failed(query, str(failure))
            query.due = query.schedule.following(started)
            return
        query.duration = time.monotonic() - began
        if query.error:
            self._context.logger.info("the query of %s works again", query.name, extra={"event": "business.recovered"})
        query.found, query.error = found, ""
        self._warn_of_limits(query)
        query.last_success = self._clock()
        query.due = query.schedule.following(started)
        query.expires = query.schedule.following(started, _TRIES) + self._timeout
        self._look_for_resets(query)

    def _failed(self, query: _Query, why: str) -> None:
        query.failures += 1
        if why != query.error:
            event = {"event": "business.query_failing", "target": self._context.target, "query": query.name}
            self._context.logger.warning("the query of %s failed: %s", query.name, why, extra=event)
        query.error = why

    def _warn_of_limits(self, query: _Query) -> None:
        for name, limit in query.found.limited.items():
            if name not in query.limited:
                self._context.logger.warning(
                    "%s is not exposed: it has more than %d series. Group its rows, or raise max_series.",
                    name,
                    limit,
                    extra={"event": "business.series_limited", "target": self._context.target, "metric": name},
                )
        query.limited = frozenset(query.found.limited)

    def _look_for_resets(self, query: _Query) -> None:
        totals = {
            sample.series.text: float(sample.value)
            for sample in query.found.samples
            if sample.series.metric.type == "counter"
        }
        for series, value in totals.items():
            before = query.totals.get(series)
            if before is not None and value < before:
                self._context.event(
                    "business.counter_reset",
                    f"{series.rstrip()} fell from {before:g} to {value:g}: Prometheus counts this as a reset. "
                    "If rows are deleted or change their labels, make it a gauge.",
                    metric=series.rstrip(),
                )
        query.totals = totals


def _about(query: _Query, is_stale: bool) -> Iterator[Sample]:
    name = query.name
    yield FAILURES(query.failures, query=name)
    if query.duration is None and not query.error:
        return  # it has not run yet
    yield SUCCESS(not query.error, query=name)
    yield STALE(is_stale, query=name)
    if query.duration is not None:
        yield DURATION(query.duration, query=name)
    if query.last_success is not None:
        yield LAST_SUCCESS(query.last_success, query=name)
        yield SERIES(len({sample.series for sample in query.found.samples}), query=name)
        for metric in query.settings.metrics:
            yield LIMITED(metric.name in query.found.limited, metric=metric.name)
