"""Levels under one name each, whatever logging library wrote them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from deckwatch.config.log_settings import LevelNumbers

UNKNOWN: Final = "unknown"

_SYNONYMS: Final = {
    "trace": ("t", "trc", "finest", "finer", "silly"),
    "debug": ("d", "dbg", "verbose", "fine", "config"),
    "info": ("i", "inf", "information", "informational", "notice", "success", "log"),
    "warning": ("w", "wrn", "warn"),
    "error": ("e", "err", "eror", "severe", "exception"),
    "critical": ("c", "f", "crit", "fatal", "panic", "dpanic", "alert", "emerg", "emergency"),
}
_NAMES: Final = {name: level for level, names in _SYNONYMS.items() for name in (level, *names)}
#: RFC 5424, section 6.2.1: 0 is emergency, 7 is debug.
_SYSLOG: Final = ("critical", "critical", "critical", "error", "warning", "info", "info", "debug")
_ORDER: Final = ("trace", "debug", "info", "warning", "error", "critical")
#: What console formatters put around a name: colors (ECMA-48, section 5.4), brackets and a colon.
_AROUND: Final = re.compile(r"\x1b\[[0-9;]*m|[\s\[\]<>():]")


def normalized(level: object, numbers: LevelNumbers = "auto") -> str:
    """`trace`, `debug`, `info`, `warning`, `error` or `critical`; `unknown` for all that is no known level.

    `numbers` says which library's numbers they are, also in text; `auto` and `unchanged` are syslog's (0 to 7) or
    pino's (10 to 69).
    """
    if isinstance(level, str):
        if len(level) > 32:
            return UNKNOWN
        name = level.strip().lower()
        if name not in _NAMES:
            name = _AROUND.sub("", name)
        if name not in _NAMES and name.isascii() and name.isdecimal():
            return _numbered(int(name), numbers)
        return _NAMES.get(name, UNKNOWN)
    if isinstance(level, int | float) and not isinstance(level, bool) and 0 <= level < 70:
        return _numbered(int(level), numbers)
    return UNKNOWN


def _numbered(number: int, numbers: LevelNumbers) -> str:
    match numbers:
        case "python":  # logging: DEBUG is 10, CRITICAL is 50
            return _ORDER[min(number // 10, 5)]
        case "otel":  # OpenTelemetry's SeverityNumber: four for each level, from 1
            return _ORDER[(number - 1) // 4] if 1 <= number <= 24 else UNKNOWN
        case "pino":
            return _ORDER[number // 10 - 1] if 10 <= number < 70 else UNKNOWN
        case "syslog":
            return _SYSLOG[number] if number < len(_SYSLOG) else UNKNOWN
    return _numbered(number, "syslog" if number < len(_SYSLOG) else "pino")
