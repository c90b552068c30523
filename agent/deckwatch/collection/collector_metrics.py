"""Metrics about each collector: whether its last run succeeded, how long it took, how old its samples are.

They change with every run, so their lines are formatted directly, without samples and families.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deckwatch.metrics.declaration import Counter, Gauge, MetricPattern
from deckwatch.metrics.encoding import format_number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
    """The lines about one collector."""

    def __init__(self, name: str, part: str, target: str, scrape_prefix: str) -> None:
        def starts(metric: Metric, collector: str = name) -> tuple[str, str]:
            return line_starts(metric, collector, target)

        self.age = starts(AGE)
        self._figures: list[tuple[Metric, tuple[str, str], Callable[[LastRun], float | None]]] = [
            (SUCCESS, starts(SUCCESS), _succeeded),
            (LAST_SUCCESS, starts(LAST_SUCCESS), _last_success),
            (DURATION, starts(DURATION), _duration),
            (CPU, starts(CPU), _cpu),
            (SERIES, starts(SERIES), _series),
            (DROPPED, starts(DROPPED), _dropped),
            (PARSE_ERRORS, starts(PARSE_ERRORS), _parse_errors),
        ]
        if scrape_prefix:
            success, duration = PEER_SUCCESS.named(scrape_prefix), PEER_DURATION.named(scrape_prefix)
            self._figures += [
                (success, starts(success, part), _succeeded),
                (duration, starts(duration, part), _duration),
            ]
        self.metrics = tuple(metric for metric, _, _ in self._figures)

    def add_to(self, texts: dict[Metric, list[str]], run: LastRun, labelled: bool) -> None:
        """Add the lines about the collector to the texts of their metrics."""
        for metric, starts, figure in self._figures:
            value = figure(run)
            if value is not None:
                texts[metric].append(f"{starts[labelled]}{format_number(value)}\n")


def about(slots: Sequence[tuple[AboutLines, LastRun]], labelled: bool) -> dict[Metric, str]:
    """The lines about these collectors by metric; with the target label unless one target is served alone."""
    texts: dict[Metric, list[str]] = {metric: [] for lines, _ in slots for metric in lines.metrics}
    for lines, run in slots:
        lines.add_to(texts, run, labelled)
    return {metric: "".join(found) for metric, found in texts.items()}


def _succeeded(run: LastRun) -> float | None:
    if run.skipped or (run.snapshot is None and not run.overdue):
        return None  # not run, or the first run has not ended
    return int(run.snapshot is not None and not run.snapshot.error and not run.overdue)


def _last_success(run: LastRun) -> float | None:
    return run.last_success


def _duration(run: LastRun) -> float | None:
    return None if run.snapshot is None or run.overdue else run.snapshot.duration


def _cpu(run: LastRun) -> float | None:
    return round(run.cpu, 6)


def _series(run: LastRun) -> float | None:
    return None if run.snapshot is None or run.overdue else run.snapshot.series


def _dropped(run: LastRun) -> float | None:
    return None if run.snapshot is None or run.overdue else run.snapshot.dropped


def _parse_errors(run: LastRun) -> float | None:
    return None if run.snapshot is None or run.overdue else len(run.snapshot.malformed)
