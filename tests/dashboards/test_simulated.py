"""Every query against a real Prometheus with series of many agents: whatever is chosen, it works and stays readable."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from dashboards.boards import NAMES, Choice, Query, every_query, filled, load, panels, queries_of
from dashboards.prometheus_server import ask, start_prometheus
from dashboards.simulated import AGENTS, END, write_blocks
from services import Program

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(300)

_ONE, _SEVERAL = ["host3:9797"], ["host3:9797", "host4:9797"]
_JOBS = ("many", "minute", "discovered")


def _choice(**values: list[str]) -> Choice:
    return Choice(values, _JOBS, time_range=300)


CHOICES = (
    _choice(job=["many"], instance=_ONE, target=["main.db"], datname=["shop.eu"]),
    _choice(job=["many"], instance=_SEVERAL, target=["main.db"], datname=["app", "shop.eu"]),
    Choice({"job": ["minute"]}, _JOBS, scrape_interval=60, step=60, time_range=900),
    _choice(job=["discovered"]),
    Choice({"job": ["discovered", "minute"]}, _JOBS, scrape_interval=60, time_range=300),
    _choice(),
)
#: The choice of 50 agents and more.
ALL = CHOICES[-1]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("simulated")
    write_blocks(folder)
    with start_prometheus(folder, {"scrape_configs": []}) as program:
        yield program


def _result(prometheus: Program, query: Query, choice: Choice) -> list[dict[str, Any]]:
    """What Grafana gets: a value for each series now, or the values over the last scrapes."""
    times = {"time": END}
    if not query.instant:
        times = {"start": END - 4 * choice.step, "end": END, "step": choice.step}
    path = "query" if query.instant else "query_range"
    status, answer = ask(prometheus, path, query=query.filled_for(choice), **times)
    assert status == 200, f"{query} with {choice}: {answer['error']}"
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def _prometheus_queries() -> list[Query]:
    return [query for query in every_query() if not query.is_loki]


#: Queries that return nothing for some choices, by what is in them, and why.
MAY_BE_EMPTY = {
    r"== 0|== 1|< 1": "states that only some agents have",
    r"ALERTS": "one alert fires, on one agent",
    r"deckwatch_(series_dropped|collector_parse_errors)\{[^}]*\} > 0": "only some agents have these faults",
}


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_every_query_returns_data(prometheus: Program, choice: Choice) -> None:
    empty = [
        str(query)
        for query in _prometheus_queries()
        if not _result(prometheus, query, choice)
        and not any(re.search(pattern, query.expression) for pattern in MAY_BE_EMPTY)
    ]
    assert not empty, "\n".join(empty)


def test_with_all_agents_chosen_every_query_returns_data(prometheus: Program) -> None:
    empty = [str(query) for query in _prometheus_queries() if not _result(prometheus, query, ALL)]
    assert not empty, "\n".join(empty)


@pytest.mark.parametrize("name", ["redis", "postgres", "pgbouncer", "slow-queries", "queues", "business", "endpoints"])
def test_a_discovered_target_can_be_chosen_by_its_instance(prometheus: Program, name: str) -> None:
    choice = _choice(job=["discovered"], instance=["main.db"])
    empty = [
        str(query)
        for query in _prometheus_queries()
        if query.board == name
        and not _result(prometheus, query, choice)
        and not any(re.search(pattern, query.expression) for pattern in MAY_BE_EMPTY)
    ]
    assert not empty, "\n".join(empty)


@pytest.mark.parametrize("name", NAMES)
def test_fifty_agents_fit_into_every_panel(prometheus: Program, name: str) -> None:
    most = {"timeseries": 16, "state-timeline": 12, "stat": 4, "bargauge": 8, "table": 10_000}
    crowded = []
    for panel in panels(load(name)):
        queries = [query for query in queries_of(name, panel) if not query.is_loki]
        found = [len(_result(prometheus, query, ALL)) for query in queries]
        if queries and sum(found) > most[panel["type"]]:
            crowded.append(f"{panel['title']}: {found} series")
        if panel["type"] == "stat" and any(count != 1 for count in found):
            crowded.append(f"{panel['title']}: {found} values")
    assert not crowded, "\n".join(crowded)


@pytest.mark.parametrize("name", NAMES)
def test_the_columns_of_a_table_have_the_same_rows(prometheus: Program, name: str) -> None:
    for panel in panels(load(name)):
        if panel["type"] != "table":
            continue
        frames = [_result(prometheus, query, ALL) for query in queries_of(name, panel) if not query.is_loki]
        labels = [set().union(*(series["metric"] for series in frame)) for frame in frames if frame]
        assert not any("__name__" in it for it in labels), panel["title"]
        if not labels:
            continue
        key = set.intersection(*labels)
        for frame in frames:
            rows = [tuple(series["metric"].get(label, "") for label in sorted(key)) for series in frame]
            assert len(set(rows)) == len(rows), f"{panel['title']}: several rows of a column have the same labels"


def test_the_hosts_of_all_agents_are_in_one_table(prometheus: Program) -> None:
    (panel,) = [panel for panel in panels(load("host")) if panel["title"] == "Hosts"]
    (up, *_) = queries_of("host", panel)
    found = {series["metric"]["instance"] for series in _result(prometheus, up, ALL)}
    assert len([name for name in found if name.startswith("host")]) == AGENTS


def _variable(name: str, board: str) -> dict[str, Any]:
    (found,) = [it for it in load(board)["templating"]["list"] if it["name"] == name]
    return found  # type: ignore[no-any-return]


@pytest.mark.parametrize("board", NAMES)
def test_the_jobs_to_choose_from_are_those_of_agents(prometheus: Program, board: str) -> None:
    variable = _variable("job", board)
    selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
    status, answer = ask(
        prometheus, f"label/{label}/values", **{"match[]": filled(selector), "start": END - 3600, "end": END}
    )
    assert (status, sorted(answer["data"])) == (200, ["discovered", "many", "minute"])
    assert not variable.get("allValue"), "All is the list of these"


def test_other_exporters_are_not_counted(prometheus: Program) -> None:
    strangers = defaultdict(list)
    for query in _prometheus_queries():
        for series in _result(prometheus, query, ALL):
            if series["metric"].get("job") == "stranger" or series["metric"].get("instance") == "other:9100":
                strangers[query.panel].append(series["metric"])
    assert not strangers


@pytest.mark.parametrize(
    ("jobs", "least", "most"), [(["many"], 15, 15), (["discovered"], 15, 15), (["minute"], 55, 65)]
)
def test_the_scrape_interval_is_measured(prometheus: Program, jobs: list[str], least: int, most: int) -> None:
    variable = _variable("scrape_interval", "overview")
    query = re.fullmatch(r"query_result\((.*)\)", variable["query"])[1]  # type: ignore[index]
    status, answer = ask(prometheus, "query", query=filled(query, Choice({"job": jobs})), time=END)
    assert status == 200, answer
    (result,) = answer["data"]["result"]
    shown = "{" + ", ".join(f'{name}="{value}"' for name, value in result["metric"].items()) + "} 1 0"
    seconds = re.search(variable["regex"].strip("/"), shown)[1]  # type: ignore[index]
    assert seconds.endswith("s")
    assert least <= int(seconds.removesuffix("s")) <= most


def test_every_rate_has_the_measured_scrape_interval() -> None:
    for name in NAMES:
        for panel in panels(load(name)):
            for target in panel.get("targets", []):
                if target["datasource"]["type"] == "prometheus":
                    assert target["interval"] == "$scrape_interval", panel["title"]


def test_two_agents_that_watch_one_database_are_two_lines_and_no_sum(prometheus: Program) -> None:
    discovered = CHOICES[3]
    (panel,) = [panel for panel in panels(load("postgres")) if panel["title"] == "Connections used"]
    (query,) = queries_of("postgres", panel)
    result = _result(prometheus, query, discovered)
    assert sorted(series["metric"]["agent"] for series in result) == ["host0:9797", "host1:9797"]
    sessions = filled('sum by (agent) (pg_stat_activity_count{job="discovered"})')
    status, answer = ask(prometheus, "query", query=sessions, time=END)
    assert status == 200
    counted = {series["metric"]["agent"]: float(series["value"][1]) for series in answer["data"]["result"]}
    limit = 2e9
    for series in result:
        assert float(series["values"][-1][1]) == pytest.approx(counted[series["metric"]["agent"]] / limit)


@pytest.mark.parametrize(
    ("board", "title", "faults"),
    [
        ("overview", "Targets down", 6 * AGENTS // 2),
        ("redis", "Persistence failing", 2 * AGENTS // 2),
        ("pgbouncer", "Paused or disabled databases", 2 * AGENTS // 2),
    ],
)
def test_faults_of_different_kinds_on_one_target_are_all_counted(
    prometheus: Program, board: str, title: str, faults: int
) -> None:
    (panel,) = [panel for panel in panels(load(board)) if panel["title"] == title]
    (query,) = queries_of(board, panel)
    (series,) = _result(prometheus, query, _choice(job=["many"]))
    assert float(series["value"][1]) == faults


def test_targets_of_different_types_with_one_name_are_different_rows(prometheus: Program) -> None:
    (panel,) = [panel for panel in panels(load("overview")) if panel["title"] == "Unavailable targets"]
    for query in queries_of("overview", panel):
        rows = [series["metric"] for series in _result(prometheus, query, _choice(job=["many"]))]
        assert {row["type"] for row in rows} == {"redis", "postgres", "pgbouncer", "queues", "business", "http_probe"}
        assert len(rows) == 6 * AGENTS // 2


def test_the_alert_that_always_fires_is_not_shown(prometheus: Program) -> None:
    for name in NAMES:
        annotation = load(name)["annotations"]["list"][0]
        status, answer = ask(prometheus, "query", query=filled(annotation["expr"], ALL), time=END)
        assert status == 200
        assert {series["metric"]["alertname"] for series in answer["data"]["result"]} == {"HostDown"}
