"""The label values of Celery's events: a bounded number of each, of which unused ones make room for new ones."""

from __future__ import annotations

from collections import OrderedDict
from math import inf
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

K = TypeVar("K")

OTHER = "other"
_TASKS, _EXCEPTIONS, _HOSTS, _QUEUES = 200, 50, 100, 100
_SERIES = 300  # sets of labels; each has up to 41 series, which keeps them below the limit of the target
_FAILURES = 1000  # the same with an exception


class TaskLabels(NamedTuple):
    name: str
    hostname: str
    queue_name: str


class Failure(NamedTuple):
    task: TaskLabels
    exception: str


_OTHER_LABELS = TaskLabels(OTHER, OTHER, OTHER)


class ExpiringBudget(Generic[K]):
    """Admits `limit` values; all others share `other`. A value unused for `idle` seconds makes room for a new one.

    `forget` is called with each value that loses its place. `overflowed` counts how often `other` was returned.
    """

    def __init__(self, limit: int, other: K, idle: float, forget: Callable[[K], None]) -> None:
        self._limit = limit
        self._other = other
        self._idle = idle
        self._forget = forget
        self._used: OrderedDict[K, float] = OrderedDict()  # the moment of the last use, the oldest first
        self.overflowed = 0

    def admit(self, value: K, now: float) -> K:
        """The value itself while there is room for it, otherwise `other`."""
        used = self._used
        if value in used:
            used[value] = now
            used.move_to_end(value)
            return value
        if len(used) >= self._limit:
            oldest = next(iter(used))
            if now - used[oldest] < self._idle:
                self.overflowed += 1
                return self._other
            self.remove(oldest)
        used[value] = now
        return value

    def is_idle(self, value: K, now: float) -> bool:
        return now - self._used.get(value, -inf) >= self._idle

    def remove(self, value: K) -> None:
        if self._used.pop(value, None) is not None:
            self._forget(value)

    def discard(self, values: Iterable[K]) -> None:
        """Free the places of values that are forgotten already."""
        for value in values:
            self._used.pop(value, None)

    def renew(self, now: float) -> None:
        """Count the time without use from now on."""
        for value in self._used:
            self._used[value] = now


class EventLabels:
    """The labels of the series of one target. `forget` is called with all that lose their series.

    A value is forgotten if it was not used for `idle` seconds and its place is needed, a host also by `forget_host()`.
    """

    def __init__(self, idle: float, forget: Callable[[set[TaskLabels], set[Failure]], None]) -> None:
        self._forget = forget
        self._sets: ExpiringBudget[TaskLabels] = ExpiringBudget(
            _SERIES, _OTHER_LABELS, idle, lambda it: self._drop(lambda labels: labels == it)
        )
        self._failures: ExpiringBudget[Failure] = ExpiringBudget(
            _FAILURES, Failure(_OTHER_LABELS, OTHER), idle, lambda it: self._forget_all(set(), {it})
        )
        self._names = ExpiringBudget(_TASKS, OTHER, idle, lambda it: self._drop(lambda labels: labels.name == it))
        self._hosts = ExpiringBudget(_HOSTS, OTHER, idle, lambda it: self._drop(lambda labels: labels.hostname == it))
        self._queues = ExpiringBudget(
            _QUEUES, OTHER, idle, lambda it: self._drop(lambda labels: labels.queue_name == it)
        )
        self._exceptions = ExpiringBudget(_EXCEPTIONS, OTHER, idle, self._drop_exception)
        self._known: set[TaskLabels] = set()  # with the sets that share `other`, as are those below
        self._known_failures: set[Failure] = set()

    def task(self, name: str, hostname: str, queue: str, now: float) -> TaskLabels:
        labels = TaskLabels(
            self._names.admit(name, now), self._hosts.admit(hostname, now), self._queues.admit(queue, now)
        )
        admitted = self._sets.admit(labels, now)
        self._known.add(admitted)
        return admitted

    def failure(self, task: TaskLabels, exception: str, now: float) -> Failure:
        """Of an empty `exception`: the series that exists before the first failure."""
        shown = self._exceptions.admit(exception, now) if exception else ""
        admitted = self._failures.admit(Failure(task, shown), now)
        self._known_failures.add(admitted)
        return admitted

    def forget_host(self, hostname: str, now: float) -> bool:
        """Drop the series of a host without workers, unless it was used lately. Return whether it is gone."""
        if not self._hosts.is_idle(hostname, now):
            return False
        self._hosts.remove(hostname)
        return True

    def renew(self, now: float) -> None:
        for budget in (self._names, self._hosts, self._queues, self._exceptions):
            budget.renew(now)
        self._sets.renew(now)
        self._failures.renew(now)

    @property
    def overflowed(self) -> dict[str, int]:
        """How many events were counted as `other`, by the label."""
        return {
            "name": self._names.overflowed,
            "hostname": self._hosts.overflowed,
            "queue_name": self._queues.overflowed,
            "exception": self._exceptions.overflowed,
            "combination": self._sets.overflowed + self._failures.overflowed,
        }

    def _drop(self, matches: Callable[[TaskLabels], bool]) -> None:
        gone = {labels for labels in self._known if matches(labels)}
        self._forget_all(gone, {failure for failure in self._known_failures if failure.task in gone})

    def _drop_exception(self, exception: str) -> None:
        self._forget_all(set(), {failure for failure in self._known_failures if failure.exception == exception})

    def _forget_all(self, tasks: set[TaskLabels], failures: set[Failure]) -> None:
        self._sets.discard(tasks)
        self._failures.discard(failures)
        self._known -= tasks
        self._known_failures -= failures
        self._forget(tasks, failures)
