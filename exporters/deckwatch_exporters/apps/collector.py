"""The metrics of all services, each with the label `service`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge, Histogram, Malformed, Metric, Sample

from .archive import NewerArchive
from .folder import ServiceFolder, services_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .folder import Contents
    from .multiprocess_file import Value

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
    def __init__(self, folder: str, max_series: int) -> None:
        self._folder = folder
        self._max_series = max_series
        self._services: dict[str, ServiceFolder] = {}
        self._metrics: dict[tuple[str, str, tuple[str, ...]], Metric] = {}

    def collect(self) -> Iterator[Sample | Malformed]:
        names = services_in(self._folder)
        for gone in self._services.keys() - set(names):
            self._services.pop(gone).close()
        for name in names:
            service = self._services.setdefault(name, ServiceFolder(os.path.join(self._folder, name)))
            try:
                contents = service.contents()
            except (OSError, ValueError, NewerArchive) as failure:
                yield DAMAGED(1, service=name)
                yield Malformed(f"service {name}", _reason(failure))
                continue
            yield from self._service(name, contents)

    def close(self) -> None:
        for service in self._services.values():
            service.close()

    def _service(self, name: str, contents: Contents) -> Iterator[Sample | Malformed]:
        samples = [sample for kind, values in contents.values.items() for sample in self._samples(name, kind, values)]
        series = {sample.series.text: sample for sample in samples}
        yield PROCESSES(contents.processes, service=name)
        yield SERIES(len(series), service=name)
        yield DAMAGED(len(contents.damaged), service=name)
        yield LIMITED(len(series) > self._max_series, service=name)
        for file, why in contents.damaged.items():
            yield Malformed(f"service {name}: {file}", why)
        if len(series) <= self._max_series:
            yield from series.values()

    def _samples(self, service: str, kind: str, values: list[Value]) -> Iterator[Sample]:
        if kind.startswith("gauge_"):
            yield from self._gauges(service, kind.removeprefix("gauge_"), values)
            return
        totals: dict[tuple[str, str, tuple[tuple[str, str], ...]], float] = {}
        helps = {}
        for value in values:
            series = (value.metric, value.name, value.labels)
            totals[series] = totals.get(series, 0.0) + value.value
            helps[value.metric] = value.help
        if kind == "histogram":
            yield from self._histograms(service, totals, helps)
            return
        for (metric, name, labels), total in totals.items():
            declared = self._declared(kind, metric, helps[metric], labels)
            suffix = name.removeprefix(metric) if kind == "summary" else ""
            yield declared.part(suffix, total, {"service": service, **dict(labels)})

    def _gauges(self, service: str, mode: str, values: list[Value]) -> Iterator[Sample]:
        groups: dict[tuple[str, tuple[tuple[str, str], ...]], list[Value]] = {}
        for value in values:
            groups.setdefault((value.metric, value.labels), []).append(value)
        for (metric, labels), members in groups.items():
            declared = self._declared("gauge", metric, members[0].help, labels)
            if mode in _RECENT:
                combined = max(members, key=lambda value: value.timestamp).value
            else:
                combined = _COMBINE.get(mode, math.fsum)(value.value for value in members)
            yield declared(combined, service=service, **dict(labels))

    def _histograms(
        self, service: str, totals: dict[tuple[str, str, tuple[tuple[str, str], ...]], float], helps: dict[str, str]
    ) -> Iterator[Sample]:
        """The files hold the count of each bucket alone, with the label `le` last, and the sum."""
        counts: dict[tuple[str, tuple[tuple[str, str], ...]], dict[float, float]] = {}
        sums: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        for (metric, name, labels), total in totals.items():
            others = tuple(pair for pair in labels if pair[0] != "le")
            if name.endswith("_bucket"):
                bound = float(dict(labels).get("le", "inf").replace("+Inf", "inf"))
                counts.setdefault((metric, others), {})[bound] = total
            elif name.endswith("_sum"):
                sums[metric, others] = total
        for (metric, labels), buckets in counts.items():
            declared = self._declared("histogram", metric, helps[metric], labels)
            assert isinstance(declared, Histogram)
            yield from declared.counted(buckets, sums.get((metric, labels), 0.0), service=service, **dict(labels))

    def _declared(self, kind: str, metric: str, help_text: str, labels: tuple[tuple[str, str], ...]) -> Metric:
        """The declaration of a metric. A counter's name ends with `_total`, which prometheus_client leaves out."""
        names = tuple(label for label, _ in labels if label not in ("le", "service"))
        key = (kind, metric, names)
        found = self._metrics.get(key)
        if found is None:
            exposed = metric if kind != "counter" or metric.endswith("_total") else f"{metric}_total"
            made = {"counter": Counter, "histogram": Histogram}.get(kind, Gauge)
            found = self._metrics[key] = (
                Metric(exposed, "summary", help_text, ("service", *names))
                if kind == "summary"
                else made(exposed, help_text, ("service", *names))
            )
        return found


def _reason(failure: Exception) -> str:
    return (failure.strerror if isinstance(failure, OSError) else None) or str(failure)
