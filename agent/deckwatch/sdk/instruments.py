"""Counters, gauges, histograms and infos with prometheus_client's API and a limit on label sets."""

import functools
import inspect
import logging
import math
import os
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, cast, get_args

import prometheus_client
from prometheus_client import values
from prometheus_client.metrics import MetricWrapperBase

OTHER = "other"
MAX_SERIES = 1000
DEFAULT_BUCKETS = prometheus_client.Histogram.DEFAULT_BUCKETS

GaugeMode = Literal["sum", "max", "min", "last", "live"]
#: Values of processes that have ended do not count.
_MULTIPROCESS_MODES = {"sum": "livesum", "max": "livemax", "min": "livemin", "last": "mostrecent", "live": "livesum"}


class _Limited(MetricWrapperBase):
    """Replace every label value with `other` once an instrument has `max_series` label sets, which is logged once.

    Known label sets are found without a lock.
    """

    max_series = MAX_SERIES
    _is_limited = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self._labelnames and not self._labelvalues:
            self._lock = threading.RLock()  # type: ignore[assignment]  # a signal handler may need a new label set too

    def labels(self, *labelvalues: Any, **labelkwargs: Any) -> Self:
        names, values = self._labelnames, labelvalues
        if labelkwargs:
            # Wrong numbers of values and wrong names are left to prometheus_client, which reports them.
            is_valid = not labelvalues and len(labelkwargs) == len(names)
            values = tuple([labelkwargs.get(name) for name in names]) if is_valid else ()
        for value in values:
            if type(value) is not str:  # an instance of another class may equal a string that it is not written as
                break
        else:
            try:
                return self._metrics[values]  # type: ignore[return-value]  # children are of the same class
            except (KeyError, AttributeError):
                pass
        return self._added(values, labelvalues, labelkwargs)

    def _added(self, values: tuple[Any, ...], labelvalues: tuple[Any, ...], labelkwargs: dict[str, Any]) -> Self:
        child = super().labels
        if names := self._labelnames:
            is_full = not self._labelvalues and len(self._metrics) >= self.max_series
            is_valid = len(values) == len(names) and (not labelkwargs or set(labelkwargs) == set(names))
            if is_full and is_valid and tuple(map(str, values)) not in self._metrics:
                self._report_limit()
                return child(*[OTHER] * len(names))
        return child(*labelvalues, **labelkwargs)

    def _report_limit(self) -> None:
        if not self._is_limited:
            self._is_limited = True  # first: a log handler may count too
            text = 'metric "%s" has more than %d label sets: others are counted as "%s". '
            text += "Use labels with fewer values, or raise max_series."
            logging.getLogger("deckwatch").warning(text, self._name, self.max_series, OTHER)


class Counter(_Limited, prometheus_client.Counter):
    """A prometheus_client Counter with a limit on label sets."""

    def inc(self, amount: float = 1, exemplar: dict[str, str] | None = None) -> None:
        if exemplar is None and amount >= 0:
            try:
                value = self._value
            except AttributeError:
                pass  # labels are missing, which prometheus_client reports
            else:
                value.inc(amount)
                return
        super().inc(amount, exemplar)


class Gauge(_Limited, prometheus_client.Gauge):
    """A prometheus_client Gauge with a limit on label sets; `mode` says how workers are combined."""

    mode: GaugeMode = "sum"


class Histogram(_Limited, prometheus_client.Histogram):
    """A prometheus_client Histogram with a limit on label sets."""

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        if exemplar is None and amount == amount:  # not NaN
            try:
                buckets = self._buckets
            except AttributeError:
                pass  # labels are missing, which prometheus_client reports
            else:
                self._sum.inc(amount)
                buckets[bisect_left(self._upper_bounds, amount)].inc(1)
                return
        super().observe(amount, exemplar)


class Info(_Limited, prometheus_client.Info):
    """A prometheus_client Info with a limit on label sets. Between processes, it is a gauge: 1, or NaN if replaced."""

    def _metric_init(self) -> None:
        super()._metric_init()  # type: ignore[no-untyped-call]  # prometheus_client has no annotation here
        self._lock = threading.RLock()  # type: ignore[assignment]  # a signal handler may set it too
        self._shared: dict[tuple[tuple[str, str], ...], Any] = {}

    def info(self, val: dict[str, str]) -> None:
        super().info(val)
        if not values.ValueClass._multiprocess:
            return
        labels = tuple((name, str(text)) for name, text in val.items())
        with self._lock:
            for before, value in self._shared.items():
                if before != labels:
                    value.set(math.nan)
            if labels not in self._shared:
                names, texts = zip(*labels, strict=True) if labels else ((), ())
                self._shared[labels] = values.ValueClass(
                    "gauge",
                    f"{self._name}_info",
                    f"{self._name}_info",
                    (*self._labelnames, *names),
                    (*self._labelvalues, *texts),
                    self._documentation,
                    multiprocess_mode="livemax",
                )
            self._shared[labels].set(1)


