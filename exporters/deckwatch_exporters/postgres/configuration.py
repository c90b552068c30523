"""pg_settings: every setting that is a number or a switch, in base units.

https://www.postgresql.org/docs/current/view-pg-settings.html
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from deckwatch.metric import MetricPattern

from .session import MARK, number, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from deckwatch.metric import Sample

    from .server import Server
    from .session import Row

SETTING = MetricPattern("pg_settings_*", "gauge", "Setting of the server: {}.", ("server",))

# What this very session has set (its timeouts, read only) says nothing of the server's.
_QUERY = f"""SELECT {MARK} name,
    CASE WHEN source = 'session' OR name = 'transaction_read_only' THEN reset_val ELSE setting END,
    unit, vartype, short_desc
FROM pg_settings WHERE vartype IN ('bool', 'integer', 'real')"""

#: Settings change seldom, and take the server as long to list as everything else: not more often than this (seconds).
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
    """The value and its unit (seconds, bytes or none). Units are such as `ms` and `8kB`; -1 means something special.

    Raises ValueError for a unit that nobody knows.
    """
    stem = unit.lstrip("0123456789")
    if not unit:
        return value, ""
    if stem not in _UNITS:
        raise ValueError(f"unknown unit: {unit!r}")
    base, factor = _UNITS[stem]
    count = float(unit[: len(unit) - len(stem)] or 1)
    return (value if value == -1 else value * count * factor), base


class ConfigurationCollector:
    """Named `settings`, as the peer's. What was read stays for a minute, unless the connection is a new one."""

    def __init__(self, server: Server, clock: Callable[[], float] = time.monotonic) -> None:
        self._server = server
        self._clock = clock
        self._samples: list[Sample] = []
        self._read = (-1, 0.0)

    def collect(self) -> Iterable[Sample]:
        session = self._server.session
        generation, when = self._read
        if generation != session.generation or self._clock() - when > INTERVAL - 1:
            self._samples = [sample for row in session.query(_QUERY) for sample in self._sample(row)]
            self._read = (session.generation, self._clock())
        return self._samples

    def _sample(self, row: Row) -> Iterable[Sample]:
        name, setting, unit, kind, description = row
        try:
            value = float(setting == b"on") if kind == b"bool" else number(setting)
            figure, base = in_base_units(value, text(unit)) if value is not None else (None, "")
        except ValueError:
            return  # a provider's own settings follow no rule (RDS writes units into the value)
        if figure is not None:
            metric = SETTING.named(f"{text(name)}_{base}" if base else text(name), text(description) or None)
            yield metric(figure, server=self._server.label)
