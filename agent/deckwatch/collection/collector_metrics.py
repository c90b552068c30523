"""Metrics about each collector: whether its last run succeeded, how long it took, how old its samples are.

They change with every run, so their lines are formatted directly, without samples and families, and all lines of a
metric at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deckwatch.metrics.declaration import Counter, Gauge, MetricPattern
from deckwatch.metrics.encoding import format_numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deckwatch.collection.run import Snapshot
    from deckwatch.metrics.declaration import Metric

SUCCESS = Gauge(
    "deckwatch_collector_success",
    "Whether the collector's last run succeeded (1) or failed or timed out (0).",
    ["collector"],
)
DURATION = Gauge(
    "deckwatch_collector_duration_seconds", "Duration of the collector's last run, in seconds.", ["collector"]
)
CPU = Counter(
    "deckwatch_collector_cpu_seconds_total",
    "CPU time used by the collector's runs, in seconds, without threads that it starts.",
    ["collector"],
)
LAST_SUCCESS = Gauge(
    "deckwatch_collector_last_success_timestamp_seconds",
    "Time when the collector's last successful run ended, in Unix seconds.",
    ["collector"],
)
SERIES = Gauge("deckwatch_series", "Number of series in the collector's last snapshot.", ["collector"])
DROPPED = Gauge(
    "deckwatch_series_dropped",
    "Number of series that the collector's last run dropped because of max_series.",
    ["collector"],
)
PARSE_ERRORS = Gauge(
    "deckwatch_collector_parse_errors",
    "Number of values that the collector's last run could not parse.",
    ["collector"],
)
AGE = Gauge(
    "deckwatch_snapshot_age_seconds", "Age of the collector's snapshot when it was served, in seconds.", ["collector"]
)
# The first two as the peers name them; `collector` lacks the exporter's name.
PEER_SUCCESS = MetricPattern(
    "*_scrape_collector_success", "gauge", "Whether the collector's last run succeeded.", ("collector",)
)
PEER_DURATION = MetricPattern(
    "*_scrape_collector_duration_seconds", "gauge", "Duration of the collector's last run, in seconds.", ("collector",)
)


@dataclass
class LastRun:
    """What is known of a collector's last run.

    It is `overdue` when a newer run should have ended by now, and `skipped` while its target cannot be reached.
    """

    snapshot: Snapshot | None = None
    last_success: float | None = None
    cpu: float = 0.0  # seconds, of all runs
    overdue: bool = False
    skipped: bool = False


def line_starts(metric: Metric, collector: str, target: str) -> tuple[str, str]:
    """The beginning of a collector's line: without the target label, and with it."""
    series = metric(0, collector=collector).series
    return series.text, series.text_for(target) if target else series.text


class AboutLines:
    """The beginnings of the lines about one collector, each without the target label and with it."""

    def __init__(self, name: str, part: str, target: str, scrape_prefix: str) -> None:
        def starts(metric: Metric, collector: str = name) -> tuple[str, str]:
            return line_starts(metric, collector, target)

        self.age = starts(AGE)
        self.figures = [starts(metric) for metric in _FIGURES]
        self.peers: dict[Metric, tuple[int, tuple[str, str]]] = {}  # with the number of the figure
        if scrape_prefix:
            for metric, figure in ((PEER_SUCCESS, SUCCESS), (PEER_DURATION, DURATION)):
                named = metric.named(scrape_prefix)
                self.peers[named] = (_FIGURES.index(figure), starts(named, part))


def about(slots: Sequence[tuple[AboutLines, LastRun]], labelled: bool) -> dict[Metric, str]:
    """The lines about these collectors by metric; with the target label unless one target is served alone."""
    rows = [_figures(run) for _, run in slots]
    texts: dict[Metric, str] = {}
    for number, values in enumerate(zip(*rows, strict=True)):
        texts[_FIGURES[number]] = _lines([lines.figures[number][labelled] for lines, _ in slots], values)
    peers: dict[Metric, tuple[list[str], list[float | None]]] = {}
    for (lines, _), row in zip(slots, rows, strict=True):
        for metric, (number, starts) in lines.peers.items():
            column = peers.setdefault(metric, ([], []))
            column[0].append(starts[labelled])
            column[1].append(row[number])
    return texts | {metric: _lines(starts, values) for metric, (starts, values) in peers.items()}


def _lines(starts: Sequence[str], values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        starts = [start for start, value in zip(starts, values, strict=True) if value is not None]
    lines = map(str.__add__, starts, format_numbers(known))
    return "\n".join([*lines, ""])


_FIGURES = (SUCCESS, LAST_SUCCESS, DURATION, CPU, SERIES, DROPPED, PARSE_ERRORS)


def _figures(run: LastRun) -> tuple[float | None, ...]:
    """The values of `_FIGURES`; None where there is none."""
    snapshot, last_success, cpu = run.snapshot, run.last_success, round(run.cpu, 6)
    if run.overdue:
        return None if run.skipped else 0, last_success, None, cpu, None, None, None
    if snapshot is None:  # not run, or the first run has not ended
        return None, last_success, None, cpu, None, None, None
    return (
        int(not snapshot.error),
        last_success,
        snapshot.duration,
        cpu,
        snapshot.series,
        snapshot.dropped,
        len(snapshot.malformed),
    )
