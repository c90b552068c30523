"""Real PostgreSQL servers of versions 13 to 18, each a primary with a standby, and an agent that monitors both."""

from __future__ import annotations

import contextlib
import functools
import json
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from databases import PostgresServer, postgres_server, postgres_standby
from golden_names import Families, assert_golden, families, undeclared
from server_versions import POSTGRES, postgres_programs
from services import deckwatch_command, fetch, until
from watching import Watch, config, watching

if TYPE_CHECKING:
    from collections.abc import Iterator

PRIMARY, STANDBY, DETAILED = "main", "second", "detailed"
BLOCKED_SINCE = "pg_blocked_sessions_oldest_timestamp_seconds"
#: Self-metrics of the agent under the peer's names.
_OF_THE_AGENT = ("pg_exporter_", "pg_scrape_")
#: Exposed only while autovacuum is running.
_BY_CHANCE = ("pg_autovacuum_workers", "pg_stat_activity_autovacuum_timestamp_seconds")

_SEQUENCES = "ALL SEQUENCES IN SCHEMA public"
_TABLES = (
    "CREATE EXTENSION pg_stat_statements",
    "CREATE TABLE orders (n int PRIMARY KEY, note text)",
    "INSERT INTO orders SELECT n, 'new' FROM generate_series(1, 100) AS n",
    "ALTER TABLE orders OWNER TO app",
    "CREATE TABLE history (n int PRIMARY KEY, note char(500))",
    "INSERT INTO history SELECT n, 'old' FROM generate_series(1, 20000) AS n",
    "DELETE FROM history WHERE n % 2 = 0",
    "ALTER TABLE history SET (autovacuum_enabled = off)",
    "CREATE TABLE items (id serial PRIMARY KEY)",
    "CREATE INDEX items_again ON items (id)",
    "INSERT INTO items DEFAULT VALUES",
    f"GRANT SELECT ON {_SEQUENCES} TO monitor",
    "GRANT SELECT ON orders TO monitor",  # for the plan of a slow query
    "SELECT pg_create_logical_replication_slot('changes', 'test_decoding')",
    "SELECT pg_switch_wal()",
)


@dataclass
class Monitored:
    """The servers of one version, and the agent."""

    version: int
    primary: PostgresServer
    standby: PostgresServer
    watch: Watch
    #: By target, the metrics that have been exposed so far.
    seen: dict[str, Families] = field(default_factory=dict)

    def scrape(self, target: str) -> Families:
        """Return the metrics of the server, and remember that they were exposed."""
        found = families(fetch(f"{self.watch.program.url}/metrics?target={target}")[1], "pg_")
        found = {name: family for name, family in found.items() if not name.startswith(_OF_THE_AGENT)}
        self.seen.setdefault(target, {}).update(found)
        return found

    def has(self, target: str, *names: str) -> bool:
        return set(names) <= self.scrape(target).keys()


@contextlib.contextmanager
def in_background(connection: psycopg.Connection[Any], statement: str) -> Iterator[None]:
    """Run a statement in the background; cancel it at the end."""
    connection.pgconn.send_query(statement.encode())
    try:
        yield
    finally:
        with contextlib.suppress(psycopg.Error):
            connection.cancel_safe()
        while connection.pgconn.get_result() is not None:
            pass


@pytest.fixture(scope="module", params=POSTGRES)
def monitored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitored]:
    programs = postgres_programs(request.param)
    if programs is None:
        pytest.skip(f"PostgreSQL {request.param} is not installed")
    settings = {
        "archive_command": "true",
        "archive_mode": "on",
        "autovacuum_naptime": "1s",
        "max_slot_wal_keep_size": "1GB",
        "track_io_timing": "on",
        "wal_level": "logical",
    }
    with postgres_server(programs, **settings) as primary, postgres_standby(primary, "standby", **settings) as standby:
        primary.execute("CREATE DATABASE shop", "CREATE ROLE app LOGIN CONNECTION LIMIT 20")
        primary.execute("CREATE ROLE monitor LOGIN", "GRANT pg_monitor TO monitor")
        primary.execute(*_TABLES, database="shop")
        until(lambda: _bytes(standby, "pg_last_wal_replay_lsn()") >= _written(primary), what="the replay")
        dsn = primary.dsn("shop", "monitor")
        off = {part: {"enabled": False} for part in ("tables", "statements", "slow_queries")}
        targets = (
            {"dsn": dsn, "databases": "all", "databases_interval": "1s", "slow_queries": {"explain": True}},
            {"name": STANDBY, "dsn": standby.dsn("shop", "monitor")},
            {"name": DETAILED, "dsn": dsn, "detailed_activity": True, **off},
        )
        with watching(tmp_path_factory.mktemp(f"postgres-{request.param}"), config(*targets)) as watch:
            until(lambda: _cycles(watch) >= 3, what="three cycles of each target")
            yield Monitored(int(request.param), primary, standby, watch)


