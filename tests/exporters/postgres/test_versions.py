"""Every version of PostgreSQL from 13 to 18: the exporter's SQL on that version's views, and what comes of it."""

from __future__ import annotations

import functools
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from databases import PostgresServer, postgres_server
from deckwatch.exporter import Collector, Context, Missing, NotAvailable, Scheduled, Target
from deckwatch.metrics.declaration import Metric, Sample
from deckwatch.metrics.encoding import Encoder
from deckwatch_exporters import postgres
from deckwatch_exporters.clients.libpq import QueryError
from deckwatch_exporters.postgres import EXPORTER
from deckwatch_exporters.postgres.activity import Activity, DetailedActivityCollector
from deckwatch_exporters.postgres.background import BackgroundCollector, WalCollector
from deckwatch_exporters.postgres.database import DatabaseCollector
from deckwatch_exporters.postgres.replication import ReplicationCollector
from deckwatch_exporters.postgres.server import UP
from deckwatch_exporters.postgres.settings import PostgresSettings

from .stand_in import VERSIONS, StandIn, load, schema_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


GOLDEN = Path(__file__).parent.parent / "golden"
MAJOR = {version: int(version[:2]) for version in VERSIONS}
_CONTEXT = Context(thresholds={"slow_query": 1.0}, logger=logging.getLogger("test"))

By = dict[str, list["Sample"]]  # by the metric's name


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        server.execute("CREATE ROLE monitor LOGIN IN ROLE pg_monitor")
        for version in VERSIONS:
            load(server, version)
        yield server


@pytest.fixture(scope="module")
def collected(server: PostgresServer) -> dict[str, list[Sample]]:
    """By version what all collectors yield in their second run; between the two, some statements are executed."""
    return {version: _collect(server, version) for version in VERSIONS}


def _collect(server: PostgresServer, version: str) -> list[Sample]:
    settings = PostgresSettings.model_validate({"dsn": server.dsn("postgres", "monitor")})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres, "Server", lambda *_: StandIn(server.dsn("postgres", "monitor"), version))
        target = postgres.open_server(settings, _CONTEXT)
    try:
        for collector in _collectors(target):
            list(collector.collect())
        server.execute(
            f"UPDATE {schema_of(version)}.pg_stat_statements SET calls = calls + 3, rows = rows + 5,"
            " total_exec_time = total_exec_time + 1500, wal_bytes = wal_bytes + 7",
            f"UPDATE {schema_of(version)}.clock SET seconds = 15",
        )
        samples: list[Sample] = [UP(1)]
        for collector in _collectors(target):
            samples += [it for it in collector.collect() if isinstance(it, Sample)]
        return samples
    finally:
        target.close()


def _collectors(target: Target) -> list[Collector]:
    return [it.collector if isinstance(it, Scheduled) else it for it in target.collectors.values()]


def _by_name(samples: Iterable[Sample]) -> By:
    found: By = {}
    for sample in samples:
        found.setdefault(sample.series.metric.name, []).append(sample)
    return found


def _value(found: By, name: str, **labels: str) -> float:
    (value,) = (it.value for it in found[name] if labels.items() <= dict(it.series.labels).items())
    return value


@pytest.mark.parametrize("version", VERSIONS)
def test_the_exposition_of_each_version_is_the_golden_one(version: str, collected: dict[str, list[Sample]]) -> None:
    families = Encoder().families(it for it in collected[version] if not it.series.name.startswith("pg_exporter_"))
    found = "".join(f"# TYPE {it.metric.name} {it.metric.type}\n{it.text}" for it in families)
    found = found.replace(" unknown\n", " untyped\n")
    golden = GOLDEN / f"postgres-{version}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(found)

    assert found == golden.read_text()
    assert len(list(text_string_to_metric_families(found))) == len(families)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_collector_yields_is_declared_in_the_catalogue_with_its_type_and_labels(
    version: str, collected: dict[str, list[Sample]]
) -> None:
    exact = {it.name: (it.type, it.labels) for it in EXPORTER.metrics if isinstance(it, Metric)}
    patterns = [it for it in EXPORTER.metrics if not isinstance(it, Metric)]
    for name, samples in _by_name(collected[version]).items():
        metric = samples[0].series.metric
        declared = [exact[name]] if name in exact else [(it.type, it.labels) for it in patterns if it.matches(name)]
        assert (metric.type, metric.labels) in declared, name
        for sample in samples:
            present = {label for label, _ in sample.series.labels} - {"le"}
            assert present == set(metric.labels), sample.series.text


