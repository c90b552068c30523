"""Odd SQL in every kind of source: each gives a message that names the metric and the row, and the others go on."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from databases import postgres_server
from deckwatch.testing import Collected, opened
from deckwatch_exporters.business import EXPORTER, check_queries
from deckwatch_exporters.business.settings import BusinessSettings
from mariadb_server import MariadbServer, mariadb_server
from services import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OWN = "deckwatch_business_"
CREATE = "CREATE TABLE orders (status varchar(10), amount decimal(10, 2))"
INSERT = "INSERT INTO orders VALUES ('paid', 5), ('paid', 50), ('open', 7), (NULL, 1)"
ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) AS value FROM n"
RIGHT = {"name": "right", "query": "SELECT count(*) AS value FROM orders"}


@dataclass(frozen=True)
class Source:
    settings: dict[str, str]
    endless: str = ENDLESS


@pytest.fixture(scope="module")
def mariadb() -> Iterator[MariadbServer]:
    user = "monitor@'127.0.0.1'"
    with mariadb_server(
        "CREATE DATABASE shop", "USE shop", CREATE, INSERT, f"CREATE USER {user}", f"GRANT ALL ON shop.* TO {user}"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def postgres_dsn() -> Iterator[str]:
    with postgres_server() as running:
        running.execute(CREATE, INSERT)
        yield running.dsn()


@pytest.fixture
def sqlite_file(tmp_path: Path) -> Path:
    path = tmp_path / "shop.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"{CREATE};{INSERT};")
    return path


@pytest.fixture(params=["dsn", "sqlite", "sqlalchemy-sqlite", "sqlalchemy-postgres", "sqlalchemy-mariadb"])
def source(request: pytest.FixtureRequest) -> Source:
    match request.param:
        case "dsn":
            return Source({"dsn": request.getfixturevalue("postgres_dsn")})
        case "sqlite":
            return Source({"sqlite": str(request.getfixturevalue("sqlite_file"))})
        case "sqlalchemy-sqlite":
            return Source({"sqlalchemy": f"sqlite:///{request.getfixturevalue('sqlite_file')}"})
        case "sqlalchemy-postgres":
            dsn: str = request.getfixturevalue("postgres_dsn")
            return Source({"sqlalchemy": dsn.replace("postgresql://", "postgresql+psycopg://")})
    # MariaDB ends a recursion after 1 000 steps.
    server: MariadbServer = request.getfixturevalue("mariadb")
    return Source({"sqlalchemy": server.url("monitor", "shop")}, "SELECT sleep(600) AS value FROM orders")


def figures(collected: Collected) -> dict[str, float]:
    return {series: value for series, value in collected.values.items() if not series.startswith(OWN)}


def after_all_have_run(settings: dict[str, Any], queries: int) -> Collected:
    """Return a run after each query has run once."""
    with opened(EXPORTER, settings, name="shop") as target:

        def collected() -> Collected | None:
            found = target.collect()
            return found if sum(it.startswith(f"{OWN}query_success") for it in found.values) == queries else None

        return until(collected, what="a run of each query")  # type: ignore[return-value]  # until() returns no None


def test_each_odd_query_and_row_says_why_and_the_others_go_on(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    by_status = "SELECT status, count(*) AS value FROM orders GROUP BY status"
    metrics: list[dict[str, Any]] = [
        {"name": "syntax", "query": "SELEC 1 AS value"},
        {"name": "no_table", "query": "SELECT 1 AS value FROM nothing"},
        {"name": "writes", "query": "DELETE FROM orders"},
        {"name": "extra", "query": "SELECT 1 AS value, 2 AS more"},
        {"name": "lacking", "query": "SELECT 1 AS number"},
        {"name": "null_label", "query": by_status, "labels": ["status"]},
        {"name": "null_value", "query": "SELECT NULL AS value"},
        {"name": "words", "query": "SELECT 'a' AS kind, 'many' AS value UNION ALL SELECT 'b', '7'", "labels": ["kind"]},
        {"name": "twice", "query": "SELECT 'a' AS kind, 1 AS value UNION ALL SELECT 'a', 2 UNION ALL SELECT 'b', 3",
         "labels": ["kind"]},
        RIGHT,
    ]  # fmt: skip
    with caplog.at_level(logging.WARNING):
        collected = after_all_have_run({**source.settings, "metrics": metrics}, len(metrics))

    assert figures(collected) == {
        'null_label{status="paid"}': 2,
        'null_label{status="open"}': 1,
        'null_label{status=""}': 1,
        'words{kind="b"}': 7,
        'twice{kind="b"}': 3,
        "right": 4,
    }
    messages = {it.split(" failed: ")[0]: it.split(" failed: ")[1] for it in caplog.messages if " failed: " in it}
    assert set(messages) == {f"the query of {it}" for it in ("syntax", "no_table", "writes", "extra", "lacking")}
    assert "SELEC" in messages["the query of syntax"]
    assert "nothing" in messages["the query of no_table"]
    assert "may only read" in messages["the query of writes"]
    assert "no metric uses the column 'more'" in messages["the query of extra"]
    assert "does not return the column 'value'; it returns: number" in messages["the query of lacking"]
    assert sorted(collected.malformed) == ["twice, row 1: 2 rows with the same labels", "words, row 1: value"]


def test_a_query_that_does_not_end_is_ended_and_the_next_one_runs(
    source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = [{"name": "endless", "query": source.endless, "schedule": "1h"}, {**RIGHT, "schedule": "1s"}]
    with caplog.at_level(logging.WARNING), opened(
        EXPORTER, {**source.settings, "timeout": "1s", "metrics": metrics}, name="shop"
    ) as target:  # fmt: skip
        message = "the query of endless failed: no result within 1 s."
        until(lambda: target.collect() and message in caplog.text, what="the timeout")
        until(lambda: figures(target.collect()) == {"right": 4}, what="the connection for the other query")


def test_check_prepares_queries_without_running_them(source: Source) -> None:
    metrics = [
        {"name": "endless", "query": source.endless},
        {"name": "lacking", "query": "SELECT 1 AS number"},
        {"name": "syntax", "query": "SELEC 1 AS value"},
        RIGHT,
    ]
    settings = BusinessSettings.model_validate({**source.settings, "metrics": metrics})
    found = list(check_queries(settings))

    assert [it.state for it in found] == ["ok", "failed", "failed", "ok"]
    assert "the query of lacking does not return the column 'value'" in found[1].what
    assert found[2].what.startswith("syntax: ")


def test_mariadb_figures_have_their_values_and_times(mariadb: MariadbServer, caplog: pytest.LogCaptureFixture) -> None:
    metrics: list[dict[str, Any]] = [
        {"name": "revenue", "labels": ["status"],
         "query": "SELECT status, sum(amount) AS value FROM orders WHERE status LIKE '%p%' GROUP BY status"},
        {"name": "moment_seconds", "query": "SELECT CAST('2026-11-26 10:00:00' AS DATETIME) AS value"},
        {"name": "is_true", "query": "SELECT 1 = 1 AS value;"},
        {"name": "secret", "query": "SELECT count(*) AS value FROM mysql.user"},
    ]  # fmt: skip
    with caplog.at_level(logging.WARNING):
        settings = {"sqlalchemy": mariadb.url("monitor", "shop"), "metrics": metrics}
        collected = after_all_have_run(settings, len(metrics))

    assert figures(collected) == {
        'revenue{status="paid"}': 55,
        'revenue{status="open"}': 7,
        "moment_seconds": 1_795_687_200,
        "is_true": 1,
    }
    assert "the query of secret failed" in caplog.text
    assert "SELECT command denied to user 'monitor'@'127.0.0.1'" in caplog.text


def test_a_mariadb_that_stops_is_down_and_its_figures_come_back_with_it() -> None:
    with mariadb_server("CREATE USER monitor@'127.0.0.1'") as server:
        metrics = [{"name": "answer", "query": "SELECT 42 AS value", "schedule": "1s"}]
        settings = {"sqlalchemy": server.url("monitor", "information_schema"), "metrics": metrics}
        with opened(EXPORTER, settings, name="shop") as target:
            until(lambda: figures(target.collect()) == {"answer": 42})
            server.stop()
            until(lambda: target.collect().value(f"{OWN}up") == 0, what="the failure")
            server.start()
            until(lambda: target.collect().value(f"{OWN}up") == 1, what="the recovery")