def _cycles(watch: Watch) -> float:
    """Return the lowest number of runs among the targets."""
    return min(watch.value("pg_exporter_scrapes_total", target=target) or 0 for target in (PRIMARY, STANDBY, DETAILED))


def _bytes(server: PostgresServer, position: str) -> int:
    """A position in the WAL; 0 if there is none yet."""
    return int(server.value(f"SELECT coalesce(pg_wal_lsn_diff({position}, '0/0'), 0)"))


def _written(primary: PostgresServer) -> int:
    return _bytes(primary, "pg_current_wal_lsn()")


def test_every_collector_succeeds_and_the_documented_grants_satisfy_check(monitored: Monitored) -> None:
    until(lambda: monitored.watch.failing(PRIMARY) | monitored.watch.failing(STANDBY) == set())
    assert monitored.watch.errors(PRIMARY) == monitored.watch.errors(STANDBY) == {}

    result = _check(monitored)
    assert result.returncode == 0, result.stdout + result.stderr
    findings = [line.split(None, 3)[2:] for line in result.stdout.splitlines() if line.startswith("postgres ")]
    assert len(findings) == 5
    assert {finding[0] for finding in findings} == {"ok"}


@contextlib.contextmanager
def lock_and_vacuum(monitored: Monitored) -> Iterator[None]:
    """Hold a transaction, a session blocked by it, and a slow VACUUM until all are exposed."""
    primary = monitored.primary
    with (
        primary.connect("shop", "app", application_name="billing") as holder,
        primary.connect("shop", "app", application_name="waiter") as waiter,
        primary.connect("shop", application_name="vacuum") as vacuum,
    ):
        holder.execute("BEGIN")
        holder.execute("UPDATE orders SET note = 'held' WHERE n = 1")
        vacuum.execute("SET vacuum_cost_delay = 100")
        vacuum.execute("SET vacuum_cost_limit = 1")
        with (
            in_background(waiter, "UPDATE orders SET note = 'hunter2' WHERE n = 1"),
            in_background(vacuum, "VACUUM history"),
        ):
            until(lambda: monitored.has(PRIMARY, BLOCKED_SINCE, "pg_stat_progress_vacuum_phase"))
            yield


def _check(monitored: Monitored) -> subprocess.CompletedProcess[str]:
    command = deckwatch_command("check")
    return subprocess.run(command, cwd=monitored.watch.folder, capture_output=True, text=True, timeout=60, check=False)


def test_check_gives_the_grant_for_sequences_that_the_role_cannot_read(monitored: Monitored) -> None:
    primary = monitored.primary
    primary.execute(f"REVOKE SELECT ON {_SEQUENCES} FROM monitor", database="shop")
    grant = f'GRANT SELECT ON {_SEQUENCES} TO "monitor";'
    try:
        result = _check(monitored)
        assert result.returncode == 2
        assert grant in result.stdout
    finally:
        primary.execute(grant, database="shop")
    assert monitored.has(PRIMARY, "pg_sequence_used_ratio")


