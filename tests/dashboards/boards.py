"""The committed dashboards as the tests read them: panels, queries, and how Grafana replaces variables."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from services import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

FOLDER = ROOT / "dashboards"
NAMES = (
    *(
        "overview",
        "host",
        "processes",
        "redis",
        "postgres",
        "pgbouncer",
        "slow-queries",
        "queues",
        "celery",
        "application",
        "dependencies",
        "jobs",
        "business",
        "endpoints",
        "logs",
    ),
    "deckwatch",
)

_WORDS = {
    *("by", "on", "without", "ignoring", "group_left", "group_right", "and", "or", "unless", "bool", "offset"),
    *("le", "inf"),
}


@dataclass(frozen=True)
class Choice:
    """What is chosen in Grafana. A variable that is not in `values` has the value "All".

    `jobs` are the options of the variable `job`, for which "All" is the list of its options. Times are in seconds.
    """

    values: Mapping[str, Sequence[str]] = field(default_factory=dict)
    jobs: Sequence[str] = ("deckwatch",)
    scrape_interval: int = 15
    step: int = 15
    time_range: int = 3600

    def __str__(self) -> str:
        chosen = " ".join(f"{name}={'+'.join(values)}" for name, values in self.values.items())
        return f"{chosen or 'All'} every {self.scrape_interval} s"


#: What Grafana uses for "All". A text box has no such value; here, its text is empty.
_ALL = {
    "target": ".*",
    "datname": ".*",
    "queue": ".*",
    "metric": "shop_.+",
    "level": ".*",
    "instance": ".+",
    "host": ".+",
    "service": ".+",
    "job_name": ".*",
    "name": ".*",
    "search": "",
}


@dataclass(frozen=True)
class Query:
    board: str
    panel: str
    kind: str  # the type of the panel
    expression: str  # as in the dashboard
    datasource: dict[str, str]
    instant: bool
    ref: str

    @property
    def is_loki(self) -> bool:
        return self.datasource["type"] == "loki"

    @property
    def filled(self) -> str:
        """The query with "All" chosen everywhere."""
        return filled(self.expression)

    def filled_for(self, choice: Choice) -> str:
        return filled(self.expression, choice)

    def __str__(self) -> str:
        return f"{self.board}, {self.panel}: {self.expression}"


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return found


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All panels except rows."""
    for panel in board["panels"]:
        yield from panels(panel) if panel.get("panels") else ()
        if panel["type"] != "row":
            yield panel


def queries(name: str) -> list[Query]:
    return [query for panel in panels(load(name)) for query in queries_of(name, panel)]


def queries_of(name: str, panel: dict[str, Any]) -> list[Query]:
    return [
        Query(
            board=name,
            panel=panel["title"],
            kind=panel["type"],
            expression=target["expr"],
            datasource=target["datasource"],
            instant=target.get("instant", False) or target.get("queryType") == "instant",
            ref=target["refId"],
        )
        for target in panel.get("targets", [])
    ]


def every_query() -> list[Query]:
    return [query for name in NAMES for query in queries(name)]


def filled(text: str, choice: Choice = Choice()) -> str:
    """`text` with Grafana's variables replaced as Grafana does. An unknown variable is an error.

    https://grafana.com/docs/grafana/latest/datasources/prometheus/template-variables/
    """
    rate_interval = max(choice.step + choice.scrape_interval, 4 * choice.scrape_interval)
    values = {
        **_ALL,
        # Its options are the hosts of the chosen instances, and a target has none.
        **({"host": "()"} if "instance" in choice.values else {}),
        "job": _interpolated(choice.jobs),
        **{name: _interpolated(chosen) for name, chosen in choice.values.items()},
        "__rate_interval": f"{rate_interval}s",
        "__interval": f"{choice.step}s",
        "__range": f"{choice.time_range}s",
        "__auto": f"{choice.time_range}s",
    }
    return re.sub(r"\$\{?(\w+)\}?", lambda match: values[match[1]], text)


def _interpolated(values: Sequence[str]) -> str:
    """A choice of values as a regular expression, escaped twice: queries have it inside a string."""
    escaped = [re.sub(r"[$^*{}\[\]'+?.()|]", r"\\\\\g<0>", value.replace("\\", "\\" * 4)) for value in values]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def selectors(expression: str) -> list[tuple[str, str]]:
    """The metrics that a PromQL query selects, each with its matchers as written, or ''."""
    outside = re.sub(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'', lambda m: "0" * len(m[0]), expression)
    found = []
    labels = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)")
    outside = labels.sub(lambda m: " " * len(m[0]), outside)
    outside = re.sub(r"\[[^\]]*\](?:\s*@\s*end\s*\(\))?", lambda m: " " * len(m[0]), outside)
    matchers = {m.start(): m for m in re.finditer(r"\{[^}]*\}", outside)}
    inside = [range(m.start(), m.end()) for m in matchers.values()]
    for name in re.finditer(r"[a-zA-Z_:][\w:]*", outside):
        if any(name.start() in span for span in inside) or name[0] in _WORDS:
            continue
        if re.match(r"\s*\(", outside[name.end() :]):
            continue  # a function or an aggregation
        if name.start() and outside[name.start() - 1].isdigit():
            continue  # the exponent of 1e6
        own = matchers.get(name.end())
        found.append((name[0], expression[own.start() + 1 : own.end() - 1] if own else ""))
    return found
