"""Every panel query, every rule and the catalogue, compared with what a live agent under load exposes."""

from __future__ import annotations

import re
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from alerts.rule_files import rules
from dashboards.boards import NAMES, Choice, Query, every_query, filled, load, queries
from dashboards.emitted import (
    EMITTED_ELSEWHERE,
    NOT_EMITTED,
    NOT_SELECTED,
    SELECTED_ELSEWHERE,
    captured,
    excused,
    not_declared,
    not_emitted,
    selected,
    series_in,
    stale,
)
from dashboards.live import Live, live
from dashboards.logql import entries
from dashboards.logql import query as logql
from dashboards.prometheus_server import ask
from deckwatch.cli.catalogue import catalogue
from deckwatch.collection.registry import Registry
from sdk.dependency_apps import IS_INSTALLED
from services import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(900)

#: The ways in which Prometheus scrapes the agent, and what is chosen in Grafana to see them.
CHOICES = (
    Choice({"job": ["deckwatch"]}, scrape_interval=5, step=5),
    Choice({"job": ["discovered"]}, scrape_interval=5, step=5),
)

#: Queries that need not return data here, by what is in them, and why.
EXCUSED = {
    r"ALERTS": "no rules are loaded",
    r"deckwatch_collector_success\{.*== 0": "no collector fails",
    r"(redis|pg|pgbouncer|queue)_up\{.*(== 0|< 1)|redis_master_link_up.*== 0\)": "all targets are up",
    r"probe_success\{.*== 0": "all endpoints answer",
    r"offset 5m": "the agent has not run for 5 minutes",
    r"deckwatch_business_up\{.*(== 0|< 1)": "all sources of business figures are up",
    r"deckwatch_series_dropped\{[^}]*\} > 0": "no series is left out",
    r"deckwatch_collector_parse_errors\{[^}]*\} > 0": "all values are parsed",
    r"node_filesystem_(readonly|device_error)\{[^}]*\} == 1": "all file systems answer and can be written to",
    r"-\(deriv\(node_filesystem_avail_bytes": "no file system has to fill up",
    r"node_md_": "this machine has no software RAID",
    r"deckwatch_remote_write_": "no receiver is configured",
    r"deckwatch_web_certificate": "no web_config is set",
    r"redis_sentinel_": "no Sentinel runs",
    r"pg_stat_wal_receiver_": "no standby runs",
    r"pg_stat_user_tables_last_autovacuum": "autovacuum may not have run yet",
    r"pg_stat_checkpointer_(?!.*or)": "PostgreSQL 17 and later",
    r"pg_user_tables_left_out\{[^}]*\} > 0": "all tables have series",
    r"node_systemd_unit_state": "systemd does not run here",
    r"node_hwmon_temp_celsius": "this machine has no temperature sensors",
    r"node_edac_": "this machine has no ECC memory",
    r"pg_stat_progress_vacuum": "no VACUUM takes that long",
    r"pg_stat_replication_": "no standby is connected",
    r"deckwatch_log_spool_oldest_timestamp_seconds": "all lines are sent",
    r"deckwatch_log_push_failures_total": "Loki accepts everything",
    r'level=~"warning\|error\|critical", instance': "the agent logs no warning",
}

#: Queries of the application that runs only if its libraries are installed.
OF_LIBRARIES = (
    r"\b(db_client_|cache_(hits|misses|entries|errors|operation)|circuit_|http_client_request|retry_)|slow_call"
)


def _is_excused(query: Query) -> bool:
    if not IS_INSTALLED and re.search(OF_LIBRARIES, query.expression):
        return True
    return any(re.search(pattern, query.expression) for pattern in EXCUSED)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("live")) as stack:
        yield stack


def _has_data(stack: Live, query: Query, choice: Choice) -> bool:
    now = time.time()
    if query.is_loki:
        return bool(logql(entries(stack.loki), query.filled_for(choice), now - 3600, now)["result"])
    if query.instant:
        status, answer = ask(stack.prometheus, "query", query=query.filled_for(choice))
    else:
        status, answer = ask(
            stack.prometheus, "query_range", query=query.filled_for(choice), start=now - 60, end=now, step=choice.step
        )
    assert status == 200, f"{query}: {answer['error']}"
    return bool(answer["data"]["result"])


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_every_query_of_every_panel_returns_data(stack: Live, choice: Choice) -> None:
    missing = [query for query in every_query() if not _is_excused(query)]

    def complete() -> bool:
        missing[:] = [query for query in missing if not _has_data(stack, query, choice)]
        return not missing

    try:
        until(complete, what="data for every query")
    except AssertionError:
        raise AssertionError("no data for\n" + "\n".join(map(str, missing))) from None


def test_excused_queries_parse(stack: Live) -> None:
    for query in every_query():
        if _is_excused(query) and not query.is_loki:
            _has_data(stack, query, CHOICES[0])


@pytest.mark.parametrize(
    "choice",
    [
        Choice({"job": ["deckwatch"], "target": ["main.db"]}),
        Choice({"job": ["discovered"], "instance": ["main.db"]}),
    ],
    ids=str,
)
def test_events_are_those_of_the_chosen_target(stack: Live, choice: Choice) -> None:
    """A dot in its name is escaped twice by Grafana."""
    (query,) = [query for query in queries("postgres") if query.is_loki]

    def targets() -> set[str]:
        now = time.time()
        streams = logql(entries(stack.loki), query.filled_for(choice), now - 3600, now)["result"]
        return {stream["stream"]["target"] for stream in streams}

    assert until(targets, what="an event") == {"main.db"}


