"""Slow queries of a real PostgreSQL: each is logged while it runs and when it ends, and counted once."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
import pytest

from databases import PostgresServer, postgres_server
from services import until
from watching import Watch, config, watching

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLOW = "postgres.slow_query"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        server.execute("CREATE EXTENSION pg_stat_statements")
        server.execute("CREATE TABLE orders AS SELECT generate_series(1, 100) AS n")
        yield server


@pytest.fixture(scope="module")
def watch(server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    """An agent with a threshold of 1 s that has read the server twice, so that new queries are counted."""
    with watching(tmp_path_factory.mktemp("agent"), config({"dsn": server.dsn()}, interval="500ms")) as watch:
        watch.cycles(2)
        yield watch


class Background(NamedTuple):
    """A session that runs statements, and the duration of each as measured by its client.

    The server's duration is never longer.
    """

    connection: psycopg.Connection[Any]
    seconds: list[float]


@contextlib.contextmanager
def background(server: PostgresServer, *statements: str, **options: Any) -> Iterator[Background]:
    """Run statements one after another in a separate session, in the background."""
    with server.connect(**options) as connection:
        session = Background(connection, [])

        def run() -> None:
            for statement in statements:
                began = time.monotonic()
                with contextlib.suppress(psycopg.Error):
                    connection.execute(statement.encode())
                session.seconds.append(time.monotonic() - began)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield session
        finally:
            thread.join(120)


@contextlib.contextmanager
def between_two_runs(watch: Watch) -> Iterator[None]:
    """Suspend the agent during the block."""
    watch.cycles(1)
    watch.program.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        watch.program.process.send_signal(signal.SIGCONT)


def counted(watch: Watch) -> tuple[float, float]:
    """Return the number of slow queries in the counter and in the histogram."""
    return watch.sum("pg_slow_queries_total"), watch.sum("pg_slow_query_duration_seconds_count")


def queryid(server: PostgresServer, like: str) -> str:
    """Return the queryid of the statement with this text."""
    query = f"SELECT queryid FROM pg_stat_statements WHERE query LIKE '{like}' AND query NOT LIKE '%queryid%'"
    return str(server.value(query))


def test_a_slow_query_is_logged_while_it_runs_and_when_it_ends(server: PostgresServer, watch: Watch) -> None:
    before = counted(watch)
    with background(
        server, "SELECT n, 'hunter2', pg_sleep(4) FROM orders WHERE n = 7 LIMIT 1", application_name="shop"
    ) as session:
        (running,) = until(lambda: watch.events(SLOW, application="shop", state="running"))
        assert until(lambda: watch.value("pg_slow_queries_running", datname="postgres")) == 1
        assert watch.events(SLOW, application="shop", state="finished") == []
    (finished,) = until(lambda: watch.events(SLOW, application="shop", state="finished"))
    watch.cycles(2)

    assert len(watch.events(SLOW, application="shop")) == 2
    assert running["queryid"] == finished["queryid"] == queryid(server, "%pg_sleep%FROM orders%")
    assert 1 <= running["duration_seconds"] < finished["duration_seconds"]
    assert 4 <= finished["duration_seconds"] <= session.seconds[0]
    assert (finished["calls"], finished["rows"]) == (1, 1)
    assert finished["blocks_hit"] + finished["blocks_read"] >= 1
    assert finished["temp_blocks_written"] == 0
    assert (finished["user"], finished["database"], finished["application"]) == ("postgres", "postgres", "shop")
    assert running["wait_event"] == "Timeout:PgSleep"
    assert running["query"] == "SELECT n, ?, pg_sleep(?) FROM orders WHERE n = ? LIMIT ?"
    assert "hunter2" not in watch.program.printed
    assert counted(watch) == (before[0] + 1, before[1] + 1)
    assert watch.value("pg_slow_queries_running", datname="postgres") == 0


def test_a_canceled_query_is_logged_as_ended_and_counted_once(server: PostgresServer, watch: Watch) -> None:
    before = counted(watch)
    with background(server, "SELECT 'cancelled', pg_sleep(600)", application_name="cancelled") as session:
        until(lambda: watch.events(SLOW, application="cancelled", state="running"))
        session.connection.cancel_safe()
    (finished,) = until(lambda: watch.events(SLOW, application="cancelled", state="finished"))
    watch.cycles(2)

    assert 1 <= finished["duration_seconds"] <= session.seconds[0]
    assert len(watch.events(SLOW, application="cancelled")) == 2
    assert counted(watch) == (before[0] + 1, before[1] + 1)


def test_a_query_of_a_terminated_session_is_logged_as_ended_and_counted_once(
    server: PostgresServer, watch: Watch
) -> None:
    before = counted(watch)
    with background(server, "SELECT 'killed', pg_sleep(600)", application_name="killed") as session:
        until(lambda: watch.events(SLOW, application="killed", state="running"))
        server.execute(f"SELECT pg_terminate_backend({session.connection.info.backend_pid})")
    until(lambda: watch.events(SLOW, application="killed", state="finished"))
    watch.cycles(2)

    assert len(watch.events(SLOW, application="killed")) == 2
    assert counted(watch) == (before[0] + 1, before[1] + 1)


def test_concurrent_runs_of_the_same_statement_are_each_counted_once(server: PostgresServer, watch: Watch) -> None:
    """Some are seen running, others start and end between two runs: each is counted once."""
    watch.cycles(3)  # queries that earlier tests have cancelled are counted
    before = counted(watch)
    lengths = (1.2, 1.4, 1.7, 2.0, 2.3, 2.6, 3.1)
    with contextlib.ExitStack() as stack:
        sessions = [
            stack.enter_context(
                background(server, f"SELECT pg_sleep({length}) AS together", application_name=f"together {number}")
            )
            for number, length in enumerate(lengths)
        ]
        # When the query of a closed session ended is unknown.
        until(lambda: counted(watch)[0] >= before[0] + len(lengths))
    watch.cycles(3)

    assert counted(watch) == (before[0] + len(lengths), before[1] + len(lengths))
    finished = [event for event in watch.events(SLOW, state="finished") if "application" in event]
    for number, length in enumerate(lengths):
        for event in finished:
            if event["application"] == f"together {number}":
                assert length <= event["duration_seconds"] <= sessions[number].seconds[0]


def test_consecutive_queries_of_a_session_have_separate_durations(server: PostgresServer, watch: Watch) -> None:
    with background(
        server, "SELECT 'first', 1, pg_sleep(3)", "SELECT 'second', pg_sleep(0.5)", application_name="busy"
    ) as session:
        pass
    (finished,) = until(lambda: watch.events(SLOW, application="busy", state="finished"))

    assert 3 <= finished["duration_seconds"] <= session.seconds[0]


def test_a_blocked_session_is_logged_once_with_its_blocker(server: PostgresServer, watch: Watch) -> None:
    blocked, began = "postgres.blocked", time.time()
    with server.connect(application_name="holder") as holder:
        holding = holder.info.backend_pid
        holder.execute("BEGIN")
        holder.execute("UPDATE orders SET n = 1001 WHERE n = 1 -- 'hunter2'")
        with background(server, "UPDATE orders SET n = 4711 WHERE n = 1", application_name="waiter") as waiter:
            pid = waiter.connection.info.backend_pid
            (event,) = until(lambda: watch.events(blocked, application="waiter"))
            assert watch.value("pg_blocked_sessions", datname="postgres") == 1
            since = watch.value("pg_blocked_sessions_oldest_timestamp_seconds", datname="postgres")
            watch.cycles(2)
            total = watch.value("pg_blocked_sessions_total", datname="postgres")
            holder.execute("ROLLBACK")
        until(lambda: watch.value("pg_blocked_sessions", datname="postgres") == 0)

    assert len(watch.events(blocked, application="waiter")) == 1
    assert event["pid"] == pid
    assert event["query"] == "UPDATE orders SET n = ? WHERE n = ?"
    assert event["wait_event"].startswith("Lock:")
    assert event["waiting_seconds"] >= 1
    (blocker,) = event["blocked_by"]
    assert blocker["pid"] == holding
    assert (blocker["application"], blocker["state"]) == ("holder", "idle in transaction")
    assert blocker["query"] == "UPDATE orders SET n = ? WHERE n = ?"
    assert since is not None
    assert began - 1 <= since <= time.time()
    assert total == 1
    assert watch.series("pg_blocked_sessions_oldest_timestamp_seconds", datname="postgres") == []


def test_a_query_that_runs_while_the_server_hangs_is_logged_once(server: PostgresServer, tmp_path: Path) -> None:
    target = {"dsn": server.dsn(), "timeout": "2s"}
    with (
        watching(tmp_path, config(target, interval="500ms")) as watch,
        background(server, "SELECT 'frozen', pg_sleep(6)", application_name="frozen"),
    ):
        until(lambda: watch.events(SLOW, application="frozen", state="running"))
        server.freeze()
        try:
            until(watch.is_down)
        finally:
            server.thaw()
        until(watch.is_up)
        until(lambda: watch.events(SLOW, application="frozen", state="finished"))
        watch.cycles(2)

        assert [event["state"] for event in watch.events(SLOW, application="frozen")] == ["running", "finished"]
        assert counted(watch) == (1, 1)


def test_a_query_between_two_runs_is_logged_from_pg_stat_statements(server: PostgresServer, tmp_path: Path) -> None:
    settings = config({"dsn": server.dsn()}, interval="2s", thresholds={"slow_query": "200ms"})
    with watching(tmp_path, settings) as watch:
        with between_two_runs(watch):
            server.execute("SELECT 'between', 42, pg_sleep(0.5)")
            server.execute("SELECT 'fast', 42, 42, pg_sleep(0.05)")
        (event,) = until(lambda: watch.events(SLOW, state="finished"))
        watch.cycles(1)

        assert len(watch.events(SLOW, state="finished")) == 1
        assert event["queryid"] == queryid(server, "SELECT $1, $2, pg_sleep($3)")
        took = server.value(f"SELECT max_exec_time FROM pg_stat_statements WHERE queryid = {event['queryid']}") / 1000
        assert took >= 0.5
        assert event["duration_seconds"] == pytest.approx(took, abs=1e-6)
        assert event["query"] == "SELECT $1, $2, pg_sleep($3)"
        assert (event["calls"], event["rows"]) == (1, 1)
        assert counted(watch) == (1, 1)
        assert watch.value("pg_slow_query_duration_seconds_bucket", le="10.0", user="postgres") == 1
        assert watch.value("pg_slow_query_duration_seconds_bucket", le="0.25", user="postgres") == 0
        assert watch.value("pg_slow_query_duration_seconds_sum", user="postgres") == pytest.approx(took)


def test_a_changed_threshold_takes_effect_on_reload(server: PostgresServer, tmp_path: Path) -> None:
    def settings(threshold: str) -> str:
        return config({"dsn": server.dsn()}, interval="500ms", thresholds={"slow_query": threshold})

    with watching(tmp_path, settings("1h")) as watch:
        watch.cycles(2)
        server.execute("SELECT 'before', 1, 2, 3, pg_sleep(0.3)")
        watch.cycles(2)
        assert watch.events(SLOW) == []

        watch.reload(settings("100ms"))
        until(lambda: watch.value("pg_exporter_scrapes_total") or 0)
        watch.cycles(2)
        with between_two_runs(watch), background(server, "SELECT 'after', 1, 2, 3, pg_sleep(0.3)") as session:
            pass
        (event,) = until(lambda: watch.events(SLOW, state="finished"))

        assert 0.3 <= event["duration_seconds"] <= session.seconds[0]


def test_a_flood_of_slow_queries_is_logged_in_part_and_counted_completely(
    server: PostgresServer, tmp_path: Path
) -> None:
    settings = config({"dsn": server.dsn()}, interval="2s", thresholds={"slow_query": "1ms"})
    with watching(tmp_path, settings) as watch:
        with between_two_runs(watch), server.connect() as connection:
            for number in range(250):
                connection.execute(f"SELECT {'1, ' * number} pg_sleep(0.002)".encode())
        until(lambda: counted(watch)[0] >= 250)

        assert counted(watch) == (250, 250)
        told = len(watch.events(SLOW))
        assert 0 < told <= 200  # 100 in each run; there may be two if one had already started
        assert watch.value("pg_slow_query_events_dropped_total") == 250 - told
