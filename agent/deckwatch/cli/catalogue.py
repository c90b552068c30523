"""The catalogue of everything that is installed: the exporters and the agent itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import deckwatch.agent
import deckwatch.collection.board
import deckwatch.collection.collector_metrics
import deckwatch.collection.own_process
import deckwatch.http.web_metrics
import deckwatch.logs.counts
from deckwatch.metrics.catalogue import Entry, entries
from deckwatch.metrics.declaration import declared_in

if TYPE_CHECKING:
    from deckwatch.collection.registry import Registry


def catalogue(registry: Registry) -> list[Entry]:
    """What all installed exporters declare, and the agent itself, by exporter and name.

    Exporters that cannot be loaded are left out; `Registry.loadable()` says which.
    """
    own = declared_in(
        deckwatch.collection.collector_metrics,
        deckwatch.collection.board,
        deckwatch.logs.counts,
        deckwatch.agent,
        deckwatch.collection.own_process,
        deckwatch.http.web_metrics,
    )
    found = list(entries(own, deckwatch.agent.OWN))
    for name, exporter in registry.loadable()[0].items():
        found += entries(exporter.metrics, name)
    return found
