"""Metrics of Celery's events, under celery-exporter's names. Workers send events with `-E`, or `task_events` set.

A thread receives the events, and counts them. Collection reads the counts and does not wait for the broker.
https://github.com/danihodovic/celery-exporter, https://docs.celeryq.dev/en/stable/userguide/monitoring.html#events
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge, Histogram, Malformed, Missing, Unreachable, describe

from .celery_events_source import NotEvents
from .celery_events_state import EventState
from .celery_events_workers import MAX_WORKERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Context, Sample

    from .celery_events_settings import CeleryEventsSettings
    from .celery_events_source import EventSource

_LABELS = ("name", "hostname", "queue_name")

#: By the type of the event.
TASKS = {
    "sent": Counter("celery_task_sent_total", "Tasks published.", _LABELS),
    "received": Counter("celery_task_received_total", "Tasks received by a worker.", _LABELS),
    "started": Counter("celery_task_started_total", "Tasks started by a worker.", _LABELS),
    "succeeded": Counter("celery_task_succeeded_total", "Tasks executed successfully.", _LABELS),
    "rejected": Counter("celery_task_rejected_total", "Tasks rejected by a worker.", _LABELS),
    "revoked": Counter("celery_task_revoked_total", "Tasks revoked.", _LABELS),
    "retried": Counter("celery_task_retried_total", "Failed executions that are retried.", _LABELS),
}
FAILED = Counter(
    "celery_task_failed_total", "Tasks that failed, by the class of the exception.", (*_LABELS, "exception")
)
RUNTIME = Histogram("celery_task_runtime", "Time that successful tasks ran, in seconds.", _LABELS)
QUEUE_WAIT = Histogram(
    "celery_task_queue_wait_time",
    "Time from publication, or from the ETA if there is one, to the start of a task, in seconds.",
    _LABELS,
)
WORKER_UP = Gauge("celery_worker_up", "Whether the worker sends heartbeats (1) or not (0).", ["hostname"])
ACTIVE = Gauge("celery_worker_tasks_active", "Tasks that the worker executes.", ["hostname"])
CONNECTED = Gauge("celery_events_connected", "Whether Deckwatch receives events (1) or not (0).")
RECEIVED = Counter("celery_events_received_total", "Events received from Celery.")
MALFORMED = Counter("celery_events_malformed_total", "Messages without readable events.")
DISCONNECTS = Counter(
    "celery_events_disconnects_total", "Connections for events that broke. Events are missed until the next one."
)
LOST = Counter(
    "celery_events_lost_total",
    "Starts of tasks that workers count in their heartbeats and for which no event arrived.",
)
EVICTED = Counter(
    "celery_events_tasks_evicted_total",
    "Unfinished tasks that were forgotten because of their number. Later events of them may lack name and queue.",
)
LIMITED = Counter(
    "celery_events_limited_total",
    "Events beyond a limit: their label is other, or, for workers, they are ignored.",
    ["limit"],
)

_POLL = 0.5  # seconds; the thread ends within them
_LONGEST_BACKOFF = 15.0


class CeleryEvents:
    """The collector of the events of one target. The first run starts its thread."""

    def __init__(self, source: EventSource, state: EventState, context: Context) -> None:
        self._context = context
        self._source = source
        self._state = state
        self._lock = threading.Lock()  # never held while the thread waits
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="celery-events", daemon=True)
        self._is_connected = False
        self._failure = ""
        self._problem = ""
        self._received = self._malformed = self._disconnects = 0
        self._ignored = 0  # events of workers, at the last run

    def collect(self) -> Iterator[Sample | Malformed]:
        with self._lock:
            if self._thread.ident is None and not self._closing.is_set():
                self._thread.start()
            found = list(self._samples())
        yield from found

    def close(self) -> None:
        """End the thread, without waiting for it."""
        self._closing.set()

    def _run(self) -> None:
        backoff = 1.0
        while not self._closing.is_set():
            try:
                self._follow()
            except (Unreachable, Missing) as failure:
                was_connected = self._disconnected(str(failure))
            except Exception as failure:
                self._context.logger.exception(
                    "%s: receiving the events of Celery failed unexpectedly; connecting again", self._context.target
                )
                was_connected = self._disconnected(f"unexpected error: {describe(failure)}")
            else:
                was_connected = self._disconnected("")
            backoff = 1.0 if was_connected else min(2 * backoff, _LONGEST_BACKOFF)
            self._closing.wait(backoff)

    def _disconnected(self, failure: str) -> bool:
        """Record the end of the connection and its reason. Return whether there was one."""
        with self._lock:
            was_connected, self._is_connected = self._is_connected, False
            self._disconnects += was_connected
            self._failure = failure
        return was_connected

    def _follow(self) -> None:
        """Count events until the connection breaks, or the collector is closed."""
        stream = self._source.connect()
        try:
            with self._lock:
                self._state.connected()
                self._is_connected, self._failure = True, ""
            while not self._closing.is_set():
                for message in stream.receive(_POLL):
                    self._count(message)
        finally:
            stream.close()

    def _count(self, message: bytes) -> None:
        try:
            events = self._source.events_of(message)
        except NotEvents as wrong:
            with self._lock:
                self._malformed += 1
                self._problem = str(wrong)
            return
        for event in events:
            with self._lock:
                self._received += 1
                self._state.apply(event)

    def _samples(self) -> Iterator[Sample | Malformed]:
        state = self._state
        yield CONNECTED(float(self._is_connected))
        yield RECEIVED(self._received)
        yield MALFORMED(self._malformed)
        yield DISCONNECTS(self._disconnects)
        yield LOST(state.lost)
        yield EVICTED(state.evicted)
        for limit, events in state.limited.items():
            yield LIMITED(events, limit=limit)
        for kind, metric in TASKS.items():
            for labels, count in state.counts[kind].items():
                yield metric(count, **labels._asdict())
        for (labels, exception), count in state.failures.items():
            yield FAILED(count, **labels._asdict(), exception=exception)
        for histogram, distributions in ((RUNTIME, state.runtimes), (QUEUE_WAIT, state.waits)):
            for labels, distribution in distributions.items():
                yield from histogram.counted(distribution.counts, distribution.total, **labels._asdict())
        if self._is_connected:
            for hostname, (is_up, active) in state.workers().items():
                yield WORKER_UP(float(is_up), hostname=hostname)
                if active is not None:
                    yield ACTIVE(active, hostname=hostname)
        if self._failure:
            yield Malformed("events of Celery", self._failure)
        if self._problem:
            yield Malformed("an event of Celery", self._problem)
            self._problem = ""
        if (ignored := state.limited["worker"]) > self._ignored:
            self._ignored = ignored
            yield Malformed("workers of Celery", f"more than {MAX_WORKERS}: further workers are ignored")


def celery_events(source: EventSource, settings: CeleryEventsSettings, context: Context) -> CeleryEvents:
    state = EventState(
        settings.hostname_label, settings.worker_timeout, settings.purge_workers_after, settings.default_queue_name
    )
    return CeleryEvents(source, state, context)
