"""Counters, gauges, histograms and infos with prometheus_client's API and a limit on label sets."""

import functools
import inspect
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, cast, get_args

import prometheus_client
from prometheus_client.metrics import MetricWrapperBase

OTHER = "other"
MAX_SERIES = 1000
DEFAULT_BUCKETS = prometheus_client.Histogram.DEFAULT_BUCKETS

GaugeMode = Literal["sum", "max", "min", "last", "live"]
#: Values of processes that have ended do not count.
_MULTIPROCESS_MODES = {"sum": "livesum", "max": "livemax", "min": "livemin", "last": "mostrecent", "live": "livesum"}


class _Limited(MetricWrapperBase):
    """Replace every label value with `other` once an instrument has `max_series` label sets."""

    max_series = MAX_SERIES

    def labels(self, *labelvalues: Any, **labelkwargs: Any) -> Self:
        child = super().labels
        if self._labelnames and len(self._metrics) >= self.max_series:
            # Wrong numbers of values and wrong names are left to prometheus_client, which reports them.
            values: tuple[Any, ...] = ()
            if not labelkwargs and len(labelvalues) == len(self._labelnames):
                values = labelvalues
            elif not labelvalues and set(labelkwargs) == set(self._labelnames):
                values = tuple(labelkwargs[name] for name in self._labelnames)
            if values and tuple(map(str, values)) not in self._metrics:
                return child(*[OTHER] * len(self._labelnames))
        return child(*labelvalues, **labelkwargs)


class Counter(_Limited, prometheus_client.Counter):
    """A prometheus_client Counter with a limit on label sets."""


class Gauge(_Limited, prometheus_client.Gauge):
    """A prometheus_client Gauge with a limit on label sets; `mode` says how workers are combined."""

    mode: GaugeMode = "sum"


class Histogram(_Limited, prometheus_client.Histogram):
    """A prometheus_client Histogram with a limit on label sets."""


class Info(_Limited, prometheus_client.Info):
    """A prometheus_client Info with a limit on label sets."""


_instruments: dict[str, tuple[tuple[object, ...], MetricWrapperBase]] = {}
# Reentrant, because a signal handler may create an instrument while another call holds the lock.
_lock = threading.RLock()
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
