"""Durations as Prometheus writes them: `90s`, `1h30m`."""

from __future__ import annotations

import re

_SECONDS = {"y": 31536000.0, "w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
#: Each unit at most once, from the largest to the smallest.
PATTERN = "(?=[0-9])" + "".join(f"(?:[0-9]+{unit})?" for unit in ("y", "w", "d", "h", "m(?!s)", "s", "ms"))
_DURATION = re.compile(PATTERN)
_PART = re.compile(r"([0-9]+)(ms|[ywdhms])")


def seconds(duration: str) -> float:
    """Convert a duration: `1h30m` is 5400.0. Raises ValueError."""
    if duration == "0":
        return 0.0
    if not duration or not _DURATION.fullmatch(duration):
        raise ValueError(f"{duration!r} is not a duration like 90s, 10m or 1h30m")
    return sum(int(number) * _SECONDS[unit] for number, unit in _PART.findall(duration))