@pytest.mark.parametrize("version", VERSIONS)
def test_checkpoints_are_told_by_the_view_that_the_version_has_them_in(
    version: str, collected: dict[str, list[Sample]]
) -> None:
    found = _by_name(collected[version])
    old = {name for name in found if name.startswith("pg_stat_bgwriter_checkpoint")}
    old |= found.keys() & {"pg_stat_bgwriter_buffers_backend_total", "pg_stat_bgwriter_buffers_backend_fsync_total"}
    new = {name for name in found if name.startswith("pg_stat_checkpointer_")}

    assert "pg_stat_bgwriter_buffers_clean_total" in found
    assert (len(old), len(new)) == {13: (6, 0), 17: (0, 9), 18: (0, 11)}.get(MAJOR[version], (6, 0))
    if MAJOR[version] >= 17:
        assert _value(found, "pg_stat_checkpointer_num_requested_total") == 7
        assert _value(found, "pg_stat_checkpointer_write_time_total") == 86512


#: By the first version that has them.
SINCE = {
    14: (
        "pg_stat_database_active_time_seconds_total", "pg_stat_database_sessions", "pg_stat_database_session_time",
        "pg_stat_statements_stats_reset_timestamp_seconds", "pg_stat_statements_dealloc_total",
    ),
    16: ("pg_stat_database_conflicts_confl_active_logicalslot",),
    17: (
        "pg_stat_checkpointer_num_timed_total", "pg_stat_progress_vacuum_dead_tuple_bytes",
        "pg_stat_progress_vacuum_max_dead_tuple_bytes",
    ),
    18: (
        "pg_stat_checkpointer_num_done_total", "pg_stat_checkpointer_slru_written_total",
        "pg_stat_database_parallel_workers_launched",
    ),
}  # fmt: skip
#: By the first version that does not have them any more.
UNTIL = {
    17: (
        "pg_stat_bgwriter_checkpoints_timed_total", "pg_stat_bgwriter_buffers_backend_fsync_total",
        "pg_stat_progress_vacuum_num_dead_tuples", "pg_stat_progress_vacuum_max_dead_tuples",
        "pg_settings_old_snapshot_threshold_seconds",
    ),
}  # fmt: skip


@pytest.mark.parametrize("version", [it for it in VERSIONS if it != "15-standby"])
def test_what_a_version_does_not_have_is_absent(version: str, collected: dict[str, list[Sample]]) -> None:
    found = _by_name(collected[version]).keys()
    for since, names in SINCE.items():
        assert found & set(names) == (set(names) if MAJOR[version] >= since else set())
    for until, names in UNTIL.items():
        assert found & set(names) == (set(names) if MAJOR[version] < until else set())


@pytest.mark.parametrize("version", [it for it in VERSIONS if it != "15-standby"])
def test_statements_are_counted_with_the_columns_of_every_version_of_the_extension(
    version: str, collected: dict[str, list[Sample]]
) -> None:
    found = _by_name(collected[version])
    executed = [it for it in found["pg_stat_statements_calls_total"] if dict(it.series.labels)["queryid"] != "other"]
    assert executed
    assert {it.value for it in executed} == {3.0}
    assert {round(it.value, 9) for it in found["pg_stat_statements_seconds_total"]} == {0.0, 1.5}
    assert {it.value for it in found["pg_stat_statements_rows_total"]} == {0.0, 5.0}
    assert {it.value for it in found["pg_stat_statements_wal_bytes_total"]} == {0.0, 7.0}
    assert {it.value for it in found["pg_stat_statements_block_read_seconds_total"]} == {0.0}


def test_a_column_that_the_version_does_not_have_is_an_error_here_as_it_is_there(server: PostgresServer) -> None:
    stand_in = StandIn(server.dsn("postgres", "monitor"), "17")
    with pytest.raises(QueryError, match="42703"):
        stand_in.session.query("SELECT checkpoints_timed FROM pg_catalog.pg_stat_bgwriter")
    stand_in.session.close()


def test_a_primary_is_0_seconds_behind_and_has_no_last_replay(collected: dict[str, list[Sample]]) -> None:
    found = _by_name(collected["15"])
    assert _value(found, "pg_replication_is_replica") == 0
    assert _value(found, "pg_replication_lag_seconds") == 0
    assert "pg_replication_last_replay_seconds" not in found
    assert "pg_stat_wal_receiver_flushed_lsn" not in found