def test_events_are_those_of_the_chosen_instance(stack: Live) -> None:
    query = next(query for query in queries("postgres") if query.is_loki)
    address = stack.agent.url.removeprefix("http://")
    (variable,) = [it for it in load("postgres")["templating"]["list"] if it["name"] == "host"]
    selector = re.fullmatch(r"label_values\((.+), nodename\)", variable["query"])[1]  # type: ignore[index]
    for instance, expected in ((address, True), ("another:9797", False)):
        chosen = {"job": ["deckwatch"], "instance": [instance]}
        names = {"match[]": filled(selector, Choice(chosen))}

        def hosts(names: dict[str, str] = names) -> list[str]:
            return list(ask(stack.prometheus, "label/nodename/values", **names)[1]["data"])

        found = until(hosts, what="the name of the host") if expected else hosts()
        assert found == ([socket.gethostname()] if expected else [])
        choice = Choice({**chosen, "host": found})
        if expected:
            until(lambda choice=choice: _has_data(stack, query, choice), what="an event")  # type: ignore[misc]
        else:
            assert not _has_data(stack, query, choice)


def test_the_excuses_are_for_queries_that_there_are() -> None:
    expressions = [query.expression for query in every_query()]
    assert [it for it in EXCUSED if not any(re.search(it, expression) for expression in expressions)] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_variable_has_something_to_choose(stack: Live, name: str) -> None:
    for variable in load(name)["templating"]["list"]:
        if variable["type"] != "query":
            continue
        if variable["name"] == "scrape_interval":
            continue  # tested with simulated series
        selector, label = re.fullmatch(r"label_values\((?:(.+), )?(\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]

        def values(selector: str | None = selector, label: str = label) -> bool:
            if selector is None:
                return any(label in entry.labels for entry in entries(stack.loki))
            status, answer = ask(stack.prometheus, f"label/{label}/values", **{"match[]": filled(selector)})
            return status == 200 and bool(answer["data"])

        until(values, what=f"a value of {variable['name']}")


def test_the_load_of_the_configuration_is_annotated(stack: Live) -> None:
    expression = load("overview")["annotations"]["list"][1]["expr"]

    def stamps() -> list[Any]:
        found: list[Any] = ask(stack.prometheus, "query", query=filled(expression))[1]["data"]["result"]
        return found

    (stamp,) = until(stamps, what="the load of the configuration")
    assert abs(time.time() * 1000 - float(stamp["value"][1])) < 3_600_000  # milliseconds, as Grafana reads them


def test_every_expression_of_every_rule_parses(stack: Live) -> None:
    faults = []
    for rule in rules():
        status, answer = ask(stack.prometheus, "query", query=rule.expr)
        faults += [f"{rule.file.name}, {rule.name}: {answer['error']}"] if status != 200 else []
    assert len(rules()) > 60
    assert not faults


def _is_selected(stack: Live, selector: str) -> bool:
    status, answer = ask(stack.prometheus, "query", query=f"present_over_time({selector}[10m])")
    assert status == 200, f"{selector}: {answer['error']}"
    return bool(answer["data"]["result"])


def test_every_selector_of_every_rule_returns_data(stack: Live) -> None:
    missing = [it for it in selected() if not excused(it, NOT_SELECTED, SELECTED_ELSEWHERE)]
    assert len(missing) > 60

    def complete() -> bool:
        missing[:] = [selector for selector in missing if not _is_selected(stack, selector)]
        return not missing

    try:
        until(complete, what="data for every selector")
    except AssertionError:
        raise AssertionError("no data for\n" + "\n".join(missing)) from None


def test_the_excuses_of_rules_are_for_selectors_that_there_are_and_return_nothing(stack: Live) -> None:
    assert stale(NOT_SELECTED, selected()) == []
    assert stale(SELECTED_ELSEWHERE, selected()) == []
    assert [it for it in selected() if excused(it, NOT_SELECTED) and _is_selected(stack, it)] == []


def _names(stack: Live) -> set[str]:
    """Of all series that the agent has given Prometheus so far, and that it gives now."""
    status, answer = ask(stack.prometheus, "label/__name__/values", **{"match[]": '{job="deckwatch"}'})
    assert status == 200, answer
    own = {name for name in answer["data"] if name != "up" and not name.startswith("scrape_")}
    return own | series_in(stack.agent.metrics())


def test_every_metric_of_the_catalogue_is_emitted_here_or_captured(stack: Live) -> None:
    entries = catalogue(Registry.installed())
    missing: list[str] = []

    def complete() -> bool:
        absent = not_emitted(entries, _names(stack) | captured())
        missing[:] = [name for name in absent if not excused(name, NOT_EMITTED, EMITTED_ELSEWHERE)]
        return not missing

    try:
        until(complete, what="every metric of the catalogue")
    except AssertionError:
        raise AssertionError("nothing emits\n" + "\n".join(missing)) from None


def test_the_excuses_of_metrics_are_for_metrics_that_there_are_and_nothing_emits(stack: Live) -> None:
    entries = catalogue(Registry.installed())
    names = [entry.name for entry in entries]
    assert stale(NOT_EMITTED, names) == []
    assert stale(EMITTED_ELSEWHERE, names) == []
    emitted = set(names) - set(not_emitted(entries, _names(stack) | captured()))
    assert sorted(name for name in emitted if excused(name, NOT_EMITTED)) == []


def test_every_series_of_the_agent_is_of_a_metric_of_the_catalogue(stack: Live) -> None:
    names = _names(stack)
    assert len(names) > 800
    declared_by_config = {"shop_orders_total", "shop_open_orders", "shop_open_carts", "shop_placed_total"}
    assert set(not_declared(catalogue(Registry.installed()), names)) == declared_by_config
