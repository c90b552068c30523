"""When one job runs next: at its interval, aligned with the scraper, less often while it fails."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from deckwatch.collection.scrape_period import Beat

MAX_BACKOFF = 60.0  # seconds between two tries of what keeps failing, unless its interval is longer
_MARGIN = 0.25  # seconds between the expected end of a run and the scrape
_LONGEST_LEAD = 0.8  # of the period: a run that takes longer than that cannot be aligned


class Rhythm:
    """Plans the runs of one job.

    `interval` (seconds) holds while nobody scrapes. With a scraper every run ends shortly before one of its beats:
    at each beat, or several times between two where the period is longer than the interval. A `fixed` interval (one
    that the config gives this very target) is never undercut. `spread` (seconds) sets jobs apart from each other.
    """

    def __init__(
        self, interval: float, next_beat: Callable[[float], Beat | None], fixed: bool = False, spread: float = 0.0
    ) -> None:
        self.interval = interval
        self.fixed = fixed
        self._next_beat = next_beat
        self._spread = spread
        self._failures = 0
        self._duration = 0.0

    def ran(self, duration: float, ok: bool) -> None:
        """Take note of a run: its duration (seconds), and whether it succeeded."""
        self._failures = 0 if ok else self._failures + 1
        self._duration = max(duration, 0.8 * self._duration)  # a long run is remembered for some rounds

    @property
    def wanted_gap(self) -> float:
        """Seconds between two runs without a scraper: the interval, doubled with each failure after the first."""
        if self._failures < 2:
            return self.interval
        return max(self.interval, min(MAX_BACKOFF, self.interval * 2.0 ** min(self._failures - 1, 16)))

    def gap(self, now: float) -> float:
        """Seconds between two runs as things stand."""
        beat = self._next_beat(now)
        return self.wanted_gap if beat is None else self._aligned_gap(beat.period)

    def next_run(self, previous: float, now: float) -> float:
        """When (Unix seconds, after `now`) to run again after the run that was planned for `previous`."""
        beat = self._next_beat(now)
        if beat is None:
            due = previous + self.wanted_gap
            return due if due > now else now + self.wanted_gap
        gap = self._aligned_gap(beat.period)
        lead = min(self._duration + _MARGIN + self._spread, _LONGEST_LEAD * beat.period)
        step = min(gap, beat.period)
        earliest = max(now, previous + gap - step / 2)
        first = beat.at - lead
        return first + math.ceil((earliest - first) / step + 1e-9) * step

    def _aligned_gap(self, period: float) -> float:
        wanted = self.wanted_gap
        if period > wanted:
            return period / round(period / wanted)
        if self.fixed or self._failures >= 2:
            return math.ceil(wanted / period - 0.01) * period
        return period
