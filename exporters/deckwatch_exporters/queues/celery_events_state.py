"""What Celery's events say: counts by task, and the workers that send heartbeats."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Literal

from .ages import unix_seconds
from .celery_events_labels import OTHER, EventLabels
from .celery_events_losses import Losses
from .celery_events_tasks import MAX_TASKS, TaskTable
from .celery_events_workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable

    from .celery_events_labels import Failure, TaskLabels
    from .celery_events_source import Event
    from .celery_events_tasks import Task

HostnameLabel = Literal["worker", "host", "none"]

RUNTIME_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, float("inf"))
WAIT_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, float("inf"))

#: Types of events that are counted.
TASK_EVENTS = ("sent", "received", "started", "succeeded", "failed", "rejected", "revoked", "retried")

_LONGEST = 200  # characters of a label value


@dataclass
class Distribution:
    """Observations by bucket, and their sum in seconds."""

    counts: dict[float, float]
    total: float = 0.0

    @classmethod
    def of(cls, bounds: tuple[float, ...]) -> Distribution:
        return cls(dict.fromkeys(bounds, 0.0))

    def observe(self, seconds: float) -> None:
        bounds = tuple(self.counts)
        self.counts[bounds[bisect_left(bounds, seconds)]] += 1
        self.total += seconds


@dataclass
class EventState:
    """Counts of one target since Deckwatch started. Not safe for threads.

    `worker_timeout` and `purge_workers_after` are seconds without a heartbeat until a worker is down, and forgotten.
    """

    hostname_label: HostnameLabel
    worker_timeout: float
    purge_workers_after: float
    default_queue_name: str = "celery"
    stopwatch: Callable[[], float] = time.monotonic
    max_tasks: int = MAX_TASKS

    counts: dict[str, Counter[TaskLabels]] = field(default_factory=lambda: {it: Counter() for it in TASK_EVENTS})
    failures: Counter[Failure] = field(default_factory=Counter)
    runtimes: dict[TaskLabels, Distribution] = field(default_factory=dict)
    waits: dict[TaskLabels, Distribution] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._tasks = TaskTable(self.max_tasks)
        self._workers = Workers(self.worker_timeout, self.purge_workers_after)
        self._labels = EventLabels(self.purge_workers_after, self._forget)
        self._losses = Losses()
        self._lost_hosts: set[str] = set()  # hosts of forgotten workers
        self._only_queues: dict[str, str | None] = {}  # by task name; None if there are several

    @property
    def evicted(self) -> int:
        """Unfinished tasks that were dropped because of their number."""
        return self._tasks.evicted

    @property
    def lost(self) -> float:
        """Events `task-started` that workers sent and that did not arrive."""
        return self._losses.lost

    @property
    def limited(self) -> dict[str, int]:
        """Events beyond a limit, by the label that was replaced; those of workers are ignored."""
        return {**self._labels.overflowed, "worker": self._workers.ignored}

    def apply(self, event: Event) -> None:
        """Count one event. Events of other types and without an identity are ignored."""
        group, _, kind = event["type"].partition("-")
        if group == "task" and kind in self.counts:
            self._apply_task(kind, event)
        elif group == "worker" and kind in ("online", "heartbeat", "offline"):
            self._apply_worker(kind, event)

    def connected(self) -> None:
        """Nothing was heard before: give every worker and every label its time again."""
        now = self.stopwatch()
        self._workers.renew(now)
        self._labels.renew(now)

    def workers(self) -> dict[str, tuple[bool, float | None]]:
        """Whether a worker is up, and the tasks that it executes, by its label. Forgets workers and their counts."""
        now = self.stopwatch()
        self._workers.purge(now, self._lost_hosts.add)
        for host in list(self._lost_hosts):
            # A producer on the same host, or an event that was late, may still use the label.
            if self._workers.has(host) or self._labels.forget_host(host, now):
                self._lost_hosts.discard(host)
        return self._workers.by_label(now)

    def _apply_worker(self, kind: str, event: Event) -> None:
        if name := _text(event.get("hostname")):
            label = name if self.hostname_label == "worker" else _host_of(name)
            self._workers.heard(name, label, kind != "offline", _number(event.get("active")), self.stopwatch())
            if (processed := _number(event.get("processed"))) is not None:
                self._losses.heartbeat(name, _number(event.get("pid")), processed)

    def _apply_task(self, kind: str, event: Event) -> None:
        now = self.stopwatch()
        task = self._tasks.after(kind, _text(event.get("uuid")))
        task.name = _text(event.get("name")) or task.name
        moment = _number(event.get("timestamp"))
        if kind == "sent":
            task.queue = _text(event.get("queue")) or task.queue
            task.sent = moment
        if kind in ("sent", "received"):
            eta = event.get("eta")
            task.eta = unix_seconds(eta) if isinstance(eta, str) else None
        queue = task.queue or self._only_queues.get(task.name) or self.default_queue_name
        labels = self._labels.task(task.name, self._hostname(kind, event), queue, now)
        if kind != "sent":
            self._show(labels, now)
        self.counts[kind][labels] += 1
        if kind == "sent" and labels.name != OTHER:
            self._remember_queue(task)
        if kind == "failed":
            exception = exception_class(event.get("exception"))
            self.failures[self._labels.failure(labels, exception, now)] += 1
        if kind == "started" and (worker := _text(event.get("hostname"))):
            self._losses.started(worker)
        if kind == "started" and moment is not None and task.sent is not None:
            # The clocks of producer and worker may differ.
            waited = max(0.0, moment - max(task.sent, task.eta or 0.0))
            self.waits.setdefault(labels, Distribution.of(WAIT_BUCKETS)).observe(waited)
        if kind == "succeeded" and (runtime := _number(event.get("runtime"))) is not None:
            self.runtimes.setdefault(labels, Distribution.of(RUNTIME_BUCKETS)).observe(max(0.0, runtime))

    def _hostname(self, kind: str, event: Event) -> str:
        if self.hostname_label == "none":
            return ""
        hostname = _text(event.get("hostname"))
        # A producer's name contains the number of its process.
        return _host_of(hostname) if self.hostname_label == "host" or kind == "sent" else hostname

    def _remember_queue(self, task: Task) -> None:
        # A worker can start a task before the producer has sent the event that names the queue.
        if task.queue:
            known = self._only_queues.setdefault(task.name, task.queue)
            if known != task.queue:
                self._only_queues[task.name] = None

    def _show(self, labels: TaskLabels, now: float) -> None:
        """Make the counters of a task exist, so that their first increase is one."""
        if labels not in self.counts["received"]:
            for kind in TASK_EVENTS[1:]:
                self.counts[kind].setdefault(labels, 0)
            self.failures.setdefault(self._labels.failure(labels, "", now), 0)

    def _forget(self, tasks: set[TaskLabels], failures: set[Failure]) -> None:
        """Drop the counts of labels that lost their place."""
        for labels in tasks:
            for counts in self.counts.values():
                counts.pop(labels, None)
            self.runtimes.pop(labels, None)
            self.waits.pop(labels, None)
        for failure in failures:
            self.failures.pop(failure, None)
        names = {labels.name for labels in self.counts["sent"]}
        self._only_queues = {name: queue for name, queue in self._only_queues.items() if name in names}


def exception_class(text: object) -> str:
    """The class in the `repr` of an exception: `ValueError` of `ValueError('no')`; `UnknownException` without one."""
    name = text.partition("(")[0].strip() if isinstance(text, str) else ""
    return name[:_LONGEST] if name.replace(".", "_").isidentifier() else "UnknownException"


def _host_of(name: str) -> str:
    return name.partition("@")[2] or name


def _text(value: object) -> str:
    return value[:_LONGEST] if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if isfinite(value) else None
    except OverflowError:
        return None
