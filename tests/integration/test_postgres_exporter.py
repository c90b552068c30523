"""Comparison with the real postgres_exporter: the same names, types, labels and values."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from comparison import (
    Exposed,
    Tolerance,
    as_release,
    collected_since,
    differences,
    different_values,
    exposed,
    missing_series,
    named,
)
from databases import PostgresServer, postgres_exporter, postgres_program, postgres_server
from peers.refresh import table
from services import Program, agent, fetch, until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PostgresServer, Program, Program]]:
    """A server after some load, the peer, and the agent."""
    folder = tmp_path_factory.mktemp("postgres")
    with postgres_server(track_io_timing="on", wal_level="logical") as server:
        server.execute(
            "CREATE EXTENSION pg_stat_statements",
            "CREATE DATABASE shop",
            "CREATE ROLE monitor LOGIN IN ROLE pg_monitor CONNECTION LIMIT 5",
            "SELECT pg_create_physical_replication_slot('standby', true)",
        )
        pgbench = [postgres_program("pgbench"), "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", "shop"]
        subprocess.run([*pgbench, "-i", "-q"], check=True, capture_output=True)
        subprocess.run([*pgbench, "-t", "50", "-c", "2"], check=True, capture_output=True)
        config = (
            "interval: 1s\n"
            "exporters:\n"
            "  postgres:\n"
            f"    - {{name: main, dsn: 'postgresql://monitor@127.0.0.1:{server.port}/postgres',"
            " databases: all, databases_interval: 1s}\n"
        )
        with postgres_exporter(folder, server.dsn()) as peer, agent(folder, config) as ours:
            until(lambda: "pgbench_accounts" in ours.metrics(), what="the tables of the other database")
            until(lambda: "pg_exporter_last_scrape_error" in ours.metrics(), what="a second cycle")
            yield server, peer, ours


#: About the peer's own process or session: its driver sets extra_float_digits.
OF_THE_PEER = ("pg_exporter_", "pg_scrape_collector_", "pg_settings_extra_float_digits")


OF_THE_SERVER = named("pg_", OF_THE_PEER)
MAIN = table("postgres_exporter")


def _ours(program: Program, peer: Exposed) -> Exposed:
    return as_release(exposed(fetch(program.url + "/metrics?target=main")[1]), peer, MAIN)


def test_every_metric_of_postgres_exporter_is_exported_with_its_type_and_label_names(
    three: tuple[PostgresServer, Program, Program],
) -> None:
    _, peer, ours = three
    theirs = exposed(peer.metrics())
    problems = differences(theirs, _ours(ours, theirs), named("pg_"))
    assert not problems, "\n".join(problems)


def test_every_series_of_postgres_exporter_is_exported(three: tuple[PostgresServer, Program, Program]) -> None:
    _, peer, ours = three
    theirs = exposed(peer.metrics())
    missing = missing_series(theirs, _ours(ours, theirs), OF_THE_SERVER)
    assert not missing, "\n".join(missing)


def test_stable_series_have_the_same_values_as_in_postgres_exporter(
    three: tuple[PostgresServer, Program, Program],
) -> None:
    _, peer, ours = three
    before = exposed(peer.metrics())
    mine = collected_since(time.time(), lambda: _ours(ours, before))
    after = exposed(peer.metrics())
    # Each exporter excludes its own session and locks.
    tolerances = {
        "pg_stat_activity_count": Tolerance(absolute=2.0),
        "pg_stat_activity_max_tx_duration": Tolerance(absolute=1.0),
        "pg_locks_count": Tolerance(absolute=2.0),
        "pg_stat_database_numbackends": Tolerance(absolute=1.0),
    }
    compared, different = different_values(before, after, mine, OF_THE_SERVER, tolerances)
    assert compared > 300
    assert not different, "\n".join(different.values())


def test_the_tables_of_every_database_are_exported(three: tuple[PostgresServer, Program, Program]) -> None:
    server, _, ours = three
    series = _ours(ours, {})["pg_stat_user_tables_n_tup_ins"][1]
    inserted = {dict(labels)["relname"]: value for (_, labels), value in series.items()}
    assert inserted["pgbench_accounts"] == server.value(
        "SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'pgbench_accounts'", "shop"
    )
