"""The SQL of the runbooks, on a primary and a standby of each installed PostgreSQL in the state of the alerts."""

from __future__ import annotations

import contextlib
import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from databases import PostgresServer, postgres_server, postgres_standby
from server_versions import POSTGRES, postgres_programs
from services import until

from .runbook_texts import RUNBOOKS, blocks, statements

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What the runbooks name. The role `monitor` is the agent's: a member of pg_monitor.
_OBJECTS = (
    "CREATE ROLE monitor LOGIN",
    "GRANT pg_monitor TO monitor",
    "CREATE ROLE web LOGIN",
    "CREATE TABLE your_table (id serial PRIMARY KEY, note text)",
    "INSERT INTO your_table (note) SELECT repeat('x', 1000) FROM generate_series(1, 2000)",
    "ALTER TABLE your_table SET (autovacuum_enabled = off)",
    "DELETE FROM your_table WHERE id % 2 = 0",
    "CREATE TABLE locked (id int)",
    "CREATE INDEX your_index ON your_table (note)",
    "CREATE SEQUENCE your_sequence AS integer",
    "SELECT pg_create_physical_replication_slot('your_slot', true)",
    "CREATE SUBSCRIPTION your_subscription CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false)",
)
#: Queries without a row in this state, by what is in them, and why.
_EMPTY = {"checksum_failures > 0": "no page is damaged"}


@dataclass(frozen=True)
class Pair:
    primary: PostgresServer
    standby: PostgresServer


@pytest.fixture(scope="module", params=[version for version in POSTGRES if postgres_programs(version)])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    settings = {"max_prepared_transactions": "5"}
    with (
        postgres_server(postgres_programs(request.param), **settings) as primary,
        postgres_standby(primary, "standby", **settings) as standby,
    ):
        primary.execute(*_OBJECTS)
        now = primary.value("SELECT pg_current_wal_lsn()")
        until(lambda: standby.value(f"SELECT pg_last_wal_replay_lsn() >= '{now}'"), what="the standby")
        yield Pair(primary, standby)


def _in_background(server: PostgresServer, name: str, *texts: str) -> threading.Thread:
    """Run statements that wait, in a session with this name, until it is terminated."""

    def run() -> None:
        with contextlib.suppress(psycopg.Error), server.connect(application_name=name) as connection:
            for text in texts:
                connection.execute(text.encode())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


@contextlib.contextmanager
def _disturbed(pair: Pair) -> Iterator[None]:
    """A lock wait, a session idle in a transaction, a prepared transaction, a vacuum, and a query on the standby."""
    with (
        pair.primary.connect(application_name="holder") as holder,
        pair.primary.connect() as preparing,
        pair.standby.connect(application_name="report") as report,
    ):
        holder.execute("BEGIN; LOCK TABLE locked; SELECT txid_current()")
        preparing.execute("BEGIN; SELECT txid_current(); PREPARE TRANSACTION 'your_gid'")
        report.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM your_table")
        threads = [
            _in_background(pair.primary, "waiter", "SELECT * FROM locked"),
            _in_background(
                pair.primary,
                "vacuum",
                "SET vacuum_cost_delay = 100",
                "SET vacuum_cost_limit = 1",
                "VACUUM your_table",
            ),
        ]
        for query in (
            "SELECT count(*) FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0",
            "SELECT count(*) FROM pg_stat_progress_vacuum",
        ):
            until(lambda query=query: pair.primary.value(query) == 1, what=query)  # type: ignore[misc]
        try:
            yield
        finally:
            ended = (
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name IN ('waiter', 'vacuum')"
            )
            pair.primary.execute(ended, "ROLLBACK PREPARED 'your_gid'")
            for thread in threads:
                thread.join(60)


def _diagnosis() -> list[tuple[str, str]]:
    return [
        (path.stem, query.strip())
        for path in RUNBOOKS
        for block in blocks(path, "sql")
        for query in block.split(";")[:-1]
    ]


def test_every_diagnostic_query_finds_the_state_on_a_primary_and_runs_on_a_standby(pair: Pair) -> None:
    found: dict[str, list[Any]] = {}
    with _disturbed(pair):
        for server in (pair.primary, pair.standby):
            # No query may wait for the locks that it is about.
            with server.connect(user="monitor", options="-c lock_timeout=10s") as connection:
                for name, query in _diagnosis():
                    recent = query.replace("interval '1 hour'", "interval '0'")
                    rows = connection.execute(recent.encode()).fetchall()
                    found.setdefault(f"{name}: {query}", []).extend(rows)
    assert len(found) > 20
    empty = [query for query, rows in found.items() if not rows and not any(part in query for part in _EMPTY)]
    assert not empty, "\n".join(empty)
    for name, expected in {
        "PostgresBlockedSessions": "FROM locked.*idle in transaction.*LOCK TABLE locked",
        "PostgresIdleInTransaction": "holder.*LOCK TABLE locked",
        "PostgresLongTransaction": "holder",
        "PostgresSlotInactive": "your_slot.*False.*bytes|kB",
        "PostgresSlowQueries": "waiter.*Lock|Lock.*locked",
        "PostgresStandbyMissing": "second.*streaming",
        "PostgresDeadTuples": "your_table.*vacuuming|scanning",
        "PostgresWraparoundNear": "your_gid",
        "PostgresReplicationLag": "streaming",
    }.items():
        rows = [row for query, them in found.items() if query.startswith(f"{name}:") for row in them]
        assert re.search(expected, str(rows), re.DOTALL), f"{name}: {rows}"


def test_every_other_statement_works(pair: Pair) -> None:
    """As a superuser, on the primary or, if it is about a standby, there."""
    texts = list(dict.fromkeys(text for path in RUNBOOKS for text in statements(path)))
    assert len(texts) > 40
    texts.sort(key=lambda text: "pg_promote" in text)  # it ends the pair
    for text in texts:
        server = pair.standby if re.search(r"pg_promote|pg_wal_replay_resume", text) else pair.primary
        if "idle_session_timeout" in text and pair.primary.value("SHOW server_version_num") < "140000":
            continue  # the runbook names the version
        with server.connect(application_name="client") as client, server.connect() as connection:
            if "PREPARED" in text:
                client.execute("BEGIN; SELECT txid_current(); PREPARE TRANSACTION 'your_gid'")
            if "replay_resume" in text:
                connection.execute("SELECT pg_wal_replay_pause()")
            connection.execute(text.replace("12345", str(client.info.backend_pid)).encode())
    until(lambda: not pair.standby.value("SELECT pg_is_in_recovery()"), what="the promotion")
