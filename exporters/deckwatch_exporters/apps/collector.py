"""The metrics of all services, each with the label `service`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Exemplar, Extra, Gauge, Histogram, Malformed, Metric, Sample, Summary

from .archive import NewerArchive
from .folder import ServiceFolder, services_in
from .multiprocess_file import Damaged, Entry, SeriesKey, Values, series_of
from .processes import LockOwners, ServiceProcesses
from .sums import total, values_by_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .folder import Contents

_SERVICE = ["service"]
PROCESSES = Gauge("deckwatch_apps_processes", "Number of processes that write metrics.", _SERVICE)
SERIES = Gauge("deckwatch_apps_series", "Number of series of the service.", _SERVICE)
DAMAGED = Gauge("deckwatch_apps_files_skipped", "Number of files that are damaged or cannot be read.", _SERVICE)
LIMITED = Gauge(
    "deckwatch_apps_series_limited", "Whether the service has more series (1) than max_series allows.", _SERVICE
)

#: How the values of a gauge are combined, by the mode in the name of its files. Modes of prometheus_client that keep a
#: series for each process are added up: a label with the process id would make a new series with each restart.
_COMBINE: dict[str, Callable[[Iterable[float]], float]] = {
    "all": math.fsum,
    "liveall": math.fsum,
    "sum": math.fsum,
    "livesum": math.fsum,
    "max": max,
    "livemax": max,
    "min": min,
    "livemin": min,
}
#: The series that files hold, by kind; other versions of prometheus_client may write `_created`.
_PARTS = {
    "histogram": ("_bucket", "_sum", "_count", "_created"),
    "summary": ("_count", "_sum", "_created"),
}
_SHOWN = 200  # characters of a malformed key
_RECENT = ("mostrecent", "livemostrecent")


class AppsCollector:
    def __init__(self, folder: str, max_series: int, gauge_retention: float) -> None:
        self._folder = folder
        self._gauge_retention = gauge_retention
        self._max_series = max_series
        self._services: dict[str, ServiceFolder] = {}
        self._processes: dict[str, ServiceProcesses] = {}
        self._metrics: dict[tuple[str, str, tuple[str, ...]], Metric] = {}

    def collect(self) -> Iterator[Sample | Malformed]:
        names = services_in(self._folder)
        for gone in self._services.keys() - set(names):
            self._services.pop(gone).close()
            self._processes.pop(gone, None)
        owners = LockOwners()
        for name in names:
            if name not in self._services:
                self._services[name] = ServiceFolder(os.path.join(self._folder, name), self._gauge_retention)
            service = self._services[name]
            try:
                contents = service.contents()
            except (OSError, ValueError, NewerArchive) as failure:
                yield DAMAGED(1, service=name)
                yield Malformed(f"service {name}", _reason(failure))
                continue
            yield from self._service(name, contents)
            processes = self._processes.setdefault(name, ServiceProcesses())
            yield from processes.samples(name, contents.running, owners)

    def close(self) -> None:
        for service in self._services.values():
            service.close()

    def _service(self, name: str, contents: Contents) -> Iterator[Sample | Malformed]:
        found = [
            item
            for kind, files in contents.values.items()
            for item in self._samples(name, kind, files, contents.exemplars)
        ]
        series = {item.series.text: item for item in found if isinstance(item, Sample)}
        yield PROCESSES(contents.processes, service=name)
        yield SERIES(len(series), service=name)
        yield DAMAGED(len(contents.damaged), service=name)
        yield LIMITED(len(series) > self._max_series, service=name)
        for file, why in contents.damaged.items():
            yield Malformed(f"service {name}: {file}", why)
        yield from (item for item in found if isinstance(item, Malformed))
        if len(series) <= self._max_series:
            yield from series.values()

    def _samples(
        self, service: str, kind: str, files: list[Values], exemplars: dict[bytes, Exemplar]
    ) -> Iterator[Sample | Malformed]:
        """The samples of the files of one kind. A malformed key or value affects only its own series."""
        if kind.startswith("gauge_"):
            yield from self._gauges(service, kind, files)
            return
        histograms = _Histograms(service)
        for key, values in values_by_key(files).items():
            try:
                series, metric = self._declared(kind, key)
                if isinstance(metric, Histogram):
                    histograms.add(metric, series, values, exemplars.get(key))
                    continue
                summed = _total(series, values)
            except Damaged as why:
                yield _malformed(service, kind, key, why)
                continue
            suffix = series.name.removeprefix(series.metric) if kind == "summary" else ""
            extra = Extra(exemplar=exemplars[key]) if key in exemplars else None
            yield metric.part(suffix, summed, {"service": service, **dict(series.labels)}, extra)
        yield from histograms.samples()

    def _gauges(self, service: str, kind: str, files: list[Values]) -> Iterator[Sample | Malformed]:
        keys: dict[bytes, list[Entry]] = {}
        for entry in (entry for file in files for entry in file.entries()):
            keys.setdefault(entry.key, []).append(entry)
        for key, members in keys.items():
            try:
                series, metric = self._declared(kind, key)
                value = _combined(kind.removeprefix("gauge_"), members)
            except Damaged as why:
                yield _malformed(service, kind, key, why)
                continue
            if value is not None:
                yield metric.part("", value, {"service": service, **dict(series.labels)})

    def _declared(self, kind: str, key: bytes) -> tuple[SeriesKey, Metric]:
        """The series of a key and its metric. Raises Damaged if they cannot be of this kind.

        A counter's name ends with `_total`, which prometheus_client leaves out.
        """
        series = series_of(key)
        own = {"service", "le"} if kind == "histogram" else {"service"}
        names = tuple(label for label, _ in series.labels if label not in own)
        metric = self._metrics.get((kind, series.metric, names))
        if metric is None:
            name = series.metric
            if kind == "counter" and not name.endswith("_total"):
                name += "_total"
            made = {"counter": Counter, "histogram": Histogram, "summary": Summary}.get(kind, Gauge)
            try:
                metric = made(name, series.help, ("service", *names))
            except ValueError as wrong:  # a name that the text format does not allow
                raise Damaged(str(wrong)) from None
            self._metrics[kind, series.metric, names] = metric
        if kind in _PARTS and series.name.removeprefix(series.metric) not in _PARTS[kind]:
            raise Damaged(f"not a series of a {kind}")
        return series, metric


_Labels = tuple[tuple[str, str], ...]


class _Histograms:
    """The histograms of a service: its files hold the count of each bucket alone, with the label `le`, and the sum."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._counts: dict[tuple[Histogram, _Labels], dict[float, float]] = {}
        self._sums: dict[tuple[Histogram, _Labels], float] = {}
        self._exemplars: dict[tuple[Histogram, _Labels], dict[str, Exemplar]] = {}
        self._malformed: set[tuple[Histogram, _Labels]] = set()  # without one bucket, the others would be wrong

    def add(self, metric: Histogram, series: SeriesKey, values: list[float], exemplar: Exemplar | None) -> None:
        """Raises Damaged."""
        key = metric, tuple(pair for pair in series.labels if pair[0] != "le")
        try:
            self._add(key, series, _total(series, values), exemplar)
        except Damaged:
            self._malformed.add(key)
            raise

    def _add(self, key: tuple[Histogram, _Labels], series: SeriesKey, total: float, exemplar: Exemplar | None) -> None:
        if series.name.endswith("_sum"):
            self._sums[key] = total
        elif series.name.endswith("_bucket"):
            try:
                bound = float(dict(series.labels).get("le", "").replace("+Inf", "inf"))
            except ValueError:
                bound = math.nan
            if math.isnan(bound):
                raise Damaged("not a bucket")
            self._counts.setdefault(key, {})[bound] = total
            if exemplar is not None:
                le = "+Inf" if bound == math.inf else repr(bound)
                self._exemplars.setdefault(key, {})[le] = exemplar

    def samples(self) -> Iterator[Sample]:
        for key, buckets in self._counts.items():
            if key in self._malformed:
                continue
            metric, labels = key
            samples = metric.counted(buckets, self._sums.get(key, 0.0), **{"service": self._service, **dict(labels)})
            if key not in self._exemplars:
                yield from samples
                continue
            for sample in samples:
                exemplar = self._exemplars[key].get(dict(sample.series.labels).get("le", ""))
                yield sample._replace(extra=Extra(exemplar=exemplar)) if exemplar else sample


