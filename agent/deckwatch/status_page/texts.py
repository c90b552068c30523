"""Numbers and times as the page shows them."""

from __future__ import annotations

from datetime import UTC, datetime

_BYTES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_AMOUNTS = ("", "k", "M", "G", "T")
UNKNOWN = "\u2013"


def number(value: float | None, unit: str = "", per_second: bool = False) -> str:
    """`1.2 GiB`, `87%`, `3.4 s`, `12.3k/s`; a dash for None."""
    if value is None:
        return UNKNOWN
    if unit == "ratio":
        return f"{value:.1%}" if 0 < value < 0.1 else f"{value:.0%}"
    if unit == "seconds":
        return duration(value)
    text = _scaled(value, 1024, _BYTES, " ") if unit == "bytes" else _scaled(value, 1000, _AMOUNTS, "")
    return f"{text}/s" if per_second else text


def _scaled(value: float, step: int, units: tuple[str, ...], gap: str) -> str:
    power = 0
    while abs(value) >= step - 0.5 and power < len(units) - 1:
        value /= step
        power += 1
    whole = value == int(value) if power == 0 else abs(value) >= 100
    return f"{value:.{0 if whole else 1}f}{gap if units[power] else ''}{units[power]}"


def duration(seconds: float) -> str:
    """`12 ms`, `3.4 s`, `5 min`, `2 h`, `3 d`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds > 0 else "0 s"
    for limit, size, unit in ((90, 1, "s"), (5400, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            amount = seconds / size
            return f"{amount:.1f} {unit}" if amount < 10 and unit == "s" else f"{amount:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def ago(timestamp: float | None, now: float) -> str:
    """`12 s ago`, `in 3 s`; empty for None."""
    if timestamp is None:
        return ""
    passed = now - timestamp
    if abs(passed) < 1:
        return "now"
    return f"{duration(passed)} ago" if passed > 0 else f"in {duration(-passed)}"


def moment(timestamp: float | None) -> str:
    """ISO 8601 in UTC, for the `datetime` attribute and the tooltip."""
    return "" if timestamp is None else datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
