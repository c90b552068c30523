"""The little that Deckwatch has to know of PromQL: durations, the names in an expression, and what they stand for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}
_DURATION = re.compile(r"(?:\d+(?:ms|[smhdwy]))+")
_PART = re.compile(r"(\d+)(ms|[smhdwy])")

_STRING = r'"(?:[^"\\]|\\.)*"'
_ASIDE = re.compile(
    rf"{_STRING}|#[^\n]*|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)"
    rf"|\[[^\]]*\]|\{{(?:{_STRING}|[^}}\"])*\}}|\boffset\s+-?\w+"
)
_WORDS = {"and", "or", "unless", "bool", "by", "on", "without", "ignoring", "group_left", "group_right", "inf", "nan"}
# An aggregation may have its clause before its parenthesis: `sum by (job) (...)`.
_AGGREGATIONS = {"sum", "min", "max", "avg", "group", "count", "stddev", "stdvar", "topk", "bottomk", "quantile"}
_NAME = re.compile(r"(?<![\w:.])[a-zA-Z_:][\w:]*(?![\w:])(?!\s*\()")
_SELECTOR_END = r"(?P<range>\[(?P<over>[^\]:]+)\])?(?P<offset>\s*offset\s+\w+)?"


def seconds(duration: str) -> float:
    """`1h30m` -> 5400.0. Raises ValueError."""
    if duration == "0":
        return 0.0
    if not _DURATION.fullmatch(duration):
        raise ValueError(f"{duration!r} is not a duration like 90s, 10m or 1h30m")
    return float(sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(duration)))


def names_in(expr: str) -> set[str]:
    """The metrics and recorded series that an expression reads."""
    names: list[str] = _NAME.findall(_ASIDE.sub(" ", expr))
    return {name for name in names if name.lower() not in _WORDS | _AGGREGATIONS}


def expanded(expr: str, recorded: Mapping[str, str], step: str) -> str:
    """The expression with the recorded series replaced by what they record, so that it needs no recording.

    A range or an offset of one becomes a subquery, with `step` as its resolution (`15s`). Raises ValueError where
    matchers on a recorded series cannot be moved into what it records.
    """
    for name in sorted(names_in(expr) & set(recorded)):
        inner = expanded(recorded[name], recorded, step)
        selector = re.compile(rf"(?<![\w:]){re.escape(name)}(?![\w:])(?P<matchers>\s*\{{)?{_SELECTOR_END}")

        def replaced(found: re.Match[str], name: str = name, inner: str = inner) -> str:
            if found["matchers"]:
                raise ValueError(f"{name} is recorded, and has matchers")
            offset = f" {found['offset'].strip()}" if found["offset"] else ""
            if found["range"]:
                return f"({inner})[{found['over']}:{step}]{offset}"
            # Only a selector or a subquery can have an offset.
            return f"last_over_time(({inner})[{step}:{step}]{offset})" if offset else f"({inner})"

        expr = selector.sub(replaced, expr)
    return expr
