"""Selectors of Promtail's `match` stage, which are log queries: `{app="web", env=~"prod|test"} |= "text"`."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_STRING: Final = r'(?P<{0}>"(?:[^"\\]|\\.)*"|`[^`]*`)'
_MATCHER: Final = re.compile(
    r"\s*(?P<label>[a-zA-Z_][a-zA-Z0-9_]*)\s*(?P<operator>=~|!~|!=|=)\s*" + _STRING.format("value") + r"\s*(?:,|(?=\}))"
)
_FILTER: Final = re.compile(r"\s*(?P<operator>\|=|\|~|!=|!~)\s*" + _STRING.format("value"))


class Condition(NamedTuple):
    """An expression that a label (None: the line) matches, or does not."""

    label: str | None
    expression: str
    is_negated: bool


def conditions(selector: str) -> list[Condition] | None:
    """The conditions of a selector, all of which have to be true; None if it is not one."""
    text = selector.strip()
    if not text.startswith("{"):
        return None
    found: list[Condition] = []
    place = 1
    while match := _MATCHER.match(text, place):
        operator, value = match["operator"], _unquoted(match["value"])
        expression = value if operator.endswith("~") else re.escape(value)
        found.append(Condition(match["label"], f"^(?:{expression})$", operator.startswith("!")))
        place = match.end()
    if text[place : place + 1] != "}":
        return None
    place += 1
    while match := _FILTER.match(text, place):
        operator, value = match["operator"], _unquoted(match["value"])
        expression = value if operator.endswith("~") else re.escape(value)
        found.append(Condition(None, expression, operator.startswith("!")))
        place = match.end()
    return found if not text[place:].strip() else None


def holds(condition: Condition, labels: Mapping[str, str]) -> bool | None:
    """Whether a condition is true of fixed labels; None if that cannot be found out."""
    try:
        matches = re.search(condition.expression, labels.get(condition.label or "", "")) is not None
    except re.error:
        return None
    return matches is not condition.is_negated


def _unquoted(text: str) -> str:
    if text.startswith("`"):
        return text[1:-1]
    try:
        found: str = json.loads(text, strict=False)
    except ValueError:  # an escape that only Go knows
        return text[1:-1]
    return found
