"""What an application has measured and logged during a test.

def test_a_paid_order_is_counted(metrics, events):
    place_order("paid")
    assert metrics["orders_total", {"status": "paid"}] == 1
    assert events["order_placed"][0]["amount"] == 12.5
"""

import difflib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.metrics_core import Metric

_SUFFIXES = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_count", "_sum"),
    "info": ("_info",),
    "summary": ("", "_count", "_sum"),
}
_GROWING = ("counter", "histogram", "summary")


class Metrics:
    """Values by name, or by name and labels: `metrics["orders_total", {"status": "paid"}]`.

    Counters, histograms and summaries count from the start of the test. Series that have more labels are added up, and
    series that do not exist are 0. Raises KeyError if there is no such metric.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._registry = registry
        self._before = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in registry.collect()
            if family.type in _GROWING
            for sample in family.samples
        }

    def __getitem__(self, key: str | tuple[str, Mapping[str, str]]) -> float:
        name, labels = (key, {}) if isinstance(key, str) else key
        wanted = {(label, str(value)) for label, value in labels.items()}
        names: set[str] = set()
        total, is_known = 0.0, False
        for family in self._registry.collect():
            names |= _names(family)
            is_known = is_known or name in _names(family)
            for sample in family.samples:
                pairs = frozenset(sample.labels.items())
                if sample.name == name and wanted <= pairs:
                    total += sample.value - self._before.get((name, pairs), 0.0)
        if not is_known:
            similar = difflib.get_close_matches(name, names)
            raise KeyError(f"no metric {name}" + (f"; similar: {', '.join(similar)}" if similar else ""))
        return total


def _names(family: Metric) -> set[str]:
    """The names of a family's series; those of a family without series too."""
    found = {family.name + suffix for suffix in _SUFFIXES.get(family.type, ())}
    return found | {sample.name for sample in family.samples}


class Events(logging.Handler):
    """Events that were logged, in their order, by name: `events["order_placed"]`. Each is a dict with its fields."""

    def __init__(self) -> None:
        super().__init__()
        self._events: list[dict[str, Any]] = []
        self._standard = {*vars(logging.makeLogRecord({})), "message", "asctime"}

    def emit(self, record: logging.LogRecord) -> None:
        fields = {key: value for key, value in vars(record).items() if key not in self._standard}
        if "event" in fields:
            self._events.append({**fields, "level": record.levelname, "message": record.getMessage()})

    def __getitem__(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self._events if event["event"] == name]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._events)

    def __len__(self) -> int:
        return len(self._events)
