"""The catalogue: every metric that the agent and its exporters declare."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import deckwatch.about
import deckwatch.agent
import deckwatch.board
import deckwatch.logs.counts
import deckwatch.self_process
from deckwatch.metric import declared_in
from deckwatch.table import table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from deckwatch.metric import Metric, MetricPattern
    from deckwatch.registry import Registry


@dataclass(frozen=True)
class Entry:
    """One metric; `name` as text format exposes it, with a `*` where the host's own names come in."""

    name: str
    type: str
    labels: tuple[str, ...]
    unit: str
    help: str
    exporter: str


def catalogue(registry: Registry) -> list[Entry]:
    """What all installed exporters declare, and the agent itself, by exporter and name."""
    own = declared_in(deckwatch.about, deckwatch.board, deckwatch.logs.counts, deckwatch.agent, deckwatch.self_process)
    entries = list(_entries(own, deckwatch.agent.OWN))
    for name in registry.names():
        entries += _entries(registry.get(name).metrics, name)
    return entries


def _entries(metrics: Iterable[Metric | MetricPattern], exporter: str) -> Iterable[Entry]:
    for metric in metrics:
        yield Entry(
            metric.name, metric.type, tuple(metric.labels), metric.unit, metric.help.replace("{}", "*"), exporter
        )


def render(entries: Sequence[Entry], format: str) -> str:
    """The catalogue as `table`, `json` (a list of objects) or `markdown`."""
    if format == "json":
        return json.dumps([asdict(entry) for entry in entries], indent=1) + "\n"
    header = ("NAME", "TYPE", "LABELS", "UNIT", "HELP", "EXPORTER")
    rows = [(e.name, e.type, ",".join(e.labels), e.unit, e.help, e.exporter) for e in entries]
    if format == "table":
        return table(header, rows)
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    titles = " | ".join(title.lower() for title in header)
    return "\n".join([f"| {titles} |", "|" + "---|" * len(header), *lines]) + "\n"
