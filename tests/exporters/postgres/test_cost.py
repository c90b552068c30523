"""What a cycle costs the server, counted by the server itself."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

import pytest

from databases import PostgresServer, postgres_server
from deckwatch.exporter import Context
from deckwatch_exporters.postgres import open_server
from deckwatch_exporters.postgres.settings import PostgresSettings
from services import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Probe

CYCLES = 5
_CONTEXT = Context(thresholds={"slow_query": 1.0}, logger=logging.getLogger("test"))
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


def _open(server: PostgresServer, settings: dict[str, Any]) -> list[Probe]:
    return open_server(PostgresSettings.model_validate({"dsn": server.dsn(user="monitor"), **settings}), _CONTEXT)


def _cycle(probes: list[Probe]) -> set[str]:
    return {sample.series.metric.name for probe in probes for sample in probe.collector.collect()}


@pytest.mark.parametrize(("settings", "statements"), [({}, 9), (_OFF, 6)], ids=["everything on", "the server alone"])
def test_a_steady_cycle_takes_fewer_statements_than_the_11_of_postgres_exporter(
    settings: dict[str, Any], statements: int, server: PostgresServer
) -> None:
    probes = _open(server, settings)
    try:
        first = _cycle(probes)
        server.value(_CALLS)
        for _ in range(4):  # until no statement is new any more, this one and those that ask for texts included
            _cycle(probes)
        before = server.value(_CALLS)
        steady = [_cycle(probes) for _ in range(CYCLES)]
        calls = server.value(_CALLS) - before
    finally:
        for probe in probes:
            probe.close()

    assert calls == CYCLES * statements
    assert all(names >= first for names in steady)


def test_a_vacuum_is_followed_from_the_cycle_on_that_finds_it_running(server: PostgresServer) -> None:
    probes = _open(server, _OFF)
    try:
        assert "pg_stat_progress_vacuum_phase" not in _cycle(probes)
        with contextlib.closing(server.connect()) as connection:
            connection.execute("SET vacuum_cost_delay = 100")
            connection.execute("SET vacuum_cost_limit = 1")
            connection.pgconn.send_query(b"/* by hand */ vacuum orders")
            until(lambda: server.value("SELECT count(*) FROM pg_stat_progress_vacuum"), 10)
            assert "pg_stat_progress_vacuum_phase" in _cycle(probes)
            connection.cancel()
    finally:
        for probe in probes:
            probe.close()
