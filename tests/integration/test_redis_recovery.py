"""Restarts of a real server as seen by scrapes at a fixed period, with a fake scheduler clock."""

from __future__ import annotations

import itertools
import logging
import re
from typing import TYPE_CHECKING

import pytest

from databases import redis_server
from deckwatch.collection.board import Board, Selection
from deckwatch.collection.job import Job
from deckwatch.collection.run import SeriesBudget
from deckwatch.collection.run_times import RunTimes
from deckwatch.collection.scrape_period import ScrapePeriod
from exporters.redis.support import Target

if TYPE_CHECKING:
    from pathlib import Path

_INTERVAL = 15.0  # the default


class Agent:
    """One job, its schedule and the board, on a clock that advances as soon as nothing is left to do."""

    def __init__(self, target: Target, period: float) -> None:
        self.now = 1_700_000_000.0
        self._period = period
        self._scrapes = ScrapePeriod()
        self._next_scrape = self.now + 1.7
        self._board = Board(self._clock)
        run_times = RunTimes(_INTERVAL, self._scrapes.next_scrape)
        collectors = list(target.collectors.values())
        logger = logging.getLogger("deckwatch.collector")
        self._job = Job(
            "redis", collectors, SeriesBudget(20_000), run_times, self._board, logger, self._clock, _nothing
        )
        for named in collectors:
            self._board.add(named, "redis", "", self._job.valid_for(named))
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


@pytest.mark.parametrize("period", [5.0, 15.0])
@pytest.mark.parametrize("outage", [5.0, 70.0, 300.0])
def test_a_server_that_was_down_is_visible_within_a_period_and_five_seconds(
    period: float, outage: float, tmp_path: Path
) -> None:
    with redis_server(tmp_path) as server, Target(server.url, keys=["a"]) as target:
        with server.client() as client:
            client.set("a", 1)
        agent = Agent(target, period)
        before = agent.pass_time(120)
        assert all(scrape["redis_up"] == 1 and "redis_key_size" in scrape for _, scrape in before[1:])
        server.stop()
        stopped = agent.now
        down = agent.pass_time(outage)
        for at, scrape in down:
            if at > stopped + period:
                assert scrape["redis_up"] == 0
                assert not scrape.keys() & {"redis_memory_used_bytes", "redis_key_size", "redis_connected_clients"}
        server.start()
        with server.client() as client:
            client.set("a", 1)
        started = agent.now
        after = agent.pass_time(120)
        back = [(at, scrape) for at, scrape in after if at >= started + period + 5]
        assert len(back) > 5
        assert all(scrape["redis_up"] == 1 and "redis_key_size" in scrape for _, scrape in back)
        # Every scrape shows a newer run: the server counts the commands that each run sends.
        calls = [scrape["redis_commands_processed_total"] for _, scrape in after if scrape["redis_up"] == 1]
        assert all(later > earlier for earlier, later in itertools.pairwise(calls))
