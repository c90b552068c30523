"""The shipped alert rules, and `deckwatch alerts check`: whether they fit the metrics, and what a Prometheus has."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, TextIO

import yaml

from deckwatch.catalogue import catalogue
from deckwatch.pack import shipped
from deckwatch.promql import names_in, seconds
from deckwatch.table import table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from deckwatch.json_api import JsonApi
    from deckwatch.registry import Registry

#: What Prometheus itself makes of every scrape and every rule.
_OF_PROMETHEUS = {"up", "ALERTS"}
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


def list_alerts(out: TextIO) -> int:
    """Print a table of the shipped alerts."""
    rows = [
        (alert.name, alert.severity, f"{alert.wait / 60:g}m", alert.annotations.get("summary", ""))
        for alert in shipped_rules().alerts
    ]
    out.write(table(("ALERT", "SEVERITY", "FOR", "SUMMARY"), rows))
    return 0


def metrics_of(expr: str, recorded: Mapping[str, str]) -> set[str]:
    """The metrics that an expression reads, also through recorded series."""
    names = names_in(expr)
    direct = {name for name in names if name not in recorded}
    return direct.union(*(metrics_of(recorded[name], recorded) for name in names - direct))


def check(registry: Registry, prometheus: JsonApi | None, strict: bool, out: TextIO) -> int:
    """Check the rules and print what was found. 1 when something is wrong, else 0.

    With a Prometheus also print what it has no data for. That is no fault by itself: a host without systemd has no
    units, a primary no lag. It is one when `strict`, or when there is no data for any rule. Raises ApiError.
    """
    rules = shipped_rules()
    problems = [*_unknown_metrics(rules, registry), *_broken_links(rules)]
    for problem in problems:
        out.write(problem + "\n")
    out.write(
        f"{len(rules.alerts)} alerts and {len(rules.recorded)} recorded series: "
        f"{f'{len(problems)} problems' if problems else 'all metrics are in the catalogue, all links lead somewhere'}\n"
    )
    silent = _print_missing(rules, prometheus, out) if prometheus else 0
    return 1 if problems or silent == len(rules.alerts) or (strict and silent) else 0


def _unknown_metrics(rules: Rules, registry: Registry) -> Iterator[str]:
    known = [entry.name + part for entry in catalogue(registry) for part in _PARTS.get(entry.type, ("",))]
    exact, patterns = set(known) | _OF_PROMETHEUS | set(rules.recorded), [name for name in known if "*" in name]
    named = [*((alert.name, alert.expr) for alert in rules.alerts), *rules.recorded.items()]
    for rule, expr in named:
        for name in sorted(names_in(expr)):
            if name not in exact and not any(fnmatchcase(name, pattern) for pattern in patterns):
                yield f"{rule}: the catalogue has no metric {name}"


def _broken_links(rules: Rules) -> Iterator[str]:
    runbooks = shipped("alerts")
    boards = {json.loads(content)["uid"] for content in shipped("dashboards").values()}
    for alert in rules.alerts:
        runbook = _RUNBOOK.search(alert.annotations.get("runbook_url", ""))
        if not runbook or runbook[1] not in runbooks:
            yield f"{alert.name}: its runbook_url leads to no shipped runbook"
        board = _DASHBOARD.match(alert.annotations.get("dashboard_url", ""))
        if not board or board[1] not in boards:
            yield f"{alert.name}: its dashboard_url leads to no shipped dashboard"


def _print_missing(rules: Rules, prometheus: JsonApi, out: TextIO) -> int:
    """Print which alerts read metrics that have no data in the last 5 minutes; how many have none at all."""
    read = {alert.name: metrics_of(alert.expr, rules.recorded) - _OF_PROMETHEUS for alert in rules.alerts}
    present = _with_data(prometheus, set().union(*read.values()))
    rows = []
    silent = 0
    for name, names in read.items():
        missing = sorted(names - present)
        if missing:
            none = len(missing) == len(names)
            silent += none
            rows.append((name, "none" if none else "some", ", ".join(missing)))
        elif not names and not present:
            silent += 1  # it needs no metric, and proves nothing
    if rows:
        out.write("\n" + table(("ALERT", "DATA", "METRICS WITHOUT DATA THERE"), rows))
    out.write(f"{len(rules.alerts) - silent} of {len(rules.alerts)} alerts have data in that Prometheus\n")
    return silent


def _with_data(prometheus: JsonApi, names: Iterable[str]) -> set[str]:
    query = f'count by (__name__) ({{__name__=~"{"|".join(sorted(names))}"}})'
    answer = prometheus.post_form("/api/v1/query", {"query": query, "timeout": "20s"})
    try:
        return {series["metric"]["__name__"] for series in answer["data"]["result"]}
    except (TypeError, KeyError):
        prometheus.fail("answered something that is no result of a query: is this a Prometheus?")
