"""What Celery's events say: counts by task, and the workers that send heartbeats."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Literal, NamedTuple

from deckwatch.exporter import LabelBudget

from .ages import unix_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from .celery_events_source import Event

HostnameLabel = Literal["worker", "host", "none"]

RUNTIME_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, float("inf"))
WAIT_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, float("inf"))

#: Types of events that are counted.
TASK_EVENTS = ("sent", "received", "started", "succeeded", "failed", "rejected", "revoked", "retried")

OTHER = "other"
_LONGEST = 200  # characters of a label value
_TASKS, _EXCEPTIONS, _HOSTS, _QUEUES, _WORKERS = 200, 50, 100, 100, 1000
_SERIES = 300  # sets of labels; each has up to 41 series, which keeps them below the limit of the target
_FAILURES = 1000  # the same with an exception
_UUIDS = 20_000


class TaskLabels(NamedTuple):
    name: str
    hostname: str
    queue_name: str


class Failure(NamedTuple):
    task: TaskLabels
    exception: str


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
class _Task:
    name: str = ""
    queue: str = ""
    sent: float | None = None  # Unix seconds, as are those below
    eta: float | None = None
    is_finished: bool = False


@dataclass
class _Worker:
    heard: float  # on the stopwatch
    is_online: bool
    active: float | None


@dataclass
class EventState:
    """Counts of one target since Deckwatch started. Not safe for threads.

    `worker_timeout` and `purge_workers_after` are seconds without a heartbeat until a worker is down, and forgotten.
    """

    hostname_label: HostnameLabel
    worker_timeout: float
    purge_workers_after: float
    stopwatch: Callable[[], float] = time.monotonic
    max_uuids: int = _UUIDS

    counts: dict[str, Counter[TaskLabels]] = field(default_factory=lambda: {it: Counter() for it in TASK_EVENTS})
    failures: Counter[Failure] = field(default_factory=Counter)
    runtimes: dict[TaskLabels, Distribution] = field(default_factory=dict)
    waits: dict[TaskLabels, Distribution] = field(default_factory=dict)
    evicted: int = 0  # unfinished tasks that were dropped from the table

    def __post_init__(self) -> None:
        self._tasks: OrderedDict[str, _Task] = OrderedDict()
        self._workers: dict[str, _Worker] = {}
        self._names = LabelBudget(_TASKS, OTHER)
        self._exceptions = LabelBudget(_EXCEPTIONS, OTHER)
        self._hosts = LabelBudget(_HOSTS, OTHER)
        self._queues = LabelBudget(_QUEUES, OTHER)
        self._only_queues: dict[str, str | None] = {}  # by task name; None if there are several
        self._label_sets = LabelBudget(_SERIES, TaskLabels(OTHER, OTHER, OTHER))
        self._failure_sets = LabelBudget(_FAILURES, Failure(TaskLabels(OTHER, OTHER, OTHER), OTHER))

    def apply(self, event: Event) -> None:
        """Count one event. Events of other types and without an identity are ignored."""
        group, _, kind = event["type"].partition("-")
        if group == "task" and kind in self.counts:
            self._apply_task(kind, event)
        elif group == "worker" and kind in ("online", "heartbeat", "offline"):
            self._apply_worker(kind, event)

    def connected(self) -> None:
        """Heartbeats were not heard before: give every worker its time again."""
        now = self.stopwatch()
        for worker in self._workers.values():
            worker.heard = now

    def workers(self) -> dict[str, tuple[bool, float | None]]:
        """Whether a worker is up, and the tasks that it executes, by its label. Workers of one label are added up."""
        now = self.stopwatch()
        self._workers = {
            name: worker for name, worker in self._workers.items() if now - worker.heard < self.purge_workers_after
        }
        found: dict[str, tuple[bool, float | None]] = {}
        for name, worker in self._workers.items():
            is_up = worker.is_online and now - worker.heard < self.worker_timeout
            active = worker.active if is_up else 0.0
            label = name if self.hostname_label == "worker" else _host_of(name)
            was_up, other = found.get(label, (False, None))
            total = other if active is None else active + (other or 0.0)
            found[label] = (was_up or is_up, total)
        return found

    def _apply_worker(self, kind: str, event: Event) -> None:
        name = _text(event.get("hostname"))
        if name and (name in self._workers or len(self._workers) < _WORKERS):
            self._workers[name] = _Worker(self.stopwatch(), kind != "offline", _number(event.get("active")))

    def _apply_task(self, kind: str, event: Event) -> None:
        task = self._task_of(event)
        task.name = _text(event.get("name")) or task.name
        moment = _number(event.get("timestamp"))
        if kind == "sent":
            task.queue = _text(event.get("queue")) or task.queue
            task.sent = moment
            self._remember_queue(task)
        if kind in ("sent", "received"):
            eta = event.get("eta")
            task.eta = unix_seconds(eta) if isinstance(eta, str) else None
        labels = self._labels(kind, task, event)
        if kind != "sent":
            self._show(labels)
        self.counts[kind][labels] += 1
        if kind == "failed":
            exception = self._exceptions.admit(exception_class(event.get("exception")))
            self.failures[self._failure_sets.admit(Failure(labels, exception))] += 1
        if kind == "started" and moment is not None and task.sent is not None:
            # The clocks of producer and worker may differ.
            waited = max(0.0, moment - max(task.sent, task.eta or 0.0))
            self.waits.setdefault(labels, Distribution.of(WAIT_BUCKETS)).observe(waited)
        if kind == "succeeded" and (runtime := _number(event.get("runtime"))) is not None:
            self.runtimes.setdefault(labels, Distribution.of(RUNTIME_BUCKETS)).observe(max(0.0, runtime))
        task.is_finished = task.is_finished or kind in ("succeeded", "failed", "revoked")

    def _task_of(self, event: Event) -> _Task:
        uuid = _text(event.get("uuid"))
        if not uuid:
            return _Task()
        known = self._tasks.get(uuid)
        if known is None:
            # Finished tasks stay: the producer's `task-sent` can arrive after the worker's events.
            known = self._tasks[uuid] = _Task()
            if len(self._tasks) > self.max_uuids:
                _, oldest = self._tasks.popitem(last=False)
                self.evicted += not oldest.is_finished
        return known

    def _labels(self, kind: str, task: _Task, event: Event) -> TaskLabels:
        hostname = _text(event.get("hostname"))
        if self.hostname_label == "none":
            hostname = ""
        elif self.hostname_label == "host" or kind == "sent":
            hostname = _host_of(hostname)  # a producer's name contains the number of its process
        labels = TaskLabels(
            self._names.admit(task.name),
            self._hosts.admit(hostname),
            self._queues.admit(task.queue or self._only_queues.get(task.name) or ""),
        )
        return self._label_sets.admit(labels)

    def _remember_queue(self, task: _Task) -> None:
        # A worker can start a task before the producer has sent the event that names the queue.
        if task.queue and self._names.admit(task.name) != OTHER:
            known = self._only_queues.setdefault(task.name, task.queue)
            if known != task.queue:
                self._only_queues[task.name] = None

    def _show(self, labels: TaskLabels) -> None:
        """Make the counters of a task exist, so that their first increase is one."""
        if labels not in self.counts["received"]:
            for kind in TASK_EVENTS[1:]:
                self.counts[kind].setdefault(labels, 0)
            self.failures.setdefault(self._failure_sets.admit(Failure(labels, "")), 0)


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
