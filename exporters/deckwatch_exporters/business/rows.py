"""From the rows of a query to the samples of its metrics. One odd row costs one series."""

from __future__ import annotations

import datetime
import decimal
import math
from collections import Counter as Tally
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from deckwatch.exporter import Counter, Gauge, Histogram, Malformed, Metric, Sample

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .settings import MetricSettings, QuerySettings

#: A value as a source returns it: text, a number, or None for NULL.
Value: TypeAlias = object

_LONGEST_TEXT = 100


class QueryFailed(Exception):
    """A query gave no figures. The message says why and what to do."""


@dataclass(frozen=True)
class Table:
    """The result of a query. `is_cut` if the source stopped at the limit of rows."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Value]]
    is_cut: bool = False
    malformed: tuple[Malformed, ...] = ()  # what should have been a row


@dataclass
class Figures:
    """The samples of a query's metrics, and the metrics over their limit with its value."""

    samples: list[Sample] = field(default_factory=list)
    malformed: list[Malformed] = field(default_factory=list)
    limited: dict[str, int] = field(default_factory=dict)


def declared(settings: MetricSettings) -> Metric:
    """The declaration of a metric of the config."""
    help_text = settings.help or f"Result of the query of {settings.name}."
    match settings.type:
        case "counter":
            return Counter(settings.name, help_text, settings.labels)
        case "histogram":
            return Histogram(settings.name, help_text, settings.labels)
        case _:
            # An info metric of OpenMetrics loses `_info` in its name; the peers expose gauges.
            return Gauge(settings.name, help_text, settings.labels)


def row_limit(query: QuerySettings) -> int:
    """How many rows of a query may be read: one more says that a metric is over its limit."""
    if any(metric.buckets for metric in query.metrics):
        return 1_000_000  # a row is an observation, not a series
    return max(metric.max_series * (50 if metric.le else 1) for metric in query.metrics)


def figures(query: QuerySettings, metrics: Sequence[Metric], table: Table) -> Figures:
    """The samples of all metrics. Raises QueryFailed if the columns are not those of the config."""
    check_columns(query, table.columns)
    found = Figures(malformed=list(table.malformed))
    for settings, metric in zip(query.metrics, metrics, strict=True):
        rows = _labelled(settings, table, found)
        if settings.type == "histogram":
            samples = _histogram(settings, metric, rows, found)
            series = len({labels for _, labels, _ in rows})
        else:
            samples = _values(settings, metric, rows, found)
            series = len(samples)
        if table.is_cut or series > settings.max_series:
            found.limited[settings.name] = settings.max_series
        else:
            found.samples += samples
    return found


def check_columns(query: QuerySettings, columns: Sequence[str]) -> None:
    """Raises QueryFailed if the columns are not those that the metrics of the query need."""
    if twice := [column for column, count in Tally(columns).items() if count > 1]:
        raise QueryFailed(f"the query returns the column {twice[0]!r} more than once. Rename one with AS.")
    used: set[str] = set()
    for metric in query.metrics:
        needed = {*metric.labels, *([metric.le] if metric.le else [])}
        if metric.type != "info":
            needed.add(metric.value)
        if missing := sorted(needed - set(columns)):
            raise QueryFailed(
                f"the query of {metric.name} does not return the column {missing[0]!r}; "
                f"it returns: {', '.join(columns) or 'none'}. Change the query, or value and labels."
            )
        used |= needed | {"sum"} if metric.le else needed
    if unused := [column for column in columns if column not in used]:
        raise QueryFailed(
            f"no metric uses the column {unused[0]!r} of the query. Remove it, or add it to labels of "
            f"{query.metrics[0].name}."
        )


_Row = tuple[int, tuple[tuple[str, str], ...], dict[str, Value]]


def _labelled(settings: MetricSettings, table: Table, found: Figures) -> list[_Row]:
    """The rows with their number, from 1, and their labels. NULL is an empty label value."""
    rows = []
    for number, row in enumerate(table.rows, 1):
        values = dict(zip(table.columns, row, strict=True))
        rows.append((number, tuple((label, _text(values[label])) for label in settings.labels), values))
    if settings.type == "histogram":
        return rows
    counts = Tally(labels for _, labels, _ in rows)
    repeated = {labels for labels, count in counts.items() if count > 1}
    for number, labels, _ in rows:
        if labels in repeated:
            repeated.discard(labels)
            shown = ", ".join(f"{label}={value!r}" for label, value in labels) or "no labels"
            what = f"{settings.name}, row {number}: {counts[labels]} rows with the same labels"
            found.malformed.append(Malformed(what, shown[:_LONGEST_TEXT]))
    return [row for row in rows if counts[row[1]] == 1]