_instruments: dict[str, tuple[tuple[object, ...], MetricWrapperBase]] = {}
# Reentrant, because a signal handler may create an instrument while another call holds the lock.
_lock = threading.RLock()
# An instrument that another thread is creating exists in a forked child completely or not at all.
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
_Instrument = TypeVar("_Instrument", Counter, Gauge, Histogram, Info)


def _instrument(
    kind: type[_Instrument], name: str, help: str, labels: Sequence[str], max_series: int, **options: Any
) -> _Instrument:
    if isinstance(labels, str):
        raise TypeError(f'metric "{name}": labels is a string. Pass a list of label names, such as ["{labels}"].')
    mode = options.get("mode")
    if mode is not None and mode not in get_args(GaugeMode):
        raise ValueError(f'metric "{name}": unknown mode {mode!r}. Use one of: {", ".join(get_args(GaugeMode))}.')
    declaration = (kind, tuple(labels), tuple(options.items()))
    with _lock:
        if name in _instruments:
            existing, instrument = _instruments[name]
            if existing != declaration:
                raise ValueError(
                    f'metric "{name}" already exists with another type, labels or options. '
                    "Use the same declaration or another name."
                )
            return cast(_Instrument, instrument)
        options.pop("mode", None)
        if mode is not None:
            options["multiprocess_mode"] = _MULTIPROCESS_MODES[mode]
        created = kind(name, help or name, tuple(labels), **options)
        created.max_series = max_series
        if isinstance(created, Gauge) and mode is not None:
            created.mode = mode
        _instruments[name] = declaration, created
        return created


def counter(name: str, help: str = "", labels: Sequence[str] = (), *, max_series: int = MAX_SERIES) -> Counter:
    """Return the counter with this name; create it on the first call.

    Raises ValueError if the name exists with another declaration, or prometheus_client rejects it.
    """
    return _instrument(Counter, name, help, labels, max_series)


def gauge(
    name: str, help: str = "", labels: Sequence[str] = (), *, mode: GaugeMode = "sum", max_series: int = MAX_SERIES
) -> Gauge:
    """Return the gauge with this name; create it on the first call. Errors are those of `counter`."""
    return _instrument(Gauge, name, help, labels, max_series, mode=mode)


def histogram(
    name: str,
    help: str = "",
    labels: Sequence[str] = (),
    *,
    buckets: Sequence[float] = DEFAULT_BUCKETS,
    max_series: int = MAX_SERIES,
) -> Histogram:
    """Return the histogram with this name; create it on the first call. Errors are those of `counter`."""
    return _instrument(Histogram, name, help, labels, max_series, buckets=tuple(buckets))


def info(name: str, help: str = "", labels: Sequence[str] = (), *, max_series: int = MAX_SERIES) -> Info:
    """Return the info with this name; create it on the first call. Errors are those of `counter`."""
    return _instrument(Info, name, help, labels, max_series)


_Function = TypeVar("_Function", bound=Callable[..., Any])


class _Around:
    """Call `_end` after a block, a function or a coroutine function."""

    def __init__(self) -> None:
        self._started: list[float] = []

    def _end(self, _started: float) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._started.append(time.perf_counter())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(self._started.pop())

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def __call__(self, function: _Function) -> _Function:
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def wrapped(*args: Any, **kwargs: Any) -> Any:
                started = time.perf_counter()
                try:
                    return await function(*args, **kwargs)
                finally:
                    self._end(started)
        else:

            @functools.wraps(function)
            def wrapped(*args: Any, **kwargs: Any) -> Any:
                started = time.perf_counter()
                try:
                    return function(*args, **kwargs)
                finally:
                    self._end(started)

        return cast(_Function, wrapped)


class timed(_Around):  # noqa: N801 - used like a function, as contextlib.suppress is
    """Observe durations in seconds in a histogram: a decorator, or a context manager (one task at a time).

    `labels` maps label names to values.
    """

    def __init__(
        self,
        name: str,
        help: str = "",
        labels: Mapping[str, str] | None = None,
        *,
        buckets: Sequence[float] = DEFAULT_BUCKETS,
        max_series: int = MAX_SERIES,
    ) -> None:
        super().__init__()
        parent = histogram(name, help, tuple(labels or ()), buckets=buckets, max_series=max_series)
        self._histogram = parent.labels(**labels) if labels else parent

    def _end(self, _started: float) -> None:
        self._histogram.observe(time.perf_counter() - _started)


class counted(_Around):  # noqa: N801 - used like a function, as contextlib.suppress is
    """Count calls or blocks, including failed ones: a decorator or a context manager. `labels` maps names to values."""

    def __init__(
        self, name: str, help: str = "", labels: Mapping[str, str] | None = None, *, max_series: int = MAX_SERIES
    ) -> None:
        super().__init__()
        parent = counter(name, help, tuple(labels or ()), max_series=max_series)
        self._counter = parent.labels(**labels) if labels else parent

    def _end(self, _started: float) -> None:
        self._counter.inc()
