"""Every metric of every query is in the catalogue, and every threshold of the configuration is drawn."""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess

import pytest

from dashboards.boards import NAMES, every_query, load, selectors
from services import deckwatch_command

#: Metrics that Prometheus adds for every scrape and every rule.
_OF_PROMETHEUS = {"up", "ALERTS", "scrape_duration_seconds", "scrape_samples_scraped"}


@pytest.fixture(scope="module")
def catalogue() -> list[dict[str, str]]:
    done = subprocess.run(deckwatch_command("metrics", "--format", "json"), check=True, capture_output=True)
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def names(catalogue: list[dict[str, str]]) -> list[str]:
    suffixes = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}
    return [metric["name"] + suffix for metric in catalogue for suffix in suffixes.get(metric["type"], ("",))]


def test_every_metric_of_every_query_is_in_the_catalogue(names: list[str]) -> None:
    exact, patterns = set(names) | _OF_PROMETHEUS, [name for name in names if "*" in name]
    unknown = {
        metric: str(query)
        for query in every_query()
        if not query.is_loki
        for metric, _ in selectors(query.expression)
        if metric not in exact and not any(fnmatch.fnmatchcase(metric, pattern) for pattern in patterns)
    }
    assert not unknown


def test_the_variables_ask_for_metrics_of_the_catalogue(names: list[str]) -> None:
    for name in NAMES:
        for variable in load(name)["templating"]["list"]:
            if variable["type"] == "query" and variable["datasource"]["type"] == "prometheus":
                metrics = {
                    metric for metric, _ in selectors(re.sub("^label_values|^query_result", "", variable["query"]))
                }
                metrics.discard(variable["query"].rstrip(")").rpartition(", ")[2])  # the label
                assert metrics
                assert metrics <= {*names, "up"}, variable["name"]


def test_every_threshold_of_the_configuration_is_drawn(catalogue: list[dict[str, str]]) -> None:
    thresholds = {m["name"] for m in catalogue if m["name"].startswith("deckwatch_threshold_")}
    drawn = {
        metric
        for query in every_query()
        if query.kind == "timeseries" and not query.is_loki
        for metric, _ in selectors(query.expression)
    }
    assert thresholds
    assert thresholds <= drawn


def test_selectors_are_found_with_and_without_matchers() -> None:
    text = 'sum by (le, b) (rate(a_total{x="}", y=~"b"}[5m])) / on (c) group_left () d > 0 or vector(0)'
    assert selectors(text) == [("a_total", 'x="}", y=~"b"'), ("d", "")]
    assert selectors('label_join((1e6 * d[$__range:$__interval] @ end()), "a", "", "b")') == [("d", "")]