def _values(settings: MetricSettings, metric: Metric, rows: Iterable[_Row], found: Figures) -> list[Sample]:
    samples = []
    for number, labels, values in rows:
        figure = 1.0 if settings.type == "info" else _number(settings, number, settings.value, values, found)
        if figure is not None and settings.type == "counter" and figure < 0:
            found.malformed.append(Malformed(f"{settings.name}, row {number}: a counter below 0", f"{figure:g}"))
        elif figure is not None:
            samples.append(metric(figure, **dict(labels)))
    return samples


def _histogram(settings: MetricSettings, metric: Metric, rows: Iterable[_Row], found: Figures) -> list[Sample]:
    assert isinstance(metric, Histogram)
    groups: dict[tuple[tuple[str, str], ...], list[_Row]] = {}
    for row in rows:
        groups.setdefault(row[1], []).append(row)
    samples: list[Sample] = []
    for labels, members in groups.items():
        made = _of_counts(settings, members, found) if settings.le else _of_values(settings, members, found)
        if made is not None:
            samples += metric.cumulative(made[0], made[1], **dict(labels))
    return samples


def _of_values(settings: MetricSettings, rows: Iterable[_Row], found: Figures) -> tuple[dict[float, float], float]:
    observed = sorted(
        figure
        for number, _, values in rows
        if (figure := _number(settings, number, settings.value, values, found)) is not None
    )
    buckets, position = {}, 0
    for bound in (*settings.buckets, math.inf):
        while position < len(observed) and observed[position] <= bound:
            position += 1
        buckets[bound] = float(position)
    return buckets, sum(observed)


def _of_counts(
    settings: MetricSettings, rows: Iterable[_Row], found: Figures
) -> tuple[dict[float, float], float] | None:
    """Cumulative counts from cumulative ones. Without a bucket for +Inf, the largest one is it."""
    buckets: dict[float, float] = {}
    total = math.nan
    for number, _, values in rows:
        bound = _bound(_text(values[settings.le]))
        count = _number(settings, number, settings.value, values, found)
        if bound is None:
            found.malformed.append(
                Malformed(f"{settings.name}, row {number}: {settings.le}", _text(values[settings.le]))
            )
        elif count is not None and count < 0:
            found.malformed.append(Malformed(f"{settings.name}, row {number}: a count below 0", f"{count:g}"))
            return None  # without one bucket, the others would be wrong
        elif bound in buckets:
            found.malformed.append(Malformed(f"{settings.name}, row {number}: a repeated {settings.le}", f"{bound:g}"))
        elif count is not None:
            buckets[bound] = count
        if "sum" in values and (value := _number(settings, number, "sum", values, found)) is not None:
            total = value
    if not buckets:
        return None
    ordered = dict(sorted(buckets.items()))
    ordered.setdefault(math.inf, max(ordered.values()))
    return ordered, total


def _bound(text: str) -> float | None:
    try:
        bound = float(text)
    except ValueError:
        return None
    return None if math.isnan(bound) else bound


def _number(settings: MetricSettings, row: int, column: str, values: dict[str, Value], found: Figures) -> float | None:
    """The number in a column; None for NULL and, with a report, for anything that is not a number."""
    value = values[column]
    if value is None:
        return None
    figure = _as_number(value)
    if figure is None:
        found.malformed.append(Malformed(f"{settings.name}, row {row}: {column}", _text(value)[:_LONGEST_TEXT]))
    return figure


def _as_number(value: Value) -> float | None:
    """A number, a boolean, or a date or time as Unix seconds."""
    if isinstance(value, (bool, int, float, decimal.Decimal)):
        try:
            figure = float(value)
        except (OverflowError, ValueError):  # an integer over 308 digits, a signaling NaN
            return None
        return figure if math.isfinite(figure) else None
    if isinstance(value, datetime.datetime):
        return _seconds(value)
    if isinstance(value, datetime.date):
        return _seconds(datetime.datetime(value.year, value.month, value.day))
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    text = _text(value).strip()
    if text in ("t", "f"):
        return float(text == "t")
    try:
        figure = float(text)
        return figure if math.isfinite(figure) and "_" not in text else None  # `1_0` is a number for Python only
    except ValueError:
        pass
    try:
        return _seconds(datetime.datetime.fromisoformat(text))
    except ValueError:
        return None


def _seconds(moment: datetime.datetime) -> float:
    """Unix seconds. A time without a zone is in UTC."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()


def _text(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
