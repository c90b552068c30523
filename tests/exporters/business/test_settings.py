"""Every setting of a business target has an effect: on the samples, the schedule or the request."""

from __future__ import annotations

import datetime
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from deckwatch.testing import opened
from deckwatch_exporters.business import EXPORTER
from deckwatch_exporters.business.rows import Table, declared, figures
from deckwatch_exporters.business.settings import BusinessSettings, QuerySettings
from deckwatch_exporters.clients.redis.settings import ConnectionSettings
from exporters.setting_names import setting_names, shown_by_test
from probed_site import tcp_server

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

TABLE = Table(("kind", "value"), [("1", 3), ("2", 4), ("5", 9)])
_METRIC = {"name": "orders", "labels": ["kind"]}
_INFO = {"name": "orders_info", "labels": ["kind", "value"]}
_BUCKETS = {**_METRIC, "type": "histogram", "buckets": [5]}
_LE = {"name": "orders", "type": "histogram", "le": "kind"}

#: Settings of a metric that give other samples of TABLE than those beside them.
METRICS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "name": ({**_METRIC, "name": "sales"}, _METRIC),
    "type": ({**_INFO, "type": "info"}, _INFO),
    "help": ({**_METRIC, "help": "Orders."}, _METRIC),
    "labels": ({"name": "orders", "labels": ["kind"]}, {"name": "orders", "labels": ["value"], "value": "kind"}),
    "value": ({"name": "orders", "labels": ["value"], "value": "kind"}, _METRIC),
    "buckets": ({**_BUCKETS, "buckets": [3, 5]}, _BUCKETS),
    "le": ({**_LE, "le": "value", "value": "kind"}, _LE),
    "max_series": ({**_METRIC, "max_series": 2}, _METRIC),
}


def _made(metric: dict[str, Any]) -> list[object]:
    query = QuerySettings.model_validate({"query": "q", "metrics": [metric]})
    found = figures(query, [declared(it) for it in query.metrics], TABLE)
    samples = [(it.series.text, it.series.metric.help, it.value) for it in found.samples]
    return [samples, found.limited]


def _of_metric(setting: str) -> Callable[[Path], None]:
    def shown(_folder: Path) -> None:
        changed, given = METRICS[setting]
        assert _made(changed) != _made(given)

    return shown


def _of_schedule(where: str, **changed: Any) -> Callable[[Path], None]:
    """Show that a setting of the target, a metric or a query changes when the query runs."""

    def following(**setting: Any) -> float:
        query: dict[str, Any] = {"query": "q", "metrics": [{"name": "b"}]}
        settings: dict[str, Any] = {"sqlite": "shop.db", "metrics": [{"name": "a", "query": "q"}], "queries": [query]}
        {"": settings, "metrics": settings["metrics"][0], "queries": query}[where].update(setting)
        found = BusinessSettings.model_validate(settings)
        number = 1 if where == "queries" else 0
        return found.schedule_of(found.all_queries[number]).following(
            datetime.datetime(2026, 1, 1, 12, 34, tzinfo=datetime.UTC).timestamp()
        )

    def shown(_folder: Path) -> None:
        given = {"cron": changed["cron"]} if "timezone" in changed else {}
        assert following(**changed) != following(**given)

    return shown


_CRON = {"cron": "5 3 * * *"}


def _query(folder: Path) -> None:
    with sqlite3.connect(folder / "shop.db") as database:
        database.execute("CREATE TABLE orders (value)")
    for place in ("metrics", "queries"):
        found = []
        for query in ("SELECT 1 AS value", "SELECT 2 AS value"):
            one = (
                {"name": "orders", "query": query}
                if place == "metrics"
                else {"query": query, "metrics": [{"name": "orders"}]}
            )
            with opened(EXPORTER, {"sqlite": str(folder / "shop.db"), place: [one]}) as target:
                found.append(target.collect().values["orders"])
        assert found == [1, 2]


def _request(**changed: Any) -> Callable[[Path], None]:
    """Show that a setting of the JSON document is part of the request."""

    def shown(_folder: Path) -> None:
        requests: list[bytes] = []

        def talk(connection: socket.socket) -> None:
            requests.append(connection.recv(4096))
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n7")

        with tcp_server(talk) as port:
            json = {"url": f"http://127.0.0.1:{port}/stats", **changed}
            with opened(EXPORTER, {"json": json, "metrics": [{"name": "orders", "query": "@"}]}) as target:
                assert target.collect().values["orders"] == 7
        assert b"hunter2" in requests[0]

    return shown


_REAL = "test_business.py::"
EFFECTS: dict[str, Callable[[Path], None] | str] = {
    "dsn": _REAL + "test_postgres_figures_have_their_values_types_and_times",
    "password": "test_queues_settings.py::test_a_password_beside_the_dsn_is_part_of_the_connection",
    "search_path": _REAL + "test_the_search_path_of_the_target_applies",
    "sqlite": _REAL + "test_an_sqlite_file_works_without_a_server",
    "sqlalchemy": _REAL + "test_a_database_of_sqlalchemy_works",
    **dict.fromkeys(
        (f"redis.{it}" for it in sorted(setting_names(ConnectionSettings))), _REAL + "test_redis_commands_are_figures"
    ),
    "json.url": _REAL + "test_figures_of_a_json_document_are_selected_by_jmespath",
    "json.bearer_token": _request(bearer_token="hunter2"),
    "json.headers": _request(headers={"X-Key": "hunter2"}),
    "timeout": _REAL + "test_each_wrong_postgres_query_says_why",
    "singleton": "test_business_singleton.py::test_one_agent_reports_and_the_other_takes_over_when_it_hangs_or_dies",
    "schedule": _of_schedule("", schedule="7m"),
    "cron": _of_schedule("", **_CRON),
    "timezone": _of_schedule("", **_CRON, timezone="Asia/Tokyo"),
    "metrics.query": _query,
    "queries.query": _query,
    **{f"{place}.schedule": _of_schedule(place, schedule="7m") for place in ("metrics", "queries")},
    **{f"{place}.cron": _of_schedule(place, **_CRON) for place in ("metrics", "queries")},
    **{f"{place}.timezone": _of_schedule(place, **_CRON, timezone="Asia/Tokyo") for place in ("metrics", "queries")},
    **{f"{place}.{setting}": _of_metric(setting) for place in ("metrics", "queries.metrics") for setting in METRICS},
}


def test_every_setting_has_a_test_that_shows_its_effect() -> None:
    assert setting_names(BusinessSettings) == EFFECTS.keys()


@pytest.mark.parametrize("setting", EFFECTS)
def test_each_setting_has_an_effect(tmp_path: Path, setting: str) -> None:
    effect = EFFECTS[setting]
    if isinstance(effect, str):
        assert shown_by_test(effect)
    else:
        effect(tmp_path)
