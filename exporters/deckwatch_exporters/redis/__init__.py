"""Redis and what speaks its protocol (Valkey, KeyDB), under redis_exporter's names."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

from deckwatch.exporter import Exporter, FromEnvironment, Probe
from deckwatch.metrics.declaration import declared_in
from deckwatch_exporters.clients.redis.connection import Connection

from .access import check_access
from .facts import Facts
from .selected_keys import SelectedKeys
from .server import Server
from .settings import RedisSettings
from .slowlog import SlowLog

if TYPE_CHECKING:
    from deckwatch.exporter import Context


def open_server(settings: RedisSettings, context: Context) -> list[Probe]:
    """The probes of one server. They share its connection; the first one opens it."""
    connection, facts = Connection(settings), Facts()
    probes = [Probe("redis", Server(connection, facts, settings), group="redis", close=connection.close)]
    if settings.slowlog.events:
        slowlog = SlowLog(connection, facts, settings.slowlog, context)
        probes.append(Probe("redis.slowlog", slowlog, group="redis", close=connection.close))
    if settings.watches_keys:
        keys = SelectedKeys(connection, facts, settings)
        probes.append(Probe("redis.keys", keys, group="redis", interval=settings.keys_interval, close=connection.close))
    return probes


def _modules() -> list[Any]:
    return [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]


EXPORTER = Exporter(
    name="redis",
    settings=RedisSettings,
    open=open_server,
    metrics=declared_in(*_modules()),
    named=True,
    from_environment=FromEnvironment("REDIS_URL"),
    check=check_access,
)
