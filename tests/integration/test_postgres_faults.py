"""Faults of real PostgreSQL servers and of the connection: the agent keeps running and reports them."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from databases import PostgresServer, postgres_program, postgres_server
from deckwatch_exporters.clients.libpq import QueryError, Session
from pgbouncer_server import PASSWORDS, pgbouncer_server
from services import deckwatch_command, fetch, free_port, until
from watching import Watch, config, fallen, watching

if TYPE_CHECKING:
    from collections.abc import Iterator

OURS = "application_name = 'deckwatch'"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """Shared: a test that stops the server also restarts it."""
    with postgres_server() as server:
        server.execute(
            "CREATE EXTENSION pg_stat_statements", "CREATE TABLE orders AS SELECT generate_series(1, 9) AS n"
        )
        server.execute("CREATE ROLE monitor LOGIN PASSWORD 'right-secret'", "GRANT pg_monitor TO monitor")
        yield server


@pytest.fixture
def watch(server: PostgresServer, tmp_path: Path) -> Iterator[Watch]:
    """An agent that has collected from the shared server."""
    with watching(tmp_path, config({"dsn": server.dsn(), "timeout": "1s"})) as watch:
        until(watch.is_up)
        until(lambda: watch.series("pg_stat_statements_entries"))
        yield watch


def sessions(server: PostgresServer) -> int:
    return int(server.value(f"SELECT count(*) FROM pg_stat_activity WHERE {OURS}"))


def check(folder: Path, config: str) -> subprocess.CompletedProcess[str]:
    (folder / "deckwatch.yml").write_text(config)
    return subprocess.run(
        deckwatch_command("check"), cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


def assert_nothing_but_down(watch: Watch, target: str = "main") -> None:
    """Assert that `pg_up` is 0, all collectors of the target fail, and the rest of the agent works."""
    assert watch.of_target(target) == {"pg_up"}
    assert watch.sum("deckwatch_collector_success", target=target) == 0
    assert watch.value("node_load1") is not None
    assert watch.value("deckwatch_collector_success", collector="system.loadavg") == 1


def test_a_server_that_is_down_at_startup_is_monitored_once_it_is_up(tmp_path: Path, server: PostgresServer) -> None:
    server.stop()
    try:
        with watching(tmp_path, config({"dsn": server.dsn()})) as watch:
            until(watch.is_down)
            assert_nothing_but_down(watch)
            assert "Connection refused" in watch.errors()["postgres.server"]

            server.start()
            until(watch.is_up)
            until(lambda: {"pg_stat_database_xact_commit", "pg_stat_statements_entries"} <= watch.of_target())
            assert watch.failing() == set()
    finally:
        if server.process is None:
            server.start()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_stopped_server_is_down_and_monitored_again_after_a_restart(
    how: str, server: PostgresServer, watch: Watch
) -> None:
    if how == "stop":
        server.stop()
    else:
        assert server.process is not None
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        server.process = None
    until(watch.is_down)
    until(lambda: watch.of_target() == {"pg_up"})
    assert_nothing_but_down(watch)

    # After a kill, orphaned backends hold the shared memory for a moment.
    until(lambda: _starts(server), what="the server's start")
    until(watch.is_up)
    until(lambda: watch.failing() == set())
    until(lambda: sessions(server) == 1)
    assert len(watch.events("collector.failing", target="main")) == 1
    assert len(watch.events("collector.recovered", target="main")) == 1


def _starts(server: PostgresServer) -> bool:
    try:
        server.start()
    except AssertionError:
        server.process = None
        return False
    return True


def test_a_hung_server_delays_no_scrape_and_accumulates_no_connections(server: PostgresServer, watch: Watch) -> None:
    agent = psutil.Process(watch.program.process.pid)
    runs, connections = set(), set()

    def look() -> None:
        assert fetch(watch.program.url + "/metrics")[0] == 200
        runs.add(watch.last_run("postgres.server"))
        connections.add(sum(bool(it.raddr) and it.raddr.port == server.port for it in agent.net_connections("tcp")))

    server.freeze()
    try:
        until(lambda: look() or watch.of_target() <= {"pg_up"}, what="the server being found hung")  # type: ignore[func-returns-value]
        runs.clear()
        until(lambda: look() or len(runs) > 3, what="three more runs")  # type: ignore[func-returns-value]
        until(watch.is_down)
        assert_nothing_but_down(watch)
    finally:
        server.thaw()
    after = []
    until(lambda: after.append(sessions(server)) or watch.is_up())  # type: ignore[func-returns-value]
    until(lambda: watch.failing() == set())
    watch.cycles(1)

    assert max(connections) <= 2
    assert max(after) <= 2
    assert sessions(server) == 1


def test_a_terminated_session_is_reopened_without_a_failure(server: PostgresServer, watch: Watch) -> None:
    made = watch.value("pg_exporter_connections_total") or 0
    server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}")
    until(lambda: watch.value("pg_exporter_connections_total") == made + 1)
    watch.cycles(1)

    assert sessions(server) == 1
    assert "is failing" not in watch.program.printed


def test_unreachable_targets_report_the_reason_and_do_not_affect_the_others(
    server: PostgresServer, tmp_path: Path
) -> None:
    """A wrong port, host, database and password, and one valid target listed twice."""
    secret = "wrong-secret-of-the-test"
    hba = server.folder / "data" / "pg_hba.conf"
    trusting = hba.read_text()
    hba.write_text("host all monitor 127.0.0.1/32 scram-sha-256\n" + trusting)
    server.execute("SELECT pg_reload_conf()")
    (tmp_path / "password").write_text("right-secret\n")
    good = f"postgresql://monitor@127.0.0.1:{server.port}/postgres"
    settings = config(
        {"name": "one", "dsn": good, "password_file": str(tmp_path / "password")},
        {"name": "two", "dsn": good, "password_file": str(tmp_path / "password")},
        {"name": "port", "dsn": f"postgresql://monitor:{secret}@127.0.0.1:{free_port()}/postgres"},
        {"name": "host", "dsn": f"postgresql://monitor:{secret}@no-such-host.invalid/postgres"},
        {"name": "database", "dsn": server.dsn("nowhere")},
        {
            "name": "password",
            "dsn": f"host=127.0.0.1 port={server.port} user=monitor password={secret} dbname=postgres",
        },
    )
    wrong = ("port", "host", "database", "password")
    try:
        with watching(tmp_path, settings) as watch:
            until(lambda: watch.is_up("one") and watch.is_up("two"))
            until(lambda: all(map(watch.is_down, wrong)))
            watch.cycles(2, "one")
            for target in wrong:
                assert_nothing_but_down(watch, target)
            assert watch.failing("one") == watch.failing("two") == set()
            assert watch.of_target("one") == watch.of_target("two")
            assert sessions(server) == 2
            reasons = {target: watch.errors(target)["postgres.server"] for target in wrong}
            outputs = [watch.program.printed, watch.program.metrics()]
            outputs += [fetch(watch.program.url + path)[1] for path in ("/", "/api/v1/status", "/sd", "/health")]
        checked = check(tmp_path, settings)
    finally:
        hba.write_text(trusting)
        server.execute("SELECT pg_reload_conf()")

    assert "Connection refused" in reasons["port"]
    assert "no-such-host.invalid" in reasons["host"]
    assert 'database "nowhere" does not exist' in reasons["database"]
    assert 'password authentication failed for user "monitor"' in reasons["password"]
    assert checked.returncode == 2
    for output in (*outputs, checked.stdout, checked.stderr):
        assert secret not in output
        assert "right-secret" not in output


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://monitor:hunter2-secret@127.0.0.1:port/app",
        "postgresql://monitor:hunter2-secret/5432@127.0.0.1/app",
        "postgresql://monitor:hunter2-secret%zz@127.0.0.1/app",
        "host=127.0.0.1 pasword=hunter2-secret",
        "host=127.0.0.1 password='hunter2-secret",
        "hunter2-secret",
    ],
)
def test_a_malformed_dsn_is_rejected_without_being_quoted(dsn: str, tmp_path: Path) -> None:
    done = check(tmp_path, config({"dsn": dsn}))

    assert done.returncode == 2
    assert "dsn" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_a_role_without_pg_monitor_exports_what_it_can_read_and_the_rest_once_granted(
    server: PostgresServer, tmp_path: Path
) -> None:
    server.execute("CREATE ROLE weak LOGIN")
    settings = config({"dsn": server.dsn(user="weak")})
    needing = {"postgres.stat_activity", "postgres.wal", "postgres.stat_statements", "postgres.blocked"}
    needing |= {"postgres.slow_queries", "postgres.stat_progress_vacuum"}
    checked = check(tmp_path, settings)
    with watching(tmp_path, settings) as watch:
        until(watch.is_up)
        watch.cycles(1)
        assert watch.failing() == needing
        names = watch.of_target()
        assert all('GRANT pg_monitor TO "weak"' in error for error in watch.errors().values())

        server.execute("GRANT pg_monitor TO weak")
        until(lambda: watch.failing() == set())
        until(lambda: "pg_stat_activity_count" in watch.of_target())

    assert {"pg_up", "pg_stat_database_xact_commit", "pg_locks_count", "pg_database_size_bytes"} <= names
    absent = ("pg_stat_activity", "pg_wal_s", "pg_stat_statements", "pg_slow", "pg_blocked", "pg_long", "pg_process")
    assert [name for name in names if name.startswith(absent)] == []
    assert checked.returncode == 2
    assert 'GRANT pg_monitor TO "weak"' in checked.stdout


def test_a_locked_table_lacks_only_its_sizes(server: PostgresServer, tmp_path: Path) -> None:
    size, index_size = "pg_stat_user_tables_size_bytes", "pg_index_size_bytes"
    server.execute("CREATE TABLE locked (n int PRIMARY KEY)", "CREATE TABLE free (n int PRIMARY KEY)")
    settings = config({"dsn": server.dsn(), "tables": {"sizes_interval": "500ms"}}, interval="500ms")
    with server.connect() as holder, watching(tmp_path, settings) as watch:
        until(lambda: watch.value(size, relname="locked"))
        holder.execute("BEGIN")
        holder.execute("LOCK TABLE locked IN ACCESS EXCLUSIVE MODE")
        until(lambda: watch.value(size, relname="locked") is None)
        seen = set()

        def look() -> bool:
            seen.add(sessions(server))
            return watch.value(size, relname="locked") is None

        until(lambda: look() and (watch.value("pg_exporter_scrapes_total") or 0) >= 8)
        assert watch.value(size, relname="free")
        assert watch.value(index_size, indexrelname="free_pkey")
        assert watch.value("pg_stat_user_tables_seq_scan", relname="locked") is not None
        # Waiting for the lock until the statement timeout would fail the run.
        assert watch.failing() == set()
        assert "is failing" not in watch.program.printed
        assert max(seen) <= 2

        holder.execute("ROLLBACK")
        until(lambda: watch.value(size, relname="locked"))


def test_monitoring_through_pgbouncer_works_and_does_not_change_other_sessions(
    server: PostgresServer, tmp_path: Path
) -> None:
    shown = ("statement_timeout", "lock_timeout", "default_transaction_read_only", "transaction_read_only")
    with pgbouncer_server(server, default_pool_size="1", server_login_retry="1") as pooler:
        dsn = f"postgresql://app:{PASSWORDS['app']}@127.0.0.1:{pooler.port}/app"
        with watching(tmp_path, config({"dsn": dsn, "timeout": "2s"}, interval="500ms")) as watch:
            until(watch.is_up)
            watch.cycles(2)
            assert watch.failing() == set()
            assert "pg_stat_statements_entries" in watch.of_target()
            with pooler.connect() as client:
                seen = set()
                for _ in range(3):
                    watch.cycles(1)
                    seen.add(tuple(client.execute(f"SHOW {name}".encode()).fetchall()[0][0] for name in shown))
                client.execute("CREATE TABLE written AS SELECT 1 AS n")
                pid = client.execute("SELECT pg_backend_pid()").fetchall()[0][0]
            assert server.value(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND {OURS}") in (0, 1)
            # The pooler's and this query's; a recently closed session may still be listed.
            query = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'postgres' AND client_port > 0"
            until(lambda: server.value(query) <= 2)

            before = watch.counters("pg_stat_statements_")
            started = watch.value("pg_postmaster_start_time_seconds")
            server.stop()
            until(watch.is_down)
            server.start()
            until(watch.is_up)
            watch.cycles(2)
            assert watch.value("pg_postmaster_start_time_seconds") != started
            assert fallen(before, watch.counters("pg_stat_statements_")) == {}
            assert watch.failing() == set()

        session = Session(dsn, 4.0)
        session.connect()
        assert session.query("SHOW statement_timeout").rows == [(b"4s",)]
        assert session.query("SHOW lock_timeout").rows == [(b"100ms",)]
        with pytest.raises(QueryError, match="read-only transaction"):
            session.query("CREATE TABLE forbidden (n int)")
        session.close()

    assert seen == {("0", "0", "off", "off")}


def test_the_session_is_read_only_and_has_statement_and_lock_timeouts(server: PostgresServer) -> None:
    session = Session(server.dsn(), 0.5, 0.1)
    session.connect()
    with pytest.raises(QueryError, match="read-only transaction"):
        session.query("CREATE TABLE forbidden (n int)")
    with pytest.raises(QueryError, match="read-only transaction"):
        session.query("INSERT INTO public.orders VALUES (1)")
    with pytest.raises(QueryError, match="statement timeout"):
        session.query("SELECT pg_sleep(5)")
    with server.connect() as holder:
        holder.execute("BEGIN")
        holder.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(QueryError, match="lock timeout"):
            session.query("SELECT count(*) FROM public.orders")
    assert session.query("SELECT 1").rows == [(b"1",)]
    session.close()


def test_a_query_larger_than_the_socket_buffer_is_sent_completely(server: PostgresServer) -> None:
    session = Session(server.dsn(), 10.0)
    session.connect()

    assert session.query(f"SELECT length('{'x' * 20_000_000}')").rows == [(b"20000000",)]
    session.close()


def test_queries_like_the_agents_own_are_counted(server: PostgresServer, watch: Watch) -> None:
    """Comments do not change a queryid, so a pool's `SELECT 1` has the same one as the agent's."""
    before = watch.value("pg_stat_statements_all_calls_total") or 0
    server.execute(*["SELECT 1"] * 50)
    until(lambda: (watch.value("pg_stat_statements_all_calls_total") or 0) >= before + 50)


def test_names_in_any_encoding_give_a_valid_exposition(server: PostgresServer, tmp_path: Path) -> None:
    strange = ['it\'s "quoted"', "two words", "a\nnewline", "ünïcödé 🐘", "back\\slash", '{a="b"} 1']
    with server.connect() as connection:
        for name in strange:
            connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
        connection.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0")
    with psycopg.connect(server.dsn("ascii"), autocommit=True, client_encoding="sql_ascii") as connection:
        connection.execute(b"CREATE EXTENSION pg_stat_statements")
        connection.execute(b'CREATE TABLE "invalid \xff" (n int)')
        connection.execute(b'CREATE TABLE "invalid \xfe" (n int)')
    settings = config({"dsn": server.dsn("ascii"), "databases": "all", "databases_interval": "1s"})
    try:
        with (
            watching(tmp_path, settings) as watch,
            psycopg.connect(server.dsn("ascii"), autocommit=True, client_encoding="sql_ascii") as connection,
        ):
            connection.execute(b"SET application_name = 'app \xff'")
            connection.execute(b"SELECT '\xff\xfe'")
            until(lambda: watch.is_up() and watch.series("pg_database_tables_read", datname="two words"))
            until(lambda: watch.errors() == {})
            text = watch.program.metrics()
            label = f"127.0.0.1:{server.port}"
            families = {family.name: family for family in parse(text)}
            databases = {it.labels["datname"] for it in families["pg_database_size_bytes"].samples}
            read = {it.labels["datname"]: it.value for it in families["pg_database_tables_read"].samples}
            tables = {
                it.labels["relname"]
                for it in families["pg_stat_user_tables_seq_scan"].samples
                if it.labels["datname"] == "ascii"
            }
            servers = {it.labels["server"] for it in families["pg_stat_activity_count"].samples}
    finally:
        for name in [*strange, "ascii"]:
            with server.connect() as connection:
                connection.execute(
                    psycopg.sql.SQL("DROP DATABASE {} WITH (FORCE)").format(psycopg.sql.Identifier(name))
                )

    assert {*strange, "ascii"} <= databases
    assert read == dict.fromkeys([*strange, "postgres"], 1.0)
    assert tables == {"invalid \\xff", "invalid \\xfe"}
    assert servers == {label}


def test_a_reload_closes_the_connection_that_it_replaces(server: PostgresServer, watch: Watch) -> None:
    def pids() -> set[int]:
        with server.connect() as connection:
            return {row[0] for row in connection.execute(f"SELECT pid FROM pg_stat_activity WHERE {OURS}".encode())}

    before = pids()
    watch.reload(config({"name": "renamed", "dsn": server.dsn()}))
    until(lambda: watch.is_up("renamed"))
    until(lambda: len(pids()) == 1 and not pids() & before)
    assert watch.of_target("main") == set()

    watch.reload(config())
    until(lambda: pids() == set())


@contextlib.contextmanager
def replica_of(primary: PostgresServer) -> Iterator[PostgresServer]:
    """A streaming replica that uses the slot `follower` on its primary."""
    home = primary.folder / "replica"
    home.mkdir()
    if primary.as_user:
        shutil.chown(home, primary.as_user)
    subprocess.run(
        [postgres_program("pg_basebackup"), "-d", primary.dsn() + "?application_name=follower",
         "-D", str(home / "data"), "-R", "-C", "-S", "follower", "-c", "fast", "--no-sync"],
        check=True, user=primary.as_user or None, cwd=home,
    )  # fmt: skip
    port = free_port()
    command = [
        part.replace(str(primary.folder), str(home)).replace(str(primary.port), str(port)) for part in primary.command
    ]
    replica = dataclasses.replace(primary, command=command, folder=home, port=port, process=None)
    replica.start()
    try:
        yield replica
    finally:
        replica.stop()


def test_a_replica_and_its_primary_export_replication_and_promotion_decreases_no_counter(tmp_path: Path) -> None:
    with postgres_server() as primary:
        primary.execute("CREATE EXTENSION pg_stat_statements", "CREATE TABLE orders (n int)")
        with replica_of(primary) as replica:
            settings = config(
                {"name": "primary", "dsn": primary.dsn()}, {"name": "replica", "dsn": replica.dsn()}, interval="500ms"
            )
            with watching(tmp_path, settings) as watch:
                until(lambda: watch.is_up("primary") and watch.is_up("replica"))
                until(lambda: watch.series("pg_stat_replication_pg_wal_lsn_diff", state="streaming"))
                primary.execute("INSERT INTO orders SELECT generate_series(1, 1000)")
                until(lambda: replica.value("SELECT count(*) FROM public.orders") == 1000)
                watch.cycles(2, "replica")
                assert watch.value("pg_replication_is_replica", target="primary") == 0
                assert watch.value("pg_replication_is_replica", target="replica") == 1
                lag = watch.value("pg_replication_lag_seconds", target="replica")
                assert lag is not None
                assert 0 <= lag < 30
                (standby,) = watch.series("pg_stat_replication_pg_wal_lsn_diff", target="primary")
                assert standby.labels["application_name"] == "follower"
                assert watch.value("pg_replication_slots_active", target="primary", slot_name="follower") == 1
                assert any(name.startswith("pg_stat_wal_receiver") for name in watch.of_target("replica"))
                assert watch.failing("primary") == watch.failing("replica") == set()
                before = watch.counters(target="replica")

                replica.execute("SELECT pg_promote()")
                until(lambda: watch.value("pg_replication_is_replica", target="replica") == 0)
                replica.execute("INSERT INTO public.orders VALUES (1)")
                watch.cycles(2, "replica")
                assert fallen(before, watch.counters(target="replica")) == {}
                assert watch.failing("replica") == set()
                assert not any(name.startswith("pg_stat_wal_receiver") for name in watch.of_target("replica"))
                until(lambda: watch.value("pg_replication_slots_active", target="primary", slot_name="follower") == 0)
                assert watch.series("pg_stat_replication_pg_wal_lsn_diff", target="primary") == []
