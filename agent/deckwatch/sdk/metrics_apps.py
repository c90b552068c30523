"""`/metrics` served by the application itself, for applications without an agent on their host."""

import glob
import math
import os
from typing import TYPE_CHECKING, Any

import prometheus_client
from prometheus_client import multiprocess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client.metrics_core import Metric


def _registry() -> prometheus_client.CollectorRegistry:
    """The registry of the process; in multi-process mode, that of all processes of the service."""
    from prometheus_client import values

    if not values.ValueClass._multiprocess:
        return prometheus_client.REGISTRY
    registry = prometheus_client.CollectorRegistry()
    registry.register(_ProcessesCollector(None))  # type: ignore[no-untyped-call]  # it has no annotation
    return registry


class _ProcessesCollector(multiprocess.MultiProcessCollector):
    """The metrics of all processes of the service. A gauge that is NaN in a process has disappeared there."""

    def collect(self) -> "Iterable[Metric]":
        metrics = multiprocess.MultiProcessCollector._read_metrics(glob.glob(os.path.join(self._path, "*.db")))
        for metric in metrics.values():
            if metric.type == "gauge":
                metric.samples = [sample for sample in metric.samples if not math.isnan(sample.value)]
        found: Iterable[Metric] = multiprocess.MultiProcessCollector._accumulate_metrics(metrics, accumulate=True)
        return found


def asgi_app() -> "Callable[..., Any]":
    """Return an ASGI application that answers with the metrics: `app.mount("/metrics", deckwatch.asgi_app())`."""
    return prometheus_client.make_asgi_app(_registry())


def wsgi_app() -> "Callable[..., Any]":
    """Return a WSGI application that answers with the metrics."""
    return prometheus_client.make_wsgi_app(_registry())
