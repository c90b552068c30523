"""The PgBouncer exporter against a real PgBouncer and PostgreSQL."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from databases import PostgresServer, postgres_server
from deckwatch.testing import Opened, opened
from deckwatch_exporters.pgbouncer import EXPORTER, PgBouncerSettings, check
from pgbouncer_server import PASSWORDS, pgbouncer_server
from services import agent, deckwatch_command, installed, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pgbouncer_server as real


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def bouncer(postgres: PostgresServer) -> Iterator[real.PgBouncer]:
    with pgbouncer_server(postgres) as server:
        yield server


def settings(bouncer: real.PgBouncer, user: str = "monitor", **given: Any) -> PgBouncerSettings:
    return PgBouncerSettings.model_validate({"dsn": bouncer.dsn(user=user), "password": PASSWORDS[user], **given})


@contextlib.contextmanager
def watching(bouncer: real.PgBouncer, user: str = "monitor", **given: Any) -> Iterator[Opened]:
    given = {"dsn": bouncer.dsn(user=user), "password": PASSWORDS[user], **given}
    with opened(EXPORTER, given) as watcher:
        yield watcher


def values(watcher: Opened) -> dict[str, float]:
    collected = watcher.collect()
    assert not collected.malformed
    return collected.values


def eventually(watcher: Opened, condition: Callable[[dict[str, float]], bool], what: str) -> dict[str, float]:
    """Return the first run that meets the condition."""
    found: dict[str, float] = {}

    def fulfilled() -> bool:
        nonlocal found
        found = values(watcher)
        return condition(found)

    until(fulfilled, what=what)
    return found


def failure(watcher: Opened) -> str:
    """The error of a collector that cannot reach PgBouncer."""
    collected = watcher.collect()
    assert collected.values == {"pgbouncer_up": 0}
    return collected.errors["pgbouncer"]


def pool(name: str) -> str:
    return f'pgbouncer_pools_{name}{{database="app",user="postgres"}}'


def own_clients(bouncer: real.PgBouncer) -> int:
    rows = bouncer.console("SHOW CLIENTS", "monitor")
    return sum(row["application_name"] == "deckwatch" for row in rows)


@contextlib.contextmanager
def queueing(bouncer: real.PgBouncer, clients: int) -> Iterator[None]:
    """Clients waiting for the only server connection, which another client holds until the end."""

    def ask() -> None:
        with bouncer.connect(application_name="reports") as connection:
            connection.execute("SELECT 1")

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    with bouncer.connect(application_name="shop") as holder, holder.transaction():
        holder.execute("SELECT 1")
        for thread in threads:
            thread.start()
        yield
    for thread in threads:
        thread.join()


def test_the_real_console_gives_exactly_the_declared_metrics(bouncer: real.PgBouncer) -> None:
    with bouncer.connect() as client, watching(bouncer) as watcher:
        client.execute("SELECT 1")
        found = watcher.collect().samples

    # Added in PgBouncer 1.23 and 1.24.
    newer = re.compile(r"pgbouncer_stats_totals_(client_parses|server_parses|binds|server_assignments)_total")
    declared = {metric.name: metric for metric in EXPORTER.metrics}
    assert {sample.series.name for sample in found} >= {name for name in declared if not newer.fullmatch(name)}
    assert all(declared[sample.series.name] is sample.series.metric for sample in found)


def test_the_configuration_and_the_version_match_the_console(bouncer: real.PgBouncer) -> None:
    bouncer.reload(max_client_conn="77", max_user_connections="5")
    bouncer.console("DISABLE app")
    [version] = bouncer.console("SHOW VERSION")

    with watching(bouncer) as watcher:
        found = values(watcher)

    app = {
        name.partition("{")[0]: value
        for name, value in found.items()
        if name.startswith("pgbouncer_databases_") and 'name="app"' in name
    }
    assert app == {
        "pgbouncer_databases_pool_size": 2,
        "pgbouncer_databases_reserve_pool": 0,
        "pgbouncer_databases_max_connections": 0,
        "pgbouncer_databases_current_connections": 0,
        "pgbouncer_databases_paused": 0,
        "pgbouncer_databases_disabled": 1,
    }
    assert found[f'pgbouncer_version_info{{version="{version["version"]}"}}'] == 1
    assert found["pgbouncer_config_max_client_connections"] == 77
    assert found["pgbouncer_config_max_user_connections"] == 5
    assert found["pgbouncer_databases"] == 2


def test_waiting_clients_are_exported_while_they_wait(bouncer: real.PgBouncer) -> None:
    bouncer.reload(default_pool_size="1")
    waiting = pool("client_waiting_connections")
    with watching(bouncer) as watcher:
        with queueing(bouncer, 3):
            found = eventually(watcher, lambda now: now.get(waiting) == 3, "three clients waiting")
            longer = eventually(watcher, lambda now: now[pool("client_maxwait_seconds")] > 0.2, "a wait of 0.2 s")
        served = eventually(watcher, lambda now: now[waiting] == 0, "nobody waiting")

    clients = 'pgbouncer_client_connections{database="app",user="app",application_name='
    assert found[pool("client_active_connections")] == 1
    assert found[pool("server_active_connections")] == 1
    assert found[clients + '"reports",state="waiting"}'] == 3
    assert found[clients + '"shop",state="active"}'] == 1
    assert longer[pool("client_maxwait_seconds")] < 100  # not milliseconds
    assert clients + '"reports",state="waiting"}' not in served
    assert served['pgbouncer_stats_totals_client_wait_seconds_total{database="app"}'] > 0.2


def test_queries_are_counted_with_their_time_in_seconds(bouncer: real.PgBouncer) -> None:
    with watching(bouncer) as watcher, bouncer.connect() as client:
        client.execute("SELECT 1")
        before = values(watcher)
        for _ in range(5):
            client.execute("SELECT pg_sleep(0.1)")
        after = values(watcher)

    def grown(name: str) -> float:
        series = f'pgbouncer_stats_totals_{name}{{database="app"}}'
        return after[series] - before[series]

    assert grown("queries_pooled_total") == 5
    assert grown("sql_transactions_pooled_total") == 5
    # Seconds, not 500 milliseconds.
    assert 0.5 <= grown("queries_duration_seconds_total") < 100
    assert 0.5 <= grown("server_in_transaction_seconds_total") < 100
    assert grown("received_bytes_total") > 100
    assert grown("sent_bytes_total") > 100


def test_one_connection_is_kept_from_run_to_run(bouncer: real.PgBouncer) -> None:
    with watching(bouncer) as watcher:
        for _ in range(10):
            watcher.collect()

        assert own_clients(bouncer) == 1
        logins = [line for line in bouncer.log.splitlines() if "user=monitor" in line and "login attempt" in line]
        # The agent's and the test's.
        assert len(logins) == 2

    until(lambda: own_clients(bouncer) == 0, what="the connection being closed with the watcher")


def test_a_pgbouncer_at_its_client_limit_is_still_monitored(bouncer: real.PgBouncer) -> None:
    with watching(bouncer) as watcher:
        watcher.collect()
        bouncer.reload(max_client_conn="2")
        with bouncer.connect(), pytest.raises(psycopg.OperationalError, match="no more connections allowed"):
            bouncer.connect()

        assert values(watcher)["pgbouncer_config_max_client_connections"] == 2


def test_a_pgbouncer_that_is_down_at_startup_is_monitored_once_it_is_up(postgres: PostgresServer) -> None:
    with pgbouncer_server(postgres, start=False) as bouncer, watching(bouncer) as watcher:
        assert "Connection refused" in failure(watcher)

        bouncer.start()
        assert values(watcher)["pgbouncer_up"] == 1


def test_a_restart_between_two_runs_fails_no_run(bouncer: real.PgBouncer) -> None:
    with watching(bouncer) as watcher:
        watcher.collect()
        bouncer.stop()
        bouncer.start()
        assert values(watcher)["pgbouncer_up"] == 1

        bouncer.kill()
        bouncer.start()
        assert values(watcher)["pgbouncer_up"] == 1


def test_a_stopped_pgbouncer_is_down_until_it_is_restarted(bouncer: real.PgBouncer) -> None:
    with watching(bouncer) as watcher:
        watcher.collect()
        bouncer.stop()
        assert "Connection refused" in failure(watcher)
        assert "Connection refused" in failure(watcher)

        bouncer.start()
        assert values(watcher)["pgbouncer_up"] == 1


def test_pgbouncer_stays_up_while_postgresql_is_down() -> None:
    with pgbouncer_server() as alone, watching(alone) as watcher:
        with pytest.raises(psycopg.OperationalError):
            alone.connect(connect_timeout=2)

        assert values(watcher)["pgbouncer_up"] == 1


def test_a_frozen_pgbouncer_times_out_and_accumulates_no_connections(bouncer: real.PgBouncer) -> None:
    with watching(bouncer, timeout="2s") as watcher:
        watcher.collect()
        bouncer.freeze()
        for _ in range(3):
            assert "no answer within 2 s" in failure(watcher)
        bouncer.thaw()

        assert values(watcher)["pgbouncer_up"] == 1
        assert own_clients(bouncer) == 1


def test_connecting_to_a_frozen_pgbouncer_times_out(bouncer: real.PgBouncer) -> None:
    bouncer.freeze()
    with watching(bouncer, timeout="2s") as watcher:
        assert "timeout expired" in failure(watcher)

        bouncer.thaw()
        assert values(watcher)["pgbouncer_up"] == 1


def test_a_service_that_is_not_pgbouncer_fails_within_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dsn = f"postgresql://monitor@127.0.0.1:{silent.getsockname()[1]}/pgbouncer"
        with opened(EXPORTER, {"dsn": dsn, "timeout": "2s"}) as watcher:
            assert "timeout expired" in failure(watcher)


def test_a_wrong_password_is_reported_without_the_password(bouncer: real.PgBouncer) -> None:
    wrong = settings(bouncer, password="hunter2-not-it")
    with watching(bouncer, password="hunter2-not-it") as watcher:
        message = failure(watcher)

    assert "password authentication failed" in message
    assert "hunter2" not in message
    assert "hunter2" not in repr(wrong)
    # The failed collector is already reported.
    assert list(check(wrong)) == []


def test_missing_console_access_is_reported_with_a_fix_that_works(bouncer: real.PgBouncer) -> None:
    with watching(bouncer, "app") as watcher:
        message = failure(watcher)
        assert "not allowed. Add the user to stats_users in pgbouncer.ini and run RELOAD." in message
        assert PASSWORDS["app"] not in message

        [finding] = check(settings(bouncer, "app"))
        assert finding.state == "missing"
        assert "'app'" in finding.what
        assert "pgbouncer.ini" in finding.remedy
        assert "stats_users" in finding.remedy

        bouncer.reload(stats_users="monitor, app")
        assert values(watcher)["pgbouncer_up"] == 1
        assert list(check(settings(bouncer, "app"))) == []


@pytest.mark.parametrize("auth_type", ["plain", "md5", "scram-sha-256"])
def test_every_password_authentication_method_works(postgres: PostgresServer, auth_type: str) -> None:
    with pgbouncer_server(postgres, auth_type=auth_type) as bouncer, watching(bouncer) as watcher:
        assert values(watcher)["pgbouncer_up"] == 1


def test_libpq_options_in_the_environment_do_not_break_the_login(
    bouncer: real.PgBouncer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # PgBouncer closes connections with unknown startup parameters.
    monkeypatch.setenv("PGOPTIONS", "-c geqo=off")
    with watching(bouncer) as watcher:
        assert values(watcher)["pgbouncer_up"] == 1


def test_clients_are_not_queried_without_a_budget_for_application_names(bouncer: real.PgBouncer) -> None:
    with watching(bouncer, application_names=0) as watcher:
        assert not any(name.startswith("pgbouncer_client_") for name in values(watcher))


def test_the_agent_monitors_two_pgbouncers_and_check_reports_what_is_missing(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text(PASSWORDS["monitor"] + "\n")
    with pgbouncer_server(postgres) as one, pgbouncer_server(postgres) as two:
        config = f"""
