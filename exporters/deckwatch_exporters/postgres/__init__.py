"""PostgreSQL, under the names of postgres_exporter, with one connection per server and one for its other databases."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from deckwatch.exporter import Exporter, FromEnvironment, KeyFigure, Scheduled, Target
from deckwatch_exporters.clients.samples import Once

from .activity import Activity, ActivityCollector, DetailedActivityCollector
from .advice import advice
from .background import BackgroundCollector, WalCollector
from .configuration import ConfigurationCollector
from .database import DatabaseCollector
from .findings import findings
from .locks import BlockedCollector, LocksCollector
from .plans import Plans
from .progress import VacuumCollector
from .replication import ReplicationCollector
from .schema import SchemaCollector
from .server import UP, Server, ServerCollector
from .settings import PostgresSettings
from .slow_queries import SlowQueriesCollector
from .statements import StatementsCollector
from .tables import OtherDatabasesCollector, TablesCollector

if TYPE_CHECKING:
    from deckwatch.exporter import Collector, Context


def open_server(settings: PostgresSettings, context: Context) -> Target:
    """The collectors of one server in the order in which they run: later ones use the results of earlier ones."""
    server = Server(settings.conninfo, settings.timeout, settings.lock_timeout)
    exclude = settings.exclude_databases
    activity = Activity(server, context.thresholds)
    sessions = DetailedActivityCollector if settings.detailed_activity else ActivityCollector
    collectors: dict[str, Collector | Scheduled] = {
        "server": ServerCollector(server),
        "database": DatabaseCollector(server, exclude),
        "stat_activity": sessions(server, activity, exclude),
        "locks": LocksCollector(server, exclude),
        "bgwriter": BackgroundCollector(server),
        "wal": WalCollector(server),
        "replication": ReplicationCollector(server),
        "settings": ConfigurationCollector(server),
        "stat_progress_vacuum": VacuumCollector(server, activity),
    }
    if settings.tables.enabled:
        collectors["stat_user_tables"] = TablesCollector(server, settings.tables)
        collectors["schema"] = SchemaCollector(server)
    statements = None
    if settings.statements.enabled:
        statements = StatementsCollector(server, settings.statements, context)
        collectors["stat_statements"] = statements
    if settings.slow_queries.enabled:
        plans = Plans(server) if settings.slow_queries.explain else None
        collectors["blocked"] = BlockedCollector(server, activity, context, settings.slow_queries)
        collectors["slow_queries"] = SlowQueriesCollector(
            server, activity, statements, context, settings.slow_queries, plans
        )
    if settings.databases:
        others = OtherDatabasesCollector(settings)
        collectors["databases"] = Scheduled(others, interval=settings.databases_interval, group="databases")
    return Target({name: _once(it) for name, it in collectors.items()}, server.session.close)


def _once(collector: Collector | Scheduled) -> Collector | Scheduled:
    if isinstance(collector, Scheduled):
        return replace(collector, collector=Once(collector.collector))
    return Once(collector)


EXPORTER = Exporter(
    name="postgres",
    settings=PostgresSettings,
    open=open_server,
    collectors=(
        "server",
        "database",
        "stat_activity",
        "locks",
        "bgwriter",
        "wal",
        "replication",
        "settings",
        "stat_progress_vacuum",
        "stat_user_tables",
        "schema",
        "stat_statements",
        "blocked",
        "slow_queries",
        "databases",
    ),
    named=True,
    up=UP,
    extra="postgres",
    scrape_prefix="pg",
    from_environment=FromEnvironment(
        "DATABASE_URL", "dsn", schemes=("postgres://", "postgresql://", "postgresql+", "postgis://")
    ),
    key_figures=(
        KeyFigure("Transactions", "pg_stat_database_xact_commit", per_second=True),
        KeyFigure("Sessions", "pg_stat_activity_count"),
        KeyFigure("Size", "pg_database_size_bytes", unit="bytes"),
    ),
    runbook="PostgresDown",
    check=findings,
    advise=advice,
)
