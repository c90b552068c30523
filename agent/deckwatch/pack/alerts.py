"""The shipped alert rules: whether they match the catalogue, and which of them have data in a Prometheus."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import yaml

from deckwatch.pack.files import shipped
from deckwatch.pack.promql import names_in, seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from deckwatch.metrics.catalogue import Entry
    from deckwatch.pack.json_api import JsonApi

#: Series that Prometheus itself adds for every target and every firing alert.
FROM_PROMETHEUS = {"up", "ALERTS"}
_PARTS = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}
_RUNBOOK = re.compile(r"/(runbooks/[^/]+\.md)$")
_DASHBOARD = re.compile(r"^/d/([\w-]+)")


@dataclass(frozen=True)
class Alert:
    """An alerting rule; `wait` is its `for` in seconds."""

    file: str
    name: str
    expr: str
    wait: float
    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    @property
    def severity(self) -> str:
        return self.labels.get("severity", "none")


@dataclass(frozen=True)
class Rules:
    """All that ships: the alerts, and the expressions of the recorded series by their names."""

    alerts: tuple[Alert, ...]
    recorded: Mapping[str, str]


def shipped_rules() -> Rules:
    """Raises PackError when there are none."""
    alerts: list[Alert] = []
    recorded: dict[str, str] = {}
    for file, content in shipped("alerts").items():
        if not file.endswith(".rules.yml"):
            continue
        for group in yaml.safe_load(content)["groups"]:
            for rule in group["rules"]:
                if "record" in rule:
                    recorded[rule["record"]] = rule["expr"]
                else:
                    labels, annotations = rule.get("labels", {}), rule.get("annotations", {})
                    wait = seconds(str(rule.get("for", "0")))
                    alerts.append(Alert(file, rule["alert"], rule["expr"], wait, labels, annotations))
    return Rules(tuple(alerts), recorded)


def metrics_of(expr: str, recorded: Mapping[str, str]) -> set[str]:
    """The metrics that an expression reads, also through recorded series."""
    names = names_in(expr)
    direct = {name for name in names if name not in recorded}
    return direct.union(*(metrics_of(recorded[name], recorded) for name in names - direct))


@dataclass(frozen=True)
class Gap:
    """An alert that reads metrics without data; `is_silent` when it has no data at all."""

    alert: str
    metrics: tuple[str, ...]
    is_silent: bool


def problems(rules: Rules, catalogue: Iterable[Entry]) -> list[str]:
    """What is wrong with the shipped rules: metrics that are not in the catalogue, broken links."""
    return [*_unknown_metrics(rules, catalogue), *_broken_links(rules)]


def gaps(rules: Rules, prometheus: JsonApi) -> tuple[list[Gap], int]:
    """The alerts that read metrics without data in the last 5 minutes, and how many have no data at all.

    Raises ApiError.
    """
    read = {alert.name: metrics_of(alert.expr, rules.recorded) - FROM_PROMETHEUS for alert in rules.alerts}
    present = _with_data(prometheus, set().union(*read.values()))
    found = []
    silent = 0
    for name, names in read.items():
        missing = sorted(names - present)
        if missing:
            found.append(Gap(name, tuple(missing), len(missing) == len(names)))
            silent += found[-1].is_silent
        elif not names and not present:
            silent += 1  # it needs no metric, and proves nothing
    return found, silent


def _unknown_metrics(rules: Rules, catalogue: Iterable[Entry]) -> Iterator[str]:
    known = [entry.name + part for entry in catalogue for part in _PARTS.get(entry.type, ("",))]
    exact, patterns = set(known) | FROM_PROMETHEUS | set(rules.recorded), [name for name in known if "*" in name]
    named = [*((alert.name, alert.expr) for alert in rules.alerts), *rules.recorded.items()]
    for rule, expr in named:
        for name in sorted(names_in(expr)):
            if name not in exact and not any(fnmatchcase(name, pattern) for pattern in patterns):
                yield f"{rule}: metric {name} is not in the catalogue"


def _broken_links(rules: Rules) -> Iterator[str]:
    runbooks = shipped("alerts")
    boards = {json.loads(content)["uid"] for content in shipped("dashboards").values()}
    for alert in rules.alerts:
        runbook = _RUNBOOK.search(alert.annotations.get("runbook_url", ""))
        if not runbook or runbook[1] not in runbooks:
            yield f"{alert.name}: runbook_url does not lead to a shipped runbook"
        board = _DASHBOARD.match(alert.annotations.get("dashboard_url", ""))
        if not board or board[1] not in boards:
            yield f"{alert.name}: dashboard_url does not lead to a shipped dashboard"


def _with_data(prometheus: JsonApi, names: Iterable[str]) -> set[str]:
    query = f'count by (__name__) ({{__name__=~"{"|".join(sorted(names))}"}})'
    answer = prometheus.post_form("/api/v1/query", {"query": query, "timeout": "20s"})
    try:
        return {series["metric"]["__name__"] for series in answer["data"]["result"]}
    except (TypeError, KeyError):
        prometheus.fail("answered, but not with the result of a query. Check that the URL is that of a Prometheus.")
