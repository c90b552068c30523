"""Restarts of a real server as seen by scrapes at a fixed period, with a fake scheduler clock."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from databases import redis_server
from exporters.redis.support import Target
from stepped_agent import SteppedAgent

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("period", [5.0, 15.0])
@pytest.mark.parametrize("outage", [5.0, 70.0, 300.0])
def test_a_server_that_was_down_is_visible_within_a_period_and_five_seconds(
    period: float, outage: float, tmp_path: Path
) -> None:
    with redis_server(tmp_path) as server, Target(server.url, keys=["a"]) as target:
        with server.client() as client:
            client.set("a", 1)
        agent = SteppedAgent("redis", list(target.collectors.values()), period)
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
