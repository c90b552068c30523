"""The catalogue: every declared metric as data, for the reference, the pack and the tests."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from deckwatch.metrics.declaration import Metric, MetricPattern

HEADER = ("NAME", "TYPE", "LABELS", "UNIT", "HELP", "EXPORTER")


@dataclass(frozen=True)
class Entry:
    """One metric. `name` is that of text format 0.0.4, with a `*` where the host supplies a part of it."""

    name: str
    type: str
    labels: tuple[str, ...]
    unit: str
    help: str
    exporter: str

    @property
    def row(self) -> tuple[str, ...]:
        """The cells below `HEADER`."""
        return self.name, self.type, ",".join(self.labels), self.unit, self.help, self.exporter


def entries(metrics: Iterable[Metric | MetricPattern], exporter: str) -> Iterator[Entry]:
    """The entries of one exporter's metrics, in the order given."""
    for metric in metrics:
        yield Entry(
            metric.name, metric.type, tuple(metric.labels), metric.unit, metric.help.replace("{}", "*"), exporter
        )


def as_json(catalogue: Sequence[Entry]) -> str:
    """A list of objects with the fields of `Entry`: a stable interface."""
    return json.dumps([asdict(entry) for entry in catalogue], indent=1) + "\n"


def as_markdown(catalogue: Sequence[Entry]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in entry.row) + " |" for entry in catalogue]
    titles = " | ".join(title.lower() for title in HEADER)
    return "\n".join([f"| {titles} |", "|" + "---|" * len(HEADER), *lines]) + "\n"