def test_a_standby_tells_its_lag_and_its_receiver(collected: dict[str, list[Sample]]) -> None:
    found = _by_name(collected["15-standby"])
    assert _value(found, "pg_replication_is_replica") == 1
    assert 0 < _value(found, "pg_replication_lag_seconds") < 60
    assert 0 < _value(found, "pg_replication_last_replay_seconds") < 60
    receiver = {"upstream_host": "127.0.0.1", "slot_name": "standby", "status": "streaming"}
    assert _value(found, "pg_stat_wal_receiver_flushed_lsn", **receiver) >= _value(found, "pg_wal_position_bytes_total")


def test_the_standbys_of_a_primary_and_its_slots_are_there(collected: dict[str, list[Sample]]) -> None:
    for version in set(VERSIONS) - {"15-standby"}:
        found = _by_name(collected[version])
        standby = {"application_name": "second", "client_addr": "127.0.0.1", "slot_name": "standby"}
        assert _value(found, "pg_stat_replication_pg_wal_lsn_diff", **standby) >= 0
        assert _value(found, "pg_replication_slots_active", slot_name="standby", database="") == 1
        assert _value(found, "pg_replication_slots_active", slot_name="changes", database="shop") == 0
        assert _value(found, "pg_replication_slot_slot_is_active", slot_name="changes", slot_type="logical") == 0


def _refusing(server: PostgresServer, **refusals: str) -> StandIn:
    return StandIn(server.dsn("postgres", "monitor"), "15", refusals)


def test_where_the_provider_has_no_wal_all_else_is_there_and_it_is_not_asked_for_again(server: PostgresServer) -> None:
    stand_in = _refusing(server, pg_current_wal_lsn="55000", pg_stat_wal_receiver="0A000", pg_ls_waldir="0A000")
    background, replication = BackgroundCollector(stand_in), ReplicationCollector(stand_in)
    for _ in range(2):
        found = _by_name([*background.collect(), *replication.collect()])
        assert {"pg_stat_bgwriter_buffers_clean_total", "pg_stat_archiver_archived_count"} <= found.keys()
        assert {"pg_replication_is_replica", "pg_replication_lag_seconds"} <= found.keys()
        assert not found.keys() & {"pg_wal_position_bytes_total", "pg_replication_slots_active"}
    with pytest.raises(NotAvailable):
        list(WalCollector(stand_in).collect())
    refused = stand_in.session.cost.failures
    list(background.collect())
    list(replication.collect())
    assert stand_in.session.cost.failures == refused
    stand_in.session.close()


def test_a_role_that_may_not_list_the_wal_is_told_what_to_grant(server: PostgresServer) -> None:
    stand_in = _refusing(server, pg_ls_waldir="42501")
    with pytest.raises(Missing, match="GRANT pg_monitor"):
        list(WalCollector(stand_in).collect())
    stand_in.session.close()


def test_sizes_that_take_too_long_to_measure_leave_the_statistics_and_are_not_tried_again_at_once(
    server: PostgresServer,
) -> None:
    stand_in = _refusing(server, pg_database_size="57014")
    now = [0.0]
    collector = DatabaseCollector(stand_in, clock=lambda: now[0])
    for when, failures in ((0.0, 1), (15.0, 1), (60.0, 2)):
        now[0] = when
        found = _by_name(collector.collect())
        assert "pg_stat_database_xact_commit" in found
        assert "pg_database_size_bytes" not in found
        assert stand_in.session.cost.failures == failures
    stand_in.session.close()


def test_detailed_activity_has_the_labels_of_newer_peers(server: PostgresServer) -> None:
    stand_in = StandIn(server.dsn("postgres", "monitor"), "15")
    activity = Activity(stand_in, {"slow_query": 1.0})
    found = _by_name(DetailedActivityCollector(stand_in, activity).collect())
    value = functools.partial(_value, found, "pg_stat_activity_count", datname="shop")
    assert value(state="idle in transaction", usename="app", application_name="billing", wait_event="ClientRead") == 1
    assert value(state="active", usename="app", wait_event_type="Lock", backend_type="client backend") == 1
    assert value(state="disabled") == 0
    stand_in.session.close()
