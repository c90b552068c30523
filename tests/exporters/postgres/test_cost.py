"""The load of a cycle on the server, as counted by the server."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from databases import PostgresServer, postgres_server
from deckwatch.testing import Opened, opened
from deckwatch_exporters.postgres import EXPORTER
from services import until

if TYPE_CHECKING:
    from collections.abc import Iterator


CYCLES = 5
_OFF = {part: {"enabled": False} for part in ("tables", "statements", "slow_queries")}
_CALLS = """SELECT coalesce(sum(calls), 0) FROM pg_stat_statements JOIN pg_roles ON pg_roles.oid = userid
    WHERE toplevel AND rolname = 'monitor'"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server(autovacuum="off") as server:
        server.execute(
            "CREATE EXTENSION pg_stat_statements",
            "CREATE ROLE monitor LOGIN IN ROLE pg_monitor",
            "CREATE TABLE orders AS SELECT generate_series(1, 100000) AS n",
        )
        yield server


def _cycle(target: Opened) -> set[str]:
    collected = target.collect()
    assert not collected.errors
    return {sample.series.metric.name for sample in collected.samples}


@pytest.mark.parametrize(("settings", "statements"), [({}, 9), (_OFF, 6)], ids=["everything on", "the server alone"])
def test_a_steady_cycle_needs_fewer_statements_than_the_11_of_postgres_exporter(
    settings: dict[str, Any], statements: int, server: PostgresServer
) -> None:
    dsn = {"dsn": server.dsn(user="monitor")}
    with opened(EXPORTER, {**dsn, **settings}) as target:
        first = _cycle(target)
        server.value(_CALLS)
        for _ in range(4):  # until no statement is new, including this one and the queries for texts
            _cycle(target)
        before = server.value(_CALLS)
        steady = [_cycle(target) for _ in range(CYCLES)]
        calls = server.value(_CALLS) - before
    with opened(EXPORTER, {**dsn, **settings}) as target:
        expected = first & _cycle(target)  # without what a session that is ending shows once

    assert calls == CYCLES * statements
    assert not [expected - names for names in steady if not names >= expected]


def test_a_running_vacuum_is_exported_from_the_cycle_that_detects_it(server: PostgresServer) -> None:
    with opened(EXPORTER, {"dsn": server.dsn(user="monitor"), **_OFF}) as target:
        assert "pg_stat_progress_vacuum_phase" not in _cycle(target)
        with contextlib.closing(server.connect()) as connection:
            connection.execute("SET vacuum_cost_delay = 100")
            connection.execute("SET vacuum_cost_limit = 1")
            connection.pgconn.send_query(b"/* by hand */ vacuum orders")
            until(lambda: server.value("SELECT count(*) FROM pg_stat_progress_vacuum"))
            assert "pg_stat_progress_vacuum_phase" in _cycle(target)
            connection.cancel()
