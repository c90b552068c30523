"""When a job runs next: at its interval, aligned with the scraper, less often while its target cannot be reached."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from deckwatch.collection.scrape_period import ExpectedScrape

#: Longest time in seconds between two attempts to reach a target that is down, unless its interval or the scrape
#: period is longer: a target that comes back is visible within one period and this.
MAX_BACKOFF = 5.0
_MARGIN = 0.25  # seconds between the expected end of a run and the scrape
_LONGEST_LEAD = 0.8  # of the period: a run that takes longer than that cannot be aligned


class RunTimes:
    """Plans the runs of one job.

    Without a scraper, runs are `interval` (seconds) apart. With a scraper, every run ends shortly before an expected
    scrape: before each one, or several times between two of them where the period is longer than the interval. A
    `fixed` interval is never shortened.
    """

    def __init__(
        self,
        interval: float,
        next_scrape: Callable[[float], ExpectedScrape | None],
        fixed: bool = False,
    ) -> None:
        self.interval = interval
        self.fixed = fixed
        self._next_scrape = next_scrape
        self._failures = 0
        self._duration = 0.0

    def ran(self, duration: float, reached: bool) -> None:
        """Record a run: its duration in seconds, and whether its target could be reached."""
        self._failures = 0 if reached else self._failures + 1
        self._duration = max(duration, 0.8 * self._duration)  # a long run counts for some runs after it

    def gap(self, now: float) -> float:
        """Seconds between two runs at present."""
        return self._gap(self._next_scrape(now))

    def next_run(self, previous: float, now: float) -> float:
        """When (Unix seconds, after `now`) to run again after the run that was planned for `previous`."""
        scrape = self._next_scrape(now)
        gap = self._gap(scrape)
        if scrape is None:
            due = previous + gap
            return due if due > now else now + gap
        lead = min(self._duration + _MARGIN, _LONGEST_LEAD * scrape.period)
        step = min(gap, scrape.period)
        earliest = max(now, previous + gap - step / 2)
        first = scrape.at - lead
        return first + math.ceil((earliest - first) / step + 1e-9) * step

    def _gap(self, scrape: ExpectedScrape | None) -> float:
        gap = self.interval if scrape is None else self._aligned_gap(scrape.period)
        if self._failures < 2:
            return gap
        backoff = min(MAX_BACKOFF, gap * 2.0 ** min(self._failures - 1, 16))
        if scrape is not None:
            backoff = math.ceil(backoff / scrape.period - 0.01) * scrape.period
        return max(gap, backoff)

    def _aligned_gap(self, period: float) -> float:
        if period > self.interval:
            return period / round(period / self.interval)
        return math.ceil(self.interval / period - 0.01) * period if self.fixed else period
