"""Durations as text, such as `1m30s`: the config and the command line share the format."""

import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|w)")
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d|w))+")


def seconds_in(text: str) -> float | None:
    """The seconds of a duration such as `1m30s`, `500ms` or `1d`; None for other text."""
    if not _DURATION.fullmatch(text.strip()):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
