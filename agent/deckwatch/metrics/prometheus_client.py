"""Collectors written for prometheus_client, as collectors of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast, get_args

from deckwatch.metrics.declaration import Exemplar, Extra, Metric, MetricType, Sample, Series

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric as ClientFamily
    from prometheus_client.registry import Collector as ClientCollector
    from prometheus_client.samples import Sample as ClientSample

_TYPES = frozenset(get_args(MetricType))


class Adopted:
    """A prometheus_client collector as a collector of ours: families become metrics, `_created` series are left out."""

    def __init__(self, collector: ClientCollector) -> None:
        self._collector = collector
        self._metrics: dict[str, Metric] = {}
        self._series: dict[tuple[str, tuple[tuple[str, str], ...]], Series] = {}

    def collect(self) -> Iterator[Sample]:
        before, self._series = self._series, {}
        for family in self._collector.collect():
            metric = self._metric(family)
            for sample in family.samples:
                if sample.name.endswith("_created") and family.type != "gauge":
                    continue
                key = (sample.name, tuple(sample.labels.items()))
                series = before.get(key) or Series(metric, *key)
                self._series[key] = series
                yield Sample(series, sample.value, _extra(sample))

    def _metric(self, family: ClientFamily) -> Metric:
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        name = family.name + suffix
        metric = self._metrics.get(name)
        if metric is None:
            kind = cast("MetricType", family.type) if family.type in _TYPES else "unknown"
            metric = self._metrics[name] = Metric(name, kind, family.documentation, unit=family.unit)
        return metric


def _extra(sample: ClientSample) -> Extra | None:
    if sample.timestamp is None and sample.exemplar is None:
        return None
    exemplar = sample.exemplar and Exemplar(
        tuple(sample.exemplar.labels.items()),
        sample.exemplar.value,
        None if sample.exemplar.timestamp is None else float(sample.exemplar.timestamp),
    )
    return Extra(None if sample.timestamp is None else float(sample.timestamp), exemplar or None)