interval: 200ms
exporters:
  pgbouncer:
    - {{name: one, dsn: "{one.dsn()}", password_file: {tmp_path}/password}}
    - {{name: two, dsn: "host=127.0.0.1 port={two.port} user=app", password: "{PASSWORDS["app"]}"}}
"""
        with agent(tmp_path, config) as program:
            until(lambda: 'pgbouncer_up{target="one"} 1' in program.metrics())
            until(lambda: 'pgbouncer_up{target="two"} 0' in program.metrics())
            exposition = program.metrics()
            assert 'pgbouncer_pools_client_active_connections{target="two"' not in exposition

            two.reload(stats_users="app")
            until(lambda: 'pgbouncer_up{target="two"} 1' in program.metrics())
            two.stop()
            until(lambda: 'pgbouncer_up{target="two"} 0' in program.metrics())
            assert 'pgbouncer_up{target="one"} 1' in program.metrics()
            log = program.printed

        two.start()
        two.reload(stats_users="nobody")
        command = deckwatch_command("check")
        checked = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)

    linted = subprocess.run(
        [installed("promtool"), "check", "metrics"], input=exposition, capture_output=True, text=True, check=False
    )
    assert "pgbouncer" not in linted.stderr + linted.stdout
    assert checked.returncode == 2
    assert "stats_users" in checked.stdout
    for secret in PASSWORDS.values():
        assert secret not in log + checked.stdout + checked.stderr + exposition
