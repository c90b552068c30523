"""The rules of Grafana's dashboard-linter, one test each, under their names.

https://github.com/grafana/dashboard-linter, as of commit 4d0844b. In place of its parsers, a real Prometheus parses
PromQL (test_live.py, test_simulated.py) and logql.py parses LogQL. Rules for some types of panels are applied to all.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from dashboards.boards import NAMES, filled, load, panels, queries, selectors
from dashboards.logql import query as logql

pytestmark = pytest.mark.parametrize("name", NAMES)

#: The units of Grafana that the dashboards use.
_UNITS = {"percentunit", "bytes", "Bps", "s", "short", "cps", "ops", "dateTimeFromNow", "celsius", "bool_yes_no"}

#: Matchers for alerts, which may have neither job nor instance.
_ALERTS = ('job=~"$job|"', 'instance=~"$instance|"')
#: With service discovery, thresholds belong to another instance than the targets; they are the fallback of a query
#: that has the matcher on instance.
_THRESHOLD = re.compile(r"max\((deckwatch_threshold_\w+)\{([^}]*)\}\) or max\(\1\{job=~\"\$job\"\}\)")


def _variables(name: str, kind: str) -> list[dict[str, Any]]:
    return [it for it in load(name)["templating"]["list"] if it["type"] == kind]


def test_template_datasource_rule(name: str) -> None:
    found = {it["query"]: it for it in _variables(name, "datasource")}
    assert list(found) == ["prometheus", "loki"]
    for kind, variable in found.items():
        assert variable["name"] == f"{kind}_datasource"
        assert variable["label"] == f"{kind.title()} data source"


@pytest.mark.parametrize("variable", ["job", "instance"])
def test_template_job_and_instance_rule(name: str, variable: str) -> None:
    (found,) = [it for it in _variables(name, "query") if it["name"] == variable]
    assert found["datasource"]["uid"] == "${prometheus_datasource}"
    assert found["label"] == variable.title()
    assert found["multi"]
    # Unlike the linter demands, "All" jobs are the jobs of agents, so that other exporters' series are left out.
    assert found.get("allValue") == {"job": None, "instance": ".+"}[variable]


def test_template_label_promql_rule(name: str) -> None:
    for variable in _variables(name, "query"):
        if variable["name"] == "scrape_interval":
            continue  # a measured value, evaluated in test_simulated.py
        assert re.fullmatch(r"label_values\((.+, )?\w+\)", variable["query"]), variable["name"]


def test_template_on_time_change_reload_rule(name: str) -> None:
    assert all(variable["refresh"] == 2 for variable in _variables(name, "query"))


def test_panel_datasource_rule(name: str) -> None:
    allowed = {"${prometheus_datasource}", "${loki_datasource}"}
    for panel in panels(load(name)):
        if panel["type"] != "text":
            assert panel["datasource"]["uid"] in allowed, panel["title"]
    assert all(query.datasource["uid"] in allowed for query in queries(name))


def test_panel_title_description_rule(name: str) -> None:
    assert all(panel["title"] and panel["description"] for panel in panels(load(name)))


def test_panel_units_rule(name: str) -> None:
    for panel in panels(load(name)):
        if panel["type"] in ("text", "logs"):
            continue
        set_here = [p["value"] for o in panel["fieldConfig"]["overrides"] for p in o["properties"] if p["id"] == "unit"]
        units = {panel["fieldConfig"]["defaults"]["unit"], *set_here}
        assert units <= _UNITS, panel["title"]


def test_panel_no_targets_rule(name: str) -> None:
    assert all(panel.get("targets") for panel in panels(load(name)) if panel["type"] != "text")


def test_target_logql_rule(name: str) -> None:
    for query in queries(name):
        if query.is_loki:
            logql([], query.filled, 0, 1)


def test_target_logql_auto_rule(name: str) -> None:
    for query in queries(name):
        if query.is_loki:
            assert set(re.findall(r"\[(.*?)\]", query.expression)) <= {"$__auto"}, query


def test_target_promql_rule(name: str) -> None:
    """A real Prometheus parses them in test_live.py."""
    assert all(query.expression and filled(query.expression) for query in queries(name))


def test_target_rate_interval_rule(name: str) -> None:
    for query in queries(name):
        if not query.is_loki:
            for function, body in re.findall(r"\b(rate|irate)\(([^()]*)\)", query.expression):
                assert body.endswith("[$__rate_interval]"), f"{function} in {query}"


@pytest.mark.parametrize("label", ["job", "instance"])
def test_target_job_and_instance_rule(name: str, label: str) -> None:
    for query in queries(name):
        expression = _THRESHOLD.sub(r"max(\1{\2})", query.expression)
        for metric, matchers in [] if query.is_loki else selectors(expression):
            wanted = f'{label}=~"${label}"'
            if metric == "ALERTS":
                assert all(matcher in matchers for matcher in _ALERTS), query
            else:
                assert wanted in matchers, f"{metric} in {query}"


def test_target_counter_agg_rule(name: str) -> None:
    for query in queries(name):
        if not query.is_loki:
            rest = re.sub(r"\b(rate|irate|increase)\([^()]*\[[^\]]*\]\)", "", query.expression)
            assert not [metric for metric, _ in selectors(rest) if metric.endswith("_total")], query


def test_uneditable_dashboard(name: str) -> None:
    assert load(name)["editable"] is False
