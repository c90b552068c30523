"""Restarts of a real PostgreSQL server as seen by scrapes at a fixed period, with a fake scheduler clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from databases import PostgresServer, postgres_server
from deckwatch.testing import opened
from deckwatch_exporters.postgres import EXPORTER
from stepped_agent import SteppedAgent

if TYPE_CHECKING:
    from collections.abc import Iterator

#: One figure of each kind of query.
FIGURES = {"pg_stat_database_xact_commit", "pg_stat_statements_entries", "pg_database_size_bytes"}


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        server.execute("CREATE EXTENSION pg_stat_statements")
        yield server


@pytest.mark.parametrize("period", [5.0, 15.0])
@pytest.mark.parametrize("outage", [5.0, 70.0, 300.0])
def test_a_server_that_was_down_is_visible_within_a_period_and_five_seconds(
    period: float, outage: float, server: PostgresServer
) -> None:
    with opened(EXPORTER, {"dsn": server.dsn()}) as target:
        agent = SteppedAgent("postgres", list(target.collectors.values()), period)
        before = agent.pass_time(120)
        assert all(scrape["pg_up"] == 1 and scrape.keys() >= FIGURES for _, scrape in before[1:])
        server.stop()
        try:
            stopped = agent.now
            for at, scrape in agent.pass_time(outage):
                if at > stopped + period:
                    assert scrape["pg_up"] == 0
                    assert not scrape.keys() & FIGURES
        finally:
            server.start()
        started = agent.now
        back = [scrape for at, scrape in agent.pass_time(120) if at >= started + period + 5]
    assert len(back) > 5
    assert all(scrape["pg_up"] == 1 and scrape.keys() >= FIGURES for scrape in back)
