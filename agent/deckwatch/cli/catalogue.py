"""The catalogue of everything that is installed: the exporters and the agent itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import deckwatch.agent
import deckwatch.collection.board
import deckwatch.collection.collector_metrics
import deckwatch.collection.own_process
import deckwatch.http.rejections
import deckwatch.http.web_metrics
import deckwatch.logs.counts
import deckwatch.logs.log_metrics
import deckwatch.remote_write.counts
from deckwatch.metrics.catalogue import Entry, entries
from deckwatch.metrics.declaration import Counter, Gauge, Histogram, Metric, declared_in
from deckwatch.sdk import declared

if TYPE_CHECKING:
    from deckwatch.collection.registry import Registry


def catalogue(registry: Registry) -> list[Entry]:
    """What all installed exporters declare, the agent itself, and the application library, by exporter and name.

    Exporters that cannot be loaded are left out; `Registry.loadable()` says which.
    """
    own = declared_in(
        deckwatch.collection.collector_metrics,
        deckwatch.collection.board,
        deckwatch.logs.counts,
        deckwatch.logs.log_metrics,
        deckwatch.remote_write.counts,
        deckwatch.agent,
        deckwatch.collection.own_process,
        deckwatch.http.rejections,
        deckwatch.http.web_metrics,
    )
    found = list(entries(own, deckwatch.agent.OWN))
    for name, exporter in registry.loadable()[0].items():
        found += entries(exporter.metrics, name)
    found += entries(map(_exported, _of_library()), "apps")
    return found


def _of_library() -> list[declared.Declared]:
    return [value for value in vars(declared).values() if isinstance(value, declared.Declared)]


def _exported(metric: declared.Declared) -> Metric:
    """The metric of an application as the agent exports it."""
    kinds = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}
    return kinds[metric.kind](metric.name, metric.help, ("service", *metric.labels))
