"""Every query of every panel, asked of a Prometheus and a Loki that a live agent fills under a small load."""

from __future__ import annotations

import json
import re
import time
import urllib.parse
from typing import TYPE_CHECKING, Any

import pytest

from dashboards.boards import NAMES, Query, every_query, filled, load
from dashboards.live import Live, live
from dashboards.logql import entries
from dashboards.logql import query as logql
from services import Program, fetch, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(300)

#: Queries that need not return data here, by what is in them, and why.
EXCUSED = {
    r"pgbouncer_up": "no PgBouncer runs",
    r"^count by \(alertname.*ALERTS": "no rules are loaded",
    r"^topk\(8, \(deckwatch_collector_success.*== 0|^\(deckwatch_collector_success": "no collector fails",
    r"deckwatch_collector_last_success_timestamp_seconds": "no collector fails",
    r"deckwatch_series_dropped\{[^}]*\} > 0": "no series is left out",
    r"node_filesystem_(readonly|device_error)\{[^}]*\} == 1": "all file systems answer and can be written",
    r"-\(deriv\(node_filesystem_avail_bytes": "no file system has to fill up",
    r"node_systemd_unit_state": "systemd does not run here",
    r"node_hwmon_temp_celsius": "this machine has no sensors",
    r"node_edac_": "this machine has no ECC memory",
    r"pg_stat_progress_vacuum": "no VACUUM takes that long",
    r"pg_stat_replication_": "no standby is connected",
    r"deckwatch_log_spool_oldest_timestamp_seconds": "all is sent",
    r"deckwatch_log_push_failures_total": "Loki takes everything",
    r'level=~"warning\|error\|critical"\} \| json \| line_format': "the agent has nothing to complain of",
}


def _is_excused(query: Query) -> bool:
    return any(re.search(pattern, query.expression) for pattern in EXCUSED)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("live")) as stack:
        yield stack


def _ask(prometheus: Program, path: str, **asked: Any) -> tuple[int, dict[str, Any]]:
    status, body = fetch(f"{prometheus.url}/api/v1/{path}?{urllib.parse.urlencode(asked)}", timeout=20)
    return status, json.loads(body)


def _has_data(stack: Live, query: Query) -> bool:
    now = time.time()
    if query.is_loki:
        return bool(logql(entries(stack.loki), query.filled, now - 3600, now)["result"])
    if query.instant:
        status, answer = _ask(stack.prometheus, "query", query=query.filled)
    else:
        status, answer = _ask(stack.prometheus, "query_range", query=query.filled, start=now - 60, end=now, step=1)
    assert status == 200, f"{query}: {answer['error']}"
    return bool(answer["data"]["result"])


def test_every_query_parses(stack: Live) -> None:
    faults = []
    for query in every_query():
        if not query.is_loki:
            status, answer = _ask(stack.prometheus, "query", query=query.filled)
            faults += [f"{query}: {answer['error']}"] if status != 200 else []
    assert not faults


def test_every_query_of_every_panel_returns_data(stack: Live) -> None:
    missing = [query for query in every_query() if not _is_excused(query)]

    def complete() -> bool:
        missing[:] = [query for query in missing if not _has_data(stack, query)]
        return not missing

    try:
        until(complete, 120, "data for every query")
    except AssertionError:
        raise AssertionError("no data for\n" + "\n".join(map(str, missing))) from None


def test_the_excuses_are_for_queries_that_there_are() -> None:
    expressions = [query.expression for query in every_query()]
    assert [it for it in EXCUSED if not any(re.search(it, expression) for expression in expressions)] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_variable_has_something_to_choose(stack: Live, name: str) -> None:
    for variable in load(name)["templating"]["list"]:
        if variable["type"] != "query":
            continue
        selector, label = re.fullmatch(r"label_values\((?:(.+), )?(\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]

        def values(selector: str | None = selector, label: str = label) -> bool:
            if selector is None:
                return any(label in entry.labels for entry in entries(stack.loki))
            status, answer = _ask(stack.prometheus, f"label/{label}/values", **{"match[]": filled(selector)})
            return status == 200 and bool(answer["data"])

        until(values, 30, f"a value of {variable['name']}")


def test_the_config_load_is_marked_once(stack: Live) -> None:
    expression = load("overview")["annotations"]["list"][1]["expr"]

    def stamps() -> list[Any]:
        found: list[Any] = _ask(stack.prometheus, "query", query=filled(expression))[1]["data"]["result"]
        return found

    (stamp,) = until(stamps, 30, "the config's load")
    assert abs(time.time() * 1000 - float(stamp["value"][1])) < 3_600_000  # milliseconds, as Grafana reads them
