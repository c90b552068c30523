"""What the board tells of each probe: whether its last run succeeded, how long it took, how old its samples are.

These lines change with every run. They are written straight away, without samples and families in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exposition import format_number
from deckwatch.metric import MetricPattern, gauge

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from deckwatch.board import Slot
    from deckwatch.metric import Metric

SUCCESS = gauge(
    "deckwatch_collector_success",
    "Whether the collector's last run succeeded; 0 also when none ended in time.",
    ["collector"],
)
DURATION = gauge(
    "deckwatch_collector_duration_seconds", "Duration of the collector's last run, in seconds.", ["collector"]
)
LAST_SUCCESS = gauge(
    "deckwatch_collector_last_success_timestamp_seconds",
    "When the collector's last successful run ended, in Unix seconds.",
    ["collector"],
)
SERIES = gauge("deckwatch_series", "Series in the collector's last snapshot.", ["collector"])
DROPPED = gauge(
    "deckwatch_series_dropped", "Series that the collector's last run yielded over the series budget.", ["collector"]
)
AGE = gauge(
    "deckwatch_snapshot_age_seconds", "Age of the collector's snapshot when it was served, in seconds.", ["collector"]
)
# The peers' own spelling of the first two, `collector` without the exporter's name.
PEER_SUCCESS = MetricPattern(
    "*_scrape_collector_success", "gauge", "Whether the collector's last run succeeded.", ("collector",)
)
PEER_DURATION = MetricPattern(
    "*_scrape_collector_duration_seconds", "gauge", "Duration of the collector's last run, in seconds.", ("collector",)
)


def line_starts(metric: Metric, collector: str, target: str) -> tuple[str, str]:
    """What the line of one probe begins with: without the target label, and with it."""
    series = metric(0, collector=collector).series
    return series.text, series.text_for(target) if target else series.text


class AboutLines:
    """The lines about one probe; made once for it."""

    def __init__(self, name: str, part: str, target: str, scrape_prefix: str) -> None:
        def starts(metric: Metric, collector: str = name) -> tuple[str, str]:
            return line_starts(metric, collector, target)

        self.age = starts(AGE)
        self._figures: list[tuple[Metric, tuple[str, str], Callable[[Slot], float | None]]] = [
            (SUCCESS, starts(SUCCESS), _succeeded),
            (LAST_SUCCESS, starts(LAST_SUCCESS), _last_success),
            (DURATION, starts(DURATION), _duration),
            (SERIES, starts(SERIES), _series),
            (DROPPED, starts(DROPPED), _dropped),
        ]
        if scrape_prefix:
            success, duration = PEER_SUCCESS.named(scrape_prefix), PEER_DURATION.named(scrape_prefix)
            self._figures += [
                (success, starts(success, part), _succeeded),
                (duration, starts(duration, part), _duration),
            ]
        self.metrics = tuple(metric for metric, _, _ in self._figures)

    def add_to(self, texts: dict[Metric, list[str]], slot: Slot, labelled: bool) -> None:
        """Add the lines about the probe in `slot`, by metric."""
        for metric, starts, figure in self._figures:
            value = figure(slot)
            if value is not None:
                texts[metric].append(f"{starts[labelled]}{format_number(value)}\n")


def about(slots: Sequence[Slot], labelled: bool) -> dict[Metric, str]:
    """By metric the lines about all of these probes; with the target label unless one target is served alone."""
    texts: dict[Metric, list[str]] = {metric: [] for slot in slots for metric in slot.about.metrics}
    for slot in slots:
        slot.about.add_to(texts, slot, labelled)
    return {metric: "".join(lines) for metric, lines in texts.items()}


def _succeeded(slot: Slot) -> float | None:
    if slot.snapshot is None and not slot.overdue:
        return None  # its first run is under way
    return int(slot.snapshot is not None and not slot.snapshot.error and not slot.overdue)


def _last_success(slot: Slot) -> float | None:
    return slot.last_success


def _duration(slot: Slot) -> float | None:
    return None if slot.snapshot is None or slot.overdue else slot.snapshot.duration


def _series(slot: Slot) -> float | None:
    return None if slot.snapshot is None or slot.overdue else slot.snapshot.series


def _dropped(slot: Slot) -> float | None:
    return None if slot.snapshot is None or slot.overdue else slot.snapshot.dropped
