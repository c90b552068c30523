"""The metrics of all services, each with the label `service`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Exemplar, Extra, Gauge, Histogram, Malformed, Metric, Sample, Summary

from .archive import NewerArchive
from .folder import ServiceFolder, services_in
from .multiprocess_file import Entry, SeriesKey, series_of
from .processes import LockOwners, ServiceProcesses

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
        samples = [
            sample
            for kind, values in contents.values.items()
            for sample in self._samples(name, kind, values, contents.exemplars)
        ]
        series = {sample.series.text: sample for sample in samples}
        yield PROCESSES(contents.processes, service=name)
        yield SERIES(len(series), service=name)
        yield DAMAGED(len(contents.damaged), service=name)
        yield LIMITED(len(series) > self._max_series, service=name)
        for file, why in contents.damaged.items():
            yield Malformed(f"service {name}: {file}", why)
        if len(series) <= self._max_series:
            yield from series.values()

    def _samples(
        self, service: str, kind: str, entries: list[Entry], exemplars: dict[bytes, Exemplar]
    ) -> Iterator[Sample]:
        if kind.startswith("gauge_"):
            yield from self._gauges(service, kind.removeprefix("gauge_"), entries)
            return
        totals: dict[bytes, float] = {}
        for key, value, _ in entries:
            totals[key] = totals.get(key, 0.0) + value
        if kind == "histogram":
            yield from self._histograms(service, totals, exemplars)
            return
        for key, total in totals.items():
            series = series_of(key)
            metric = self._declared(kind, series)
            if metric is not None:
                suffix = series.name.removeprefix(series.metric) if kind == "summary" else ""
                extra = Extra(exemplar=exemplars[key]) if key in exemplars else None
                yield metric.part(suffix, total, {"service": service, **dict(series.labels)}, extra)

    def _gauges(self, service: str, mode: str, entries: list[Entry]) -> Iterator[Sample]:
        groups: dict[bytes, list[Entry]] = {}
        for entry in entries:
            if not math.isnan(entry.value):  # a label set of an info that has been replaced
                groups.setdefault(entry.key, []).append(entry)
        for key, members in groups.items():
            series = series_of(key)
            metric = self._declared("gauge", series)
            if metric is None:
                continue
            if mode in _RECENT:
                combined = max(members, key=lambda entry: entry.timestamp).value
            else:
                combined = _COMBINE.get(mode, math.fsum)(entry.value for entry in members)
            yield metric.part("", combined, {"service": service, **dict(series.labels)})

    def _histograms(
        self, service: str, totals: dict[bytes, float], exemplars: dict[bytes, Exemplar]
    ) -> Iterator[Sample]:
        """The files hold the count of each bucket alone, with the label `le`, and the sum."""
        counts: dict[tuple[str, tuple[tuple[str, str], ...]], dict[float, float]] = {}
        sums: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        declared: dict[tuple[str, tuple[tuple[str, str], ...]], Metric] = {}
        marked: dict[tuple[str, tuple[tuple[str, str], ...]], dict[str, Exemplar]] = {}
        for key, total in totals.items():
            series = series_of(key)
            labels = tuple(pair for pair in series.labels if pair[0] != "le")
            metric = self._declared("histogram", series)
            if metric is None:
                continue
            declared[series.metric, labels] = metric
            if series.name.endswith("_bucket"):
                bound = float(dict(series.labels).get("le", "inf").replace("+Inf", "inf"))
                counts.setdefault((series.metric, labels), {})[bound] = total
                if key in exemplars:
                    le = "+Inf" if bound == math.inf else repr(bound)
                    marked.setdefault((series.metric, labels), {})[le] = exemplars[key]
            elif series.name.endswith("_sum"):
                sums[series.metric, labels] = total
        for group, buckets in counts.items():
            histogram = declared[group]
            assert isinstance(histogram, Histogram)
            samples = histogram.counted(buckets, sums.get(group, 0.0), **{"service": service, **dict(group[1])})
            if group not in marked:
                yield from samples
                continue
            for sample in samples:
                exemplar = marked[group].get(dict(sample.series.labels).get("le", ""))
                yield sample._replace(extra=Extra(exemplar=exemplar)) if exemplar else sample

    def _declared(self, kind: str, series: SeriesKey) -> Metric | None:
        """The declaration of a metric; None for names that the text format does not allow.

        A counter's name ends with `_total`, which prometheus_client leaves out.
        """
        names = tuple(label for label, _ in series.labels if label not in ("le", "service"))
        key = (kind, series.metric, names)
        found = self._metrics.get(key)
        if found is None:
            name = series.metric
            if kind == "counter" and not name.endswith("_total"):
                name += "_total"
            made = {"counter": Counter, "histogram": Histogram, "summary": Summary}.get(kind, Gauge)
            try:
                found = self._metrics[key] = made(name, series.help, ("service", *names))
            except ValueError:
                return None
        return found


def _reason(failure: Exception) -> str:
    return (failure.strerror if isinstance(failure, OSError) else None) or str(failure)
