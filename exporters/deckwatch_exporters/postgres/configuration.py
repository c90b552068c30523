"""pg_settings: every setting that is a number or a switch, in base units.

https://www.postgresql.org/docs/current/view-pg-settings.html
"""

from __future__ import annotations

import string
import time
from typing import TYPE_CHECKING

from deckwatch.exporter import MetricPattern
from deckwatch_exporters.clients.libpq import MARK, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from deckwatch.exporter import Sample
    from deckwatch_exporters.clients.libpq import Row

    from .server import Server

SETTING = MetricPattern("pg_settings_*", "gauge", "Setting of the server: {}.", ("server",))

# What this very session has set (its timeouts, read only) says nothing of the server's.
_QUERY = f"""SELECT {MARK} name,
    CASE WHEN source = 'session' OR name = 'transaction_read_only' AND NOT pg_is_in_recovery()
         THEN reset_val ELSE setting END,
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


def parsed(setting: str, unit: str) -> tuple[float, str]:
    """As `in_base_units()`. Aurora writes the unit into some values (`16MB`): that one counts then."""
    value = setting.rstrip(string.ascii_letters)
    own_unit = setting[len(value) :]
    _, base = in_base_units(0, unit)
    return in_base_units(float(value), own_unit or unit)[0], base


class ConfigurationCollector:
    """Named `settings`, as the peer's. What was read stays for a minute, unless the connection is a new one."""

    def __init__(self, server: Server, clock: Callable[[], float] = time.monotonic) -> None:
        self._server = server
        self._clock = clock
        self._samples: list[Sample] = []
        self._read = (-1, 0.0)

    def collect(self) -> Iterable[Sample]:
        session = self._server.session
        session.ensure()
        generation, when = self._read
        if generation != session.generation or self._clock() - when > INTERVAL - 1:
            samples = [sample for row in session.query(_QUERY) for sample in self._sample(row)]
            # Names that differ in a character that no metric may have: one of them is better than none at all.
            self._samples = list({sample.series.text: sample for sample in samples}.values())
            self._read = (session.generation, self._clock())
        return self._samples

    def _sample(self, row: Row) -> Iterable[Sample]:
        name, setting, unit, kind, description = row
        if setting is None:
            return
        try:
            figure, base = (float(setting == b"on"), "") if kind == b"bool" else parsed(text(setting), text(unit))
        except ValueError:
            return  # a provider's own settings follow no rule
        metric = SETTING.named(f"{text(name)}_{base}" if base else text(name), text(description) or None)
        yield metric(figure, server=self._server.label)
