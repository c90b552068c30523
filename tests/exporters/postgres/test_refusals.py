"""Queries that a managed server rejects or times out: everything else is collected, and retries are delayed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from databases import PostgresServer, postgres_server
from deckwatch.exporter import Missing, NotAvailable, Sample
from deckwatch.testing import opened
from deckwatch_exporters.clients.libpq import QueryError, Session
from deckwatch_exporters.postgres import EXPORTER
from deckwatch_exporters.postgres.background import BackgroundCollector, Supported, WalCollector
from deckwatch_exporters.postgres.database import DatabaseCollector
from deckwatch_exporters.postgres.locks import LocksCollector
from deckwatch_exporters.postgres.replication import ReplicationCollector
from deckwatch_exporters.postgres.server import Server
from services import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from deckwatch.exporter import Samples
    from deckwatch_exporters.clients.libpq import Result


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        server.execute("SELECT pg_create_physical_replication_slot('standby', true)")
        yield server


class RefusingSession(Session):
    """`refusals` by a part of the statement: the SQLSTATE of the answer."""

    refusals: Mapping[str, str] = {}

    def queries(self, statements: Sequence[str]) -> list[Result]:
        for part, sqlstate in self.refusals.items():
            if any(part in statement for statement in statements):
                self.cost.failures += 1
                raise QueryError(sqlstate, f"{part} is currently not supported")
        return super().queries(statements)


def _refusing(postgres: PostgresServer, **refusals: str) -> Server:
    server = Server(postgres.dsn(), 4.0, 0.1)
    session = RefusingSession(postgres.dsn(), 4.0, 0.1, setup=server.learn)
    session.refusals = refusals
    server.session = session
    return server


def _names(samples: Samples) -> set[str]:
    return {sample.series.metric.name for sample in samples if isinstance(sample, Sample)}


def test_a_provider_without_wal_functions_loses_only_those_metrics_and_is_not_queried_again(
    postgres: PostgresServer,
) -> None:
    server = _refusing(postgres, pg_current_wal_lsn="55000", pg_stat_wal_receiver="0A000", pg_ls_waldir="0A000")
    background, replication = BackgroundCollector(server), ReplicationCollector(server)
    for _ in range(2):
        found = _names([*background.collect(), *replication.collect()])
        assert {"pg_stat_bgwriter_buffers_clean_total", "pg_stat_archiver_archived_count"} <= found
        assert {"pg_replication_is_replica", "pg_replication_lag_seconds"} <= found
        assert not found & {"pg_wal_position_bytes_total", "pg_replication_slots_active"}
    with pytest.raises(NotAvailable):
        list(WalCollector(server).collect())
    refused = server.session.cost.failures
    list(background.collect())
    list(replication.collect())
    assert server.session.cost.failures == refused
    server.session.close()


def test_missing_permission_to_list_the_wal_is_reported_with_the_grant(postgres: PostgresServer) -> None:
    server = _refusing(postgres, pg_ls_waldir="42501")
    with pytest.raises(Missing, match="GRANT pg_monitor"):
        list(WalCollector(server).collect())
    server.session.close()


def test_size_queries_that_time_out_do_not_affect_statistics_and_are_retried_later(
    postgres: PostgresServer,
) -> None:
    server = _refusing(postgres, pg_database_size="57014")
    now = [0.0]
    collector = DatabaseCollector(server, clock=lambda: now[0])
    for when, failures in ((0.0, 1), (15.0, 1), (60.0, 2)):
        now[0] = when
        found = _names(collector.collect())
        assert "pg_stat_database_xact_commit" in found
        assert "pg_database_size_bytes" not in found
        assert server.session.cost.failures == failures
    server.session.close()


def test_a_query_rejected_during_a_promotion_is_retried(postgres: PostgresServer) -> None:
    server = _refusing(postgres, pg_current_wal_lsn="55000")
    now = [0.0]
    supported = Supported(clock=lambda: now[0])
    part = "SELECT pg_catalog.pg_current_wal_lsn() AS position"
    assert supported.query(server.session, (part,)).rows == []

    server.session.refusals = {}  # type: ignore[attr-defined]  # a RefusingSession
    assert supported.query(server.session, (part,)).rows == []
    now[0] = 301.0
    assert len(supported.query(server.session, (part,)).rows) == 1
    server.session.close()


@pytest.mark.parametrize("sqlstate", ["40001", "57014", "53200", "57P03"])
def test_a_transient_refusal_fails_one_run_and_is_not_remembered(sqlstate: str, postgres: PostgresServer) -> None:
    """40001 is a conflict with recovery."""
    server = _refusing(postgres, pg_stat_archiver=sqlstate, pg_locks=sqlstate, pg_replication_slots=sqlstate)
    collectors = (BackgroundCollector(server), LocksCollector(server), ReplicationCollector(server))
    for collector in collectors:
        with pytest.raises(QueryError):
            list(collector.collect())

    server.session.refusals = {}  # type: ignore[attr-defined]  # a RefusingSession
    for collector in collectors:
        assert _names(collector.collect())
    server.session.close()


def test_a_server_without_a_free_connection_is_down_until_one_is_free() -> None:
    with postgres_server(max_connections="4", superuser_reserved_connections="1") as server:
        server.execute("CREATE EXTENSION pg_stat_statements", "CREATE ROLE monitor LOGIN IN ROLE pg_monitor")
        server.execute("CREATE ROLE app LOGIN")
        with opened(EXPORTER, {"dsn": server.dsn(user="monitor")}) as target, contextlib.ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(server.connect(user="app"))
            refused = target.collect()
            assert refused.values["pg_up"] == 0
            assert "connection" in refused.errors["postgres.server"]
            stack.close()
            until(lambda: target.collect("postgres.server").values["pg_up"] == 1)
            assert target.collect().errors == {}
