"""pg_settings: every numeric and boolean setting, in base units.

https://www.postgresql.org/docs/current/view-pg-settings.html
"""

from __future__ import annotations

import string
import time
from typing import TYPE_CHECKING

from deckwatch.exporter import Malformed, MetricPattern, Refresh
from deckwatch_exporters.clients.libpq import MARK, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from deckwatch.exporter import Sample, Samples
    from deckwatch_exporters.clients.libpq import Row

    from .server import Server

SETTING = MetricPattern("pg_settings_*", "gauge", "Setting {} of the server, in base units.", ("server",))

# A value that applies to this session, role or database only is not the server's. The server's own value is then
# unknown, unless only this session has changed it.
_QUERY = f"""SELECT {MARK} name,
    CASE WHEN source = 'session' OR name = 'transaction_read_only' AND NOT pg_catalog.pg_is_in_recovery()
         THEN reset_val ELSE setting END,
    unit, vartype, short_desc
FROM pg_catalog.pg_settings WHERE vartype IN ('bool', 'integer', 'real')
    AND source NOT IN ('global', 'database', 'user', 'database user', 'client')
    AND pg_catalog.lower(name) NOT IN (
        SELECT pg_catalog.lower(pg_catalog.split_part(pg_catalog.unnest(s.setconfig), '=', 1))
        FROM pg_catalog.pg_db_role_setting AS s
        LEFT JOIN pg_catalog.pg_database AS d ON d.oid = s.setdatabase
        LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = s.setrole
        WHERE (s.setdatabase = 0 OR d.datname = pg_catalog.current_database())
            AND (s.setrole = 0 OR r.rolname = session_user))"""

#: Seconds between two readings: settings rarely change, and are expensive to list.
INTERVAL = 60.0

_UNITS: dict[str, tuple[str, float]] = {
    "us": ("seconds", 1e-6),
    "ms": ("seconds", 1e-3),
    "s": ("seconds", 1.0),
    "min": ("seconds", 60.0),
    "h": ("seconds", 3600.0),
    "d": ("seconds", 86400.0),
    "B": ("bytes", 1.0),
    "kB": ("bytes", 1024.0),
    "MB": ("bytes", 1024.0**2),
    "GB": ("bytes", 1024.0**3),
    "TB": ("bytes", 1024.0**4),
}


def in_base_units(value: float, unit: str) -> tuple[float, str]:
    """The value in seconds, bytes or without a unit. `unit` is `ms` or `8kB`, for example; -1 is a special value.

    Raises ValueError for an unknown unit.
    """
    stem = unit.lstrip("0123456789")
    if not unit:
        return value, ""
    if stem not in _UNITS:
        raise ValueError(f"unknown unit: {unit!r}")
    base, factor = _UNITS[stem]
    count = float(unit[: len(unit) - len(stem)] or 1)
    return (value if value == -1 else value * count * factor), base


def parsed(setting: str, unit: str) -> tuple[float, str]:
    """As `in_base_units()`. In Aurora some values have a unit (`16MB`), which takes precedence."""
    value = setting.rstrip(string.ascii_letters)
    own_unit = setting[len(value) :]
    _, base = in_base_units(0, unit)
    return in_base_units(float(value), own_unit or unit)[0], base


class ConfigurationCollector:
    """The collector `settings`, as in postgres_exporter. Reads every minute, and after a reconnect."""

    def __init__(self, server: Server, clock: Callable[[], float] = time.monotonic) -> None:
        self._server = server
        self._refresh = Refresh(INTERVAL - 1, clock)
        self._generation = -1
        self._samples: list[Sample | Malformed] = []

    def collect(self) -> Samples:
        session = self._server.session
        session.ensure()
        if self._refresh.is_due or self._generation != session.generation:
            self._samples = [sample for row in session.query(_QUERY) for sample in self._sample(row)]
            self._generation = session.generation
            self._refresh.done()
        return self._samples

    def _sample(self, row: Row) -> Samples:
        name, setting, unit, kind, description = row
        if setting is None:
            return
        try:
            figure, base = (float(setting == b"on"), "") if kind == b"bool" else parsed(text(setting), text(unit))
        except ValueError:
            yield Malformed(f"pg_settings: {text(name)}", f"{text(setting)} {text(unit)}".strip()[:100])
            return
        metric = SETTING.named(f"{text(name)}_{base}" if base else text(name), text(description) or None)
        yield metric(figure, server=self._server.label)