@pytest.mark.parametrize("target", [PRIMARY, STANDBY])
def test_advise_reads_the_server_and_its_schema(monitored: Monitored, target: str) -> None:
    command = deckwatch_command("advise", "postgres", target)
    result = subprocess.run(
        command, cwd=monitored.watch.folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    text = " ".join(result.stdout.split())
    assert "ALTER SYSTEM SET fsync = on" in text
    assert "DROP INDEX CONCURRENTLY public.items_again" in text


def test_a_blocked_session_and_a_running_vacuum_are_exposed(monitored: Monitored) -> None:
    with lock_and_vacuum(monitored):
        (event,) = until(lambda: monitored.watch.events("postgres.blocked", application="waiter"))
        value = functools.partial(monitored.watch.value, datname="shop", target=PRIMARY)
        assert value("pg_blocked_sessions") == 1
        assert value("pg_stat_activity_count", state="idle in transaction") == 1
        phase = functools.partial(value, "pg_stat_progress_vacuum_phase", relname="history")
        until(lambda: phase(phase="scanning heap") == 1)
        count = functools.partial(value, "pg_stat_activity_count", target=DETAILED, usename="app")
        until(lambda: count(application_name="waiter", wait_event_type="Lock") == 1)
        labels = {"application_name": "billing", "wait_event": "ClientRead", "backend_type": "client backend"}
        assert count(state="idle in transaction", **labels) == 1
        assert value("pg_stat_activity_count", target=DETAILED, state="disabled") == 0
    assert event["query"] == "UPDATE orders SET note = ? WHERE n = ?"
    assert [it["application"] for it in event["blocked_by"]] == ["billing"]
    assert "hunter2" not in monitored.watch.program.printed


def _queryid(monitored: Monitored, like: str) -> str:
    return str(monitored.primary.value(f"SELECT queryid FROM pg_stat_statements WHERE query LIKE '{like}'", "shop"))


def test_statements_are_counted_with_rows_and_wal_bytes(monitored: Monitored) -> None:
    statement = "UPDATE orders SET note = 'counted' WHERE n BETWEEN 11 AND 15"
    with monitored.primary.connect("shop", "app") as connection:
        for _ in range(3):
            connection.execute(statement)
    queryid = _queryid(monitored, "UPDATE orders%BETWEEN%")
    # New statements are counted from 0.
    value = functools.partial(monitored.watch.value, queryid=queryid, target=PRIMARY)
    until(lambda: value("pg_stat_statements_calls_total") == 3)
    assert value("pg_stat_statements_rows_total") == 15
    assert (value("pg_stat_statements_seconds_total") or 0) > 0
    assert (value("pg_stat_statements_wal_bytes_total") or 0) > 0
    assert (value("pg_stat_statements_shared_blocks_hit_total") or 0) > 0
    assert value("pg_stat_statements_block_read_seconds_total") is not None


def test_a_slow_query_is_reported_with_its_plan_if_the_version_has_generic_plans(monitored: Monitored) -> None:
    with monitored.primary.connect("shop", "app") as connection:
        connection.execute("SELECT note, pg_sleep(1.5) FROM orders WHERE n = 7 AND note <> 'hunter2'")
    queryid = _queryid(monitored, "SELECT note, pg_sleep%")
    events = functools.partial(monitored.watch.events, "postgres.slow_query", target=PRIMARY, queryid=queryid)
    (finished,) = until(lambda: events(state="finished"))
    assert (finished["calls"], finished["rows"], finished["database"]) == (1, 1, "shop")
    assert "hunter2" not in monitored.watch.program.printed
    plans = [event["plan"] for event in events() if "plan" in event]
    if monitored.version >= 16:
        (plan,) = plans
        assert "orders" in json.dumps(plan)
    else:
        assert plans == []
    until(lambda: monitored.has(PRIMARY, "pg_slow_query_duration_seconds", "pg_slow_queries_total"))


def test_checkpoints_are_read_from_the_view_of_the_version(monitored: Monitored) -> None:
    monitored.primary.execute("CHECKPOINT")
    view, columns = "pg_stat_bgwriter", ("checkpoints_req", "buffers_checkpoint")
    if monitored.version >= 17:
        view, columns = "pg_stat_checkpointer", ("num_requested", "buffers_written")
    # One column at a time, because the counters change: the server's value must be exposed within a cycle.
    for column in columns:
        until(
            lambda name=column: (
                monitored.watch.value(f"{view}_{name}_total", target=PRIMARY)  # type: ignore[misc]
                == monitored.primary.value(f"SELECT {name} FROM {view}")
            ),
            30,
            f"{column} of {view}",
        )


def test_a_primary_exposes_its_standby_and_slots_and_a_standby_its_lag(monitored: Monitored) -> None:
    of_primary = functools.partial(monitored.watch.value, target=PRIMARY)
    of_standby = functools.partial(monitored.watch.value, target=STANDBY)
    assert of_primary("pg_replication_is_replica") == 0
    assert of_primary("pg_replication_lag_seconds") == 0
    assert of_primary("pg_stat_replication_pg_wal_lsn_diff", application_name="second", slot_name="standby") is not None
    assert of_primary("pg_replication_slots_active", slot_name="standby", database="") == 1
    assert of_primary("pg_replication_slots_active", slot_name="changes", database="shop") == 0
    assert of_primary("pg_replication_slot_slot_is_active", slot_name="changes", slot_type="logical") == 0

    assert of_standby("pg_replication_is_replica") == 1
    assert (of_standby("pg_replication_lag_seconds") or 0) >= 0
    receiver = {"upstream_host": "127.0.0.1", "slot_name": "standby", "status": "streaming"}
    until(lambda: of_standby("pg_stat_wal_receiver_flushed_lsn", **receiver))
    position = _written(monitored.primary)
    until(lambda: (of_standby("pg_wal_position_bytes_total") or 0) >= position, what="the replay")


@pytest.mark.parametrize("target", [PRIMARY, STANDBY])
def test_names_types_and_labels_match_the_golden_file(monitored: Monitored, target: str) -> None:
    if target == PRIMARY:
        _provoke_what_comes_and_goes(monitored)
    monitored.scrape(target)
    seen = {name: family for name, family in monitored.seen[target].items() if name not in _BY_CHANCE}
    assert_golden(f"postgres-{monitored.version}{'-standby' if target == STANDBY else ''}", seen)


def _provoke_what_comes_and_goes(monitored: Monitored) -> None:
    """Make the primary expose the metrics that depend on activity."""
    with lock_and_vacuum(monitored):
        pass
    primary = monitored.primary
    primary.execute("VACUUM ANALYZE history", "UPDATE orders SET note = 'for autovacuum'", database="shop")
    primary.execute("SELECT pg_sleep(1.1)")
    last = [f"pg_stat_user_tables_last_{kind}" for kind in ("vacuum", "analyze", "autovacuum", "autoanalyze")]
    until(lambda: monitored.has(PRIMARY, *last, "pg_slow_query_duration_seconds"), what="autovacuum and the slow query")


def test_every_exposed_metric_is_in_the_catalogue(monitored: Monitored) -> None:
    for target in (PRIMARY, STANDBY):
        monitored.scrape(target)
        assert undeclared(monitored.seen[target]) == []


#: By the first version with them.
SINCE = {
    14: {
        "pg_stat_database_active_time_seconds_total", "pg_stat_database_sessions", "pg_stat_database_session_time",
        "pg_stat_statements_stats_reset_timestamp_seconds", "pg_stat_statements_dealloc_total",
    },
    16: {"pg_stat_database_conflicts_confl_active_logicalslot"},
    17: {"pg_stat_checkpointer_num_timed_total", "pg_stat_checkpointer_write_time_total"},
    18: {
        "pg_stat_checkpointer_num_done_total", "pg_stat_checkpointer_slru_written_total",
        "pg_stat_database_parallel_workers_launched",
    },
}  # fmt: skip
#: By the first version without them.
UNTIL = {
    17: {
        "pg_stat_bgwriter_checkpoints_timed_total", "pg_stat_bgwriter_buffers_backend_fsync_total",
        "pg_settings_old_snapshot_threshold_seconds",
    },
}  # fmt: skip


@pytest.mark.parametrize("target", [PRIMARY, STANDBY])
def test_metrics_that_a_version_does_not_support_are_absent(monitored: Monitored, target: str) -> None:
    found = monitored.scrape(target).keys()
    for since, names in SINCE.items():
        assert found & names == (names if monitored.version >= since else set())
    for until_version, names in UNTIL.items():
        assert found & names == (names if monitored.version < until_version else set())
