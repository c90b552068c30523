"""Metrics made from log lines, as the config declares them. Their values survive a reload."""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from typing import TYPE_CHECKING, Any

from deckwatch.logs.parsing.formats import scalar_text
from deckwatch.logs.parsing.redaction import Redaction
from deckwatch.metrics.declaration import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from deckwatch.config.journal_settings import JournalSettings
    from deckwatch.config.log_metrics import LogMetricSettings
    from deckwatch.config.log_settings import FileSettings
    from deckwatch.config.patterns import Pattern
    from deckwatch.metrics.declaration import Metric, Sample

INVALID = Counter(
    "deckwatch_log_metric_invalid_values_total",
    "Number of lines with a value that the metric cannot use: no number, or a negative one for a counter.",
    ["metric"],
)
LIMITED = Counter(
    "deckwatch_log_metric_other_total",
    "Number of lines that were counted with the label value other because of the metric's max_series.",
    ["metric"],
)

OTHER = "other"


class _Series:
    """The values of one metric, written by the log thread: by label values, the counts of a histogram's buckets and
    the sum, or one value."""

    def __init__(self, settings: LogMetricSettings) -> None:
        self.declaration = settings.declaration
        self.metric = _declared(settings)
        self.bounds = settings.bounds
        self.cells: dict[tuple[str, ...], list[float]] = {}
        self.invalid = 0
        self.limited = 0

    def cell(self, labels: tuple[str, ...], limit: int) -> list[float]:
        cell = self.cells.get(labels)
        if cell is None:
            if len(self.cells) >= limit and labels:
                self.limited += 1
                labels = (OTHER,) * len(labels)
            size = len(self.bounds) + 2 if isinstance(self.metric, Histogram) else 1
            cell = self.cells.setdefault(labels, [0.0] * size)
        return cell

    def samples(self) -> Iterator[Sample]:
        names = self.metric.labels
        for values, cell in list(self.cells.items()):
            labels = dict(zip(names, values, strict=True))
            if isinstance(self.metric, Histogram):
                buckets, total = {}, 0.0
                for bound, count in zip((*self.bounds, math.inf), cell, strict=False):
                    total += count
                    buckets[bound] = total
                yield from self.metric.cumulative(buckets, cell[-1], **labels)
            else:
                yield self.metric(cell[0], **labels)


class LogMetrics:
    """All metrics made from log lines. A collector."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._series: dict[str, _Series] = {}

    def use(self, settings: Iterable[LogMetricSettings]) -> None:
        """Export these metrics. Those that were there before and are declared in the same way keep their values."""
        found: dict[str, _Series] = {}
        for one in settings:
            before = self._series.get(one.name)
            if one.name not in found:
                is_same = before is not None and before.declaration == one.declaration
                found[one.name] = before if before is not None and is_same else _Series(one)
        with self._lock:
            self._series = found

    def observer(
        self, settings: FileSettings | JournalSettings
    ) -> Callable[[Mapping[str, Any], str, str], None] | None:
        """What to call with the fields, the level and the text of each line of a source; None without metrics."""
        if not settings.metrics:
            return None
        redact = Redaction(settings.redact).named if settings.redact else None
        each = [_observer(one, self._series.get(one.name) or _Series(one), redact) for one in settings.metrics]

        def observe(fields: Mapping[str, Any], level: str, text: str) -> None:
            for one in each:
                one(fields, level, text)

        return each[0] if len(each) == 1 else observe

    def collect(self) -> Iterator[Sample]:
        with self._lock:
            series = dict(self._series)
        for name, one in series.items():
            yield from one.samples()
            yield INVALID(one.invalid, metric=name)
            yield LIMITED(one.limited, metric=name)


def _declared(settings: LogMetricSettings) -> Metric:
    labels = tuple(settings.labels)
    match settings.type:
        case "counter":
            return Counter(settings.name, settings.help or "Number of matching log lines.", labels)
        case "histogram":
            return Histogram(settings.name, settings.help or f"{settings.field} of matching log lines.", labels)
        case _:
            return Gauge(settings.name, settings.help or f"Last {settings.field} of matching log lines.", labels)


def _observer(
    settings: LogMetricSettings, series: _Series, redact: Callable[[str, str], str] | None
) -> Callable[[Mapping[str, Any], str, str], None]:
    field, scale, limit, bounds = settings.field, settings.scale, settings.max_series, settings.bounds
    # In the order of the metric's labels: another file may name them in another one.
    sources = [settings.labels[name] for name in series.metric.labels]
    patterns: list[tuple[str, Pattern]] = list(settings.match.items())
    is_histogram, is_counter = settings.type == "histogram", settings.type == "counter"
    cells = series.cells

    def observe(fields: Mapping[str, Any], level: str, text: str) -> None:
        for name, pattern in patterns:
            value = _text_of(name, fields, level, text)
            if value is None or not pattern.search(value):
                return
        amount = 1.0
        if field:
            found = fields.get(field)
            if found is None:
                return
            number = _number(found)
            if number is None or (is_counter and number < 0):
                series.invalid += 1
                return
            amount = number * scale
        labels = tuple([_text_of(name, fields, level, text) or "" for name in sources])
        if redact is not None:
            labels = tuple(map(redact, sources, labels))
        cell = cells.get(labels)
        if cell is None:
            cell = series.cell(labels, limit)
        if is_histogram:
            cell[bisect_left(bounds, amount)] += 1
            cell[-1] += amount
        elif is_counter:
            cell[0] += amount
        else:
            cell[0] = amount

    return observe


def _text_of(name: str, fields: Mapping[str, Any], level: str, text: str) -> str | None:
    """A field as text; the normalized name for `level`, the whole line for `line`."""
    if name == "level":
        return level
    value = fields.get(name)
    if value is None:
        return text if name == "line" else None
    return value if value.__class__ is str else scalar_text(value)


def _number(value: object) -> float | None:
    """The value as a number; None for what is none, and for NaN and infinity, which would stay in a sum for good."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
