"""Samples from the text that a PostgreSQL server or PgBouncer sends: one odd value costs one series."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Failed, Incomplete, Malformed, Sample
from deckwatch_exporters.clients.libpq import number, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from deckwatch.exporter import Collector, Metric, Results

_LONGEST_TEXT = 100


def sample(metric: Metric, value: bytes | None, /, **labels: str) -> Sample | Malformed | None:
    """The sample of a value; None for NULL. A counter that is negative or not a number is malformed."""
    if value is None:
        return None
    try:
        figure = number(value)
    except ValueError:
        figure = None
    if figure is None or (metric.type == "counter" and not figure >= 0):
        return Malformed(metric.name, text(value)[:_LONGEST_TEXT])
    return metric(figure, **labels)


def samples(values: Iterable[tuple[Metric, bytes | None]], /, **labels: str) -> Iterator[Sample | Malformed]:
    """The samples of several metrics with the same labels. NULL has none."""
    for metric, value in values:
        if (found := sample(metric, value, **labels)) is not None:
            yield found


class Once:
    """A collector that treats repeated series as malformed: the first one is served, and the run succeeds.

    Two names that a server tells apart can give the same labels, for example after undecodable bytes are escaped.
    """

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def collect(self) -> Results:
        return _once(self._collector.collect())


def _once(found: Results) -> Iterator[Sample | Malformed | Incomplete | Failed]:
    seen: set[str] = set()
    for it in found:
        if isinstance(it, Sample):
            series = it.series.text
            if series in seen:
                yield Malformed("repeated series", series.rstrip())
                continue
            seen.add(series)
        yield it