def _combined(mode: str, entries: list[Entry]) -> float | None:
    """The value of a gauge; None if it was never set, or is of a label set of an info that has been replaced.

    Raises Damaged if the values of its processes have no sum.
    """
    members = [entry for entry in entries if not math.isnan(entry.value)]
    if not members:
        return None
    if mode in _RECENT:
        return max(members, key=lambda entry: entry.timestamp).value
    try:
        return _COMBINE.get(mode, math.fsum)(entry.value for entry in members)
    except (ValueError, OverflowError):  # infinities of both signs, or above what a float holds
        raise Damaged("the values have no sum") from None


def _total(series: SeriesKey, values: list[float]) -> float:
    """The sum of a counter, or of a part of a histogram or summary. Raises Damaged if it is not a possible one."""
    summed = total(values)
    if not summed >= 0 and not series.name.endswith("_sum"):  # observed values can be negative
        raise Damaged(f"a counter of {summed}")
    return summed


def _malformed(service: str, kind: str, key: bytes, why: Damaged) -> Malformed:
    return Malformed(f"service {service}: {kind}: {why}", key.decode("utf-8", "backslashreplace")[:_SHOWN])


def _reason(failure: Exception) -> str:
    return (failure.strerror if isinstance(failure, OSError) else None) or str(failure)
