"""Collectors on a fake clock that advances as soon as nothing is left to do, and a scraper with a fixed period."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from deckwatch.collection.board import Board, Selection
from deckwatch.collection.job import Job
from deckwatch.collection.run import SeriesBudget
from deckwatch.collection.run_times import RunTimes
from deckwatch.collection.scrape_period import ScrapePeriod

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deckwatch.collection.run import NamedCollector

_INTERVAL = 15.0  # the default


class SteppedAgent:
    """One job, its schedule and the board, on a clock that advances as soon as nothing is left to do."""

    def __init__(self, exporter: str, collectors: Sequence[NamedCollector], period: float) -> None:
        self.now = 1_700_000_000.0
        self._period = period
        self._scrapes = ScrapePeriod()
        self._next_scrape = self.now + 1.7
        self._board = Board(self._clock)
        run_times = RunTimes(_INTERVAL, self._scrapes.next_scrape)
        logger = logging.getLogger("deckwatch.collector")
        self._job = Job(
            exporter, collectors, SeriesBudget(20_000), run_times, self._board, logger, self._clock, _nothing
        )
        for named in collectors:
            self._board.add(named, exporter, "", self._job.valid_for(named))
        self._job.next_run = self.now

    def _clock(self) -> float:
        return self.now

    def pass_time(self, seconds: float) -> list[tuple[float, dict[str, float]]]:
        """Return the time and the unlabeled series of each scrape in the next seconds."""
        end = self.now + seconds
        scraped = []
        while (event := min(self._job.next_run, self._next_scrape)) <= end:
            self.now = event
            if event == self._next_scrape:
                self._next_scrape += self._period
                self._scrapes.arrival("prometheus", event)
                text = self._board.render(Selection(), openmetrics=False, compress=False).decode()
                scraped.append(
                    (event, {name: float(value) for name, value in re.findall(r"^(\w+).* (\S+)$", text, re.M)})
                )
            else:
                # As the scheduler does.
                self._job.plan()
                if self._job.run():
                    self._job.plan()
        self.now = end
        return scraped


def _nothing() -> None: ...
