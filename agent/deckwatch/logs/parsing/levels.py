"""Levels under one name each, whatever logging library wrote them."""

from __future__ import annotations

from typing import Final

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
#: Pino and bunyan by tens. Python's own numbers are others, but its formatters write names.
_TENS: Final = ("trace", "debug", "info", "warning", "error", "critical")


def normalized(level: object) -> str:
    """`trace`, `debug`, `info`, `warning`, `error` or `critical`; `unknown` for all that is no known level.

    Numbers, also as text, are syslog's (0 to 7) or pino's and bunyan's (10 to 69).
    """
    if isinstance(level, str):
        if len(level) > 32:
            return UNKNOWN
        name = level.strip().lower()
        if name not in _NAMES and name.isascii() and name.isdecimal():
            return _numbered(int(name))
        return _NAMES.get(name, UNKNOWN)
    if isinstance(level, int | float) and not isinstance(level, bool) and 0 <= level < 70:
        return _numbered(int(level))
    return UNKNOWN


def _numbered(number: int) -> str:
    if number < len(_SYSLOG):
        return _SYSLOG[number]
    return _TENS[number // 10 - 1] if 10 <= number < 70 else UNKNOWN
