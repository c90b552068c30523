"""The committed dashboards as tests read them: panels, queries, and what Grafana makes of a query's variables."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from services import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = ROOT / "dashboards"
NAMES = ("overview", "host", "processes", "redis", "postgres", "slow-queries", "logs", "deckwatch")

#: What Grafana fills in when everything is chosen; a search for nothing.
_ALL = {"target": ".*", "datname": ".*", "level": ".*", "job": ".+", "instance": ".+", "service": ".+", "search": ""}
_TIMES = {"__rate_interval": "15s", "__auto": "3600s", "__interval": "15s", "__range": "3600s"}

_WORDS = {
    *("by", "on", "without", "ignoring", "group_left", "group_right", "and", "or", "unless", "bool", "offset"),
    *("le", "inf"),
}


@dataclass(frozen=True)
class Query:
    board: str
    panel: str
    kind: str  # of the panel
    expression: str  # as it is in the dashboard
    datasource: dict[str, str]
    instant: bool

    @property
    def is_loki(self) -> bool:
        return self.datasource["type"] == "loki"

    @property
    def filled(self) -> str:
        return filled(self.expression)

    def __str__(self) -> str:
        return f"{self.board}, {self.panel}: {self.expression}"


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return found


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All but rows."""
    for panel in board["panels"]:
        yield from panels(panel) if panel.get("panels") else ()
        if panel["type"] != "row":
            yield panel


def queries(name: str) -> list[Query]:
    return [
        Query(
            board=name,
            panel=panel["title"],
            kind=panel["type"],
            expression=target["expr"],
            datasource=target["datasource"],
            instant=target.get("instant", False) or target.get("queryType") == "instant",
        )
        for panel in panels(load(name))
        for target in panel.get("targets", [])
    ]


def every_query() -> list[Query]:
    return [query for name in NAMES for query in queries(name)]


def filled(text: str) -> str:
    """`text` with the variables that Grafana knows filled in. An unknown one is an error."""
    values = _ALL | _TIMES
    return re.sub(r"\$\{?(\w+)\}?", lambda match: values[match[1]], text)


def selectors(expression: str) -> list[tuple[str, str]]:
    """The metrics that a PromQL query selects, each with its matchers as they are written: without any, ''."""
    outside = re.sub(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'', lambda m: "_" * len(m[0]), expression)
    found = []
    labels = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)")
    outside = labels.sub(lambda m: " " * len(m[0]), outside)
    outside = re.sub(r"\[[^\]]*\]", lambda m: " " * len(m[0]), outside)
    matchers = {m.start(): m for m in re.finditer(r"\{[^}]*\}", outside)}
    inside = [range(m.start(), m.end()) for m in matchers.values()]
    for name in re.finditer(r"[a-zA-Z_:][\w:]*", outside):
        if any(name.start() in span for span in inside) or name[0] in _WORDS:
            continue
        if re.match(r"\s*\(", outside[name.end() :]):
            continue  # a function or an aggregation
        own = matchers.get(name.end())
        found.append((name[0], expression[own.start() + 1 : own.end() - 1] if own else ""))
    return found
