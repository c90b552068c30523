"""Redis and compatible servers (Valkey, KeyDB), under the names of redis_exporter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Collector, Exporter, FromEnvironment, KeyFigure, Scheduled, Target
from deckwatch_exporters.clients.redis.connection import Connection

from .access import check_access
from .facts import Facts
from .selected_keys import SelectedKeys
from .server import UP, Server
from .settings import RedisSettings
from .slowlog import SlowLog

if TYPE_CHECKING:
    from deckwatch.exporter import Context


def open_server(settings: RedisSettings, context: Context) -> Target:
    """The collectors of one server. They share its connection; the first one opens it."""
    connection, facts = Connection(settings), Facts()
    collectors: dict[str, Collector | Scheduled] = {"redis": Server(connection, facts, settings, context)}
    if settings.slowlog.events:
        collectors["slowlog"] = SlowLog(connection, facts, settings, context)
    if settings.watches_keys:
        collectors["keys"] = Scheduled(
            SelectedKeys(connection, facts, settings, context), interval=settings.keys_interval
        )
    return Target(collectors, connection.close)


EXPORTER = Exporter(
    name="redis",
    settings=RedisSettings,
    open=open_server,
    collectors=("redis", "slowlog", "keys"),
    named=True,
    up=UP,
    extra="redis",
    from_environment=FromEnvironment("REDIS_URL"),
    key_figures=(
        KeyFigure("Commands", "redis_commands_processed_total", per_second=True),
        KeyFigure("Memory used", "redis_memory_used_bytes", unit="bytes"),
        KeyFigure("Clients", "redis_connected_clients"),
    ),
    runbook="RedisDown",
    check=check_access,
)
