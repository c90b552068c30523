"""Figures of watched objects that change without a call to this library, read every few seconds by a thread."""

import atexit
import contextlib
import functools
import math
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from prometheus_client import values

from deckwatch.sdk.declared import Declared
from deckwatch.sdk.dependencies.failures import Guard
from deckwatch.sdk.library_metrics import counter_of, gauge_of

INTERVAL = 5.0  # seconds; shorter than the shortest usual scrape interval


class Reading(NamedTuple):
    """One figure. Of a counter, `value` is the total since the object exists.

    A gauge that is set elsewhere has None. It disappears with the object, too.
    """

    metric: Declared
    labels: tuple[str, ...]
    value: float | None


Read = Callable[[Any], Iterable[Reading]]
_Key = tuple[Declared, tuple[str, ...]]


class _Watched:
    """An object, and the totals of its counters at the last reading."""

    def __init__(self, reference: "weakref.ref[Any]", read: Read, subject: str) -> None:
        self.reference = reference
        self._read = read
        self._subject = subject
        self._totals: dict[_Key, float] = {}

    def gauges(self) -> list[Reading]:
        """Read the object: count what its counters have grown, and return its gauges."""
        watched = self.reference()
        if watched is None:
            return []
        gauges = []
        with Guard(self._subject):
            for reading in self._read(watched):
                if reading.metric.kind == "counter" and reading.value is not None:
                    self._count(reading.metric, reading.labels, reading.value)
                else:
                    gauges.append(reading)
            return gauges
        return []

    def skip(self) -> None:
        """Read the object without counting: its totals at a fork are those of the parent."""
        watched = self.reference()
        if watched is None:
            return
        with Guard(self._subject):
            for reading in self._read(watched):
                if reading.metric.kind == "counter" and reading.value is not None:
                    self._totals[reading.metric, reading.labels] = reading.value

    def _count(self, metric: Declared, labels: tuple[str, ...], total: float) -> None:
        before = self._totals.get((metric, labels), 0.0)
        self._totals[metric, labels] = total
        # A lower total has been reset, such as by cache_clear().
        counter_of(metric).labels(*labels).inc(total - before if total >= before else total)


class Sampler:
    """Read watched objects until they are collected. Gauges of objects with the same labels are added up."""

    def __init__(self) -> None:
        self._watched: dict[int, _Watched] = {}
        self._shown: set[_Key] = set()
        self._sampling = threading.Lock()
        self._thread: threading.Thread | None = None
        os.register_at_fork(after_in_child=self._after_fork)
        atexit.register(self.sample)

    def add(self, watched: object, read: Read, subject: str) -> bool:
        """Read an object regularly, which needs weak references. False if it is watched already."""
        number = id(watched)
        known = self._watched.get(number)
        if known is not None and known.reference() is watched:
            return False

        def gone(reference: "weakref.ref[Any]") -> None:
            entry = self._watched.get(number)
            if entry is not None and entry.reference is reference:
                self._watched.pop(number, None)

        self._watched[number] = _Watched(weakref.ref(watched, gone), read, subject)
        self._start()
        self.sample()
        return True

    def sample(self) -> None:
        """Read all objects now, unless another thread does."""
        if not self._sampling.acquire(blocking=False):
            return
        try:
            sums: dict[_Key, float | None] = {}
            for watched in list(self._watched.values()):
                for metric, labels, value in watched.gauges():
                    key = metric, labels
                    sums[key] = None if value is None else (sums.get(key) or 0.0) + value
            for metric, labels in self._shown - sums.keys():
                _remove(metric, labels)
            for (metric, labels), total in sums.items():
                if total is not None:
                    _set(metric, labels, total)
            self._shown = set(sums)
        finally:
            self._sampling.release()

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="deckwatch-sampler", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        pause = threading.Event()
        while not pause.wait(INTERVAL):
            self.sample()

    def _after_fork(self) -> None:
        self._sampling = threading.Lock()
        self._thread = None
        for watched in list(self._watched.values()):
            watched.skip()
        if self._watched:
            self._start()


def _set(metric: Declared, labels: tuple[str, ...], value: float) -> None:
    with Guard(metric.name):
        gauge_of(metric).labels(*labels).set(value)


def _remove(metric: Declared, labels: tuple[str, ...]) -> None:
    """Let a series disappear."""
    if values.ValueClass._multiprocess:
        _set(metric, labels, math.nan)  # prometheus_client cannot remove it; NaN is left out
        return
    with Guard(metric.name), contextlib.suppress(KeyError):
        gauge_of(metric).remove(*labels)


@functools.cache
def _sampler() -> Sampler:
    return Sampler()


_lock = threading.Lock()


def sampler() -> Sampler:
    """The sampler of this process."""
    with _lock:  # functools.cache may call a function twice
        return _sampler()
