"""Business figures from real sources: SQLite, PostgreSQL, SQLAlchemy, Redis and JSON over HTTP."""

from __future__ import annotations

import contextlib
import http.server
import json
import logging
import sqlite3
import threading
from typing import TYPE_CHECKING, Any

import pytest

from databases import PostgresServer, RedisServer, postgres_server, redis_server
from deckwatch.exporter import Context, Sample
from deckwatch.testing import Collected, opened
from deckwatch_exporters.business import EXPORTER, check_queries
from deckwatch_exporters.business.collector import BusinessCollector
from deckwatch_exporters.business.settings import BusinessSettings
from deckwatch_exporters.business.sources import source_of
from services import agent, fetch, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OWN = "deckwatch_business_"
ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) AS value FROM n"


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        running.execute(
            "CREATE TABLE orders (id int, status text, amount numeric, placed timestamptz)",
            "INSERT INTO orders SELECT n, CASE WHEN n % 3 = 0 THEN 'open' ELSE 'paid' END, n * 1.5,"
            " '2026-11-26 10:00+00' FROM generate_series(1, 9) AS n",
            "CREATE ROLE stranger LOGIN",
        )
        yield running


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE orders (status TEXT, amount REAL)")
        connection.executemany("INSERT INTO orders VALUES (?, ?)", [("paid", 5), ("paid", 50), ("open", 7)])
        connection.commit()
    return path


def metric(name: str, query: str, **others: Any) -> dict[str, Any]:
    return {"name": name, "query": query, **others}


def collect(**settings: Any) -> Collected:
    with opened(EXPORTER, settings, name="shop") as target:
        return target.collect()


def figures(collected: Collected) -> dict[str, float]:
    return {series: value for series, value in collected.values.items() if not series.startswith(OWN)}


def findings(**settings: Any) -> list[tuple[str, str]]:
    return [(it.state, it.what) for it in check_queries(BusinessSettings.model_validate(settings))]


BY_STATUS = "SELECT status, count(*) AS value FROM orders GROUP BY status ORDER BY status"


def test_an_sqlite_file_works_without_a_server(shop: Path) -> None:
    collected = collect(
        sqlite=str(shop), metrics=[metric("orders_total", BY_STATUS, type="counter", labels=["status"])]
    )

    assert figures(collected) == {'orders_total{status="open"}': 1, 'orders_total{status="paid"}': 2}
    assert collected.value(f"{OWN}up") == 1
    assert collected.value(f"{OWN}query_success", query="orders_total") == 1


def test_a_missing_sqlite_file_is_a_target_that_is_down(tmp_path: Path) -> None:
    collected = collect(sqlite=str(tmp_path / "none.db"), metrics=[metric("orders", BY_STATUS, labels=["status"])])

    assert collected.value(f"{OWN}up") == 0
    assert collected.errors["business"].endswith("none.db: the file does not exist. Check sqlite in the config.")
    assert not (tmp_path / "none.db").exists()


def test_each_wrong_sqlite_query_says_why_and_the_others_go_on(shop: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        collected = collect(
            sqlite=str(shop),
            timeout="1s",
            metrics=[
                metric("orders", "SELECT count(*) AS value FROM orders"),
                metric("syntax", "SELEC 1"),
                metric("writes", "DELETE FROM orders"),
                metric("endless", ENDLESS),
            ],
        )

    assert figures(collected) == {"orders": 3}
    assert collected.value(f"{OWN}queries_failing") == 3
    messages = "\n".join(caplog.messages)
    assert 'the query of syntax failed: near "SELEC": syntax error. Check the query.' in messages
    assert "the query of writes failed: the query writes. Queries may only read." in messages
    assert "the query of endless failed: no result within 1 s." in messages


def test_postgres_figures_have_their_values_types_and_times(postgres: PostgresServer) -> None:
    collected = collect(
        dsn=postgres.dsn(),
        metrics=[metric("last_order_timestamp_seconds", "SELECT max(placed) AS value FROM orders;")],
        queries=[
            {
                "query": "SELECT status, count(*) AS n, sum(amount) AS total FROM orders GROUP BY status",
                "metrics": [
                    {"name": "orders", "labels": ["status"], "value": "n"},
                    {"name": "revenue", "labels": ["status"], "value": "total"},
                ],
            }
        ],
    )

    assert figures(collected) == {
        "last_order_timestamp_seconds": 1_795_687_200,
        'orders{status="open"}': 3,
        'orders{status="paid"}': 6,
        'revenue{status="open"}': 27,
        'revenue{status="paid"}': 40.5,
    }


def test_the_search_path_of_the_target_applies(postgres: PostgresServer) -> None:
    postgres.execute("CREATE SCHEMA archive", "CREATE TABLE archive.sales AS SELECT 7 AS value")

    collected = collect(
        dsn=postgres.dsn(), search_path=["archive"], metrics=[metric("sales", "SELECT value FROM sales")]
    )

    assert figures(collected) == {"sales": 7}


@pytest.mark.parametrize(
    ("query", "user", "message"),
    [
        ("SELEC 1 AS value", "postgres", "Queries may only read"),
        ("SELECT nothing AS value FROM orders", "postgres", 'column "nothing" does not exist'),
        ("DELETE FROM orders", "postgres", "the query writes or is not a query"),
        ("SELECT nextval('numbers') AS value", "postgres", "the query writes or is not a query"),
        ("SELECT pg_sleep(60), 1 AS value", "postgres", "no result within 1 s"),
        ("SELECT count(*) AS value FROM orders", "stranger", "GRANT SELECT on its tables to the role in dsn"),
    ],
)
def test_each_wrong_postgres_query_says_why(
    postgres: PostgresServer, caplog: pytest.LogCaptureFixture, query: str, user: str, message: str
) -> None:
    postgres.execute("CREATE SEQUENCE IF NOT EXISTS numbers")
    with caplog.at_level(logging.WARNING):
        collected = collect(
            dsn=postgres.dsn(user=user),
            timeout="1s",
            metrics=[metric("wrong", query), metric("right", "SELECT 1 AS value")],
        )

    assert message in "\n".join(caplog.messages)
    assert figures(collected) == {"right": 1}


def test_no_more_rows_are_read_than_the_limit(postgres: PostgresServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        collected = collect(
            dsn=postgres.dsn(),
            metrics=[
                metric("many", "SELECT n::text AS id, n AS value FROM generate_series(1, 1000000) AS n", labels=["id"])
            ],
        )

    assert figures(collected) == {}
    assert collected.value(f"{OWN}series_limited", metric="many") == 1
    assert "many is not exposed: it has more than 1000 series" in "\n".join(caplog.messages)
    (lack,) = (lack for snapshot in collected.snapshots.values() for lack in snapshot.lacks)
    assert lack.what == "many has more than 1000 series. Group its rows, or increase max_series"


def test_check_prepares_queries_without_running_them(postgres: PostgresServer) -> None:
    found = findings(
        dsn=postgres.dsn(),
        timeout="1s",
        metrics=[
            metric("slow", "SELECT pg_sleep(60)::text AS status, 1 AS value", labels=["status"]),
            metric("wrong", "SELECT 1 AS number"),
        ],
    )

    assert found[0] == ("ok", "slow")
    assert found[1][0] == "failed"
    assert "does not return the column 'value'; it returns: number" in found[1][1]


def test_a_database_of_sqlalchemy_works(shop: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("sqlalchemy")
    with caplog.at_level(logging.WARNING):
        collected = collect(
            sqlalchemy=f"sqlite:///{shop}",
            metrics=[metric("orders", BY_STATUS, labels=["status"]), metric("wrong", "SELEC 1")],
        )

    assert figures(collected) == {'orders{status="open"}': 1, 'orders{status="paid"}': 2}
    assert "syntax error" in "\n".join(caplog.messages)


def test_redis_commands_are_figures(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    with contextlib.closing(redis.client()) as client:
        client.flushall()
        client.set("visits", 12)
        client.hset("stats", "orders", 7)
        client.sadd("online", "a", "b")
        for number in range(5):
            client.set(f"session:{number}", "x")
        with caplog.at_level(logging.WARNING):
            collected = collect(
                redis={"url": redis.url},
                metrics=[
                    metric("visits_total", "GET visits", type="counter"),
                    metric("orders", "HGET stats orders"),
                    metric("online", "SCARD online"),
                    metric("sessions", "SCAN session:*"),
                    metric("nothing", "GET nothing"),
                    metric("deletes", "DEL visits"),
                    metric("wrong_type", "LLEN visits"),
                ],
            )
        assert client.exists("visits")

    assert figures(collected) == {"visits_total": 12, "orders": 7, "online": 2, "sessions": 5}
    messages = "\n".join(caplog.messages)
    assert "DEL is not allowed. Use one of: GET," in messages
    assert "LLEN failed: WRONGTYPE" in messages


@contextlib.contextmanager
def json_server(body: bytes, status: int = 200) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/stats?token=SECRET"
        server.shutdown()


def test_figures_of_a_json_document_are_selected_by_jmespath(caplog: pytest.LogCaptureFixture) -> None:
    document = {"orders": {"total": 42}, "shops": [{"name": "a", "n": 1}, {"name": "b", "n": 2}]}
    with json_server(json.dumps(document).encode()) as url, caplog.at_level(logging.WARNING):
        collected = collect(
            json={"url": url},
            metrics=[
                metric("orders_total", "orders.total", type="counter"),
                metric("shop_orders", "shops[].{shop: name, value: n}", labels=["shop"]),
                metric("unknown", "nothing.here"),
                metric("wrong", "shops[.name"),
            ],
        )

    assert figures(collected) == {"orders_total": 42, 'shop_orders{shop="a"}': 1, 'shop_orders{shop="b"}': 2}
    assert "not a JMESPath expression" in "\n".join(caplog.messages)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"<html>", 200, "did not answer with JSON. Check the URL."),
        (b"{}", 401, "answered HTTP 401. Check the bearer_token."),
        (b" " * 11_000_000, 200, "sent more than"),
    ],
)
def test_a_wrong_json_answer_is_a_target_that_is_down(body: bytes, status: int, message: str) -> None:
    with json_server(body, status) as url:
        collected = collect(json={"url": url}, metrics=[metric("x", "a")])

    assert collected.value(f"{OWN}up") == 0
    assert message in collected.errors["business"]
    assert "SECRET" not in collected.errors["business"]


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_figure_that_fails_three_times_is_gone_and_comes_back(shop: Path) -> None:
    clock = Clock()
    settings = BusinessSettings.model_validate(
        {"sqlite": str(shop), "schedule": "60s", "metrics": [metric("orders", "SELECT count(*) AS value FROM orders")]}
    )
    collector = BusinessCollector(settings, source_of(settings), Context("shop"), clock)

    def values() -> dict[str, float]:
        return {it.series.name: it.value for it in collector.collect() if isinstance(it, Sample)}

    assert values()["orders"] == 3
    with contextlib.closing(sqlite3.connect(shop)) as connection:
        connection.execute("ALTER TABLE orders RENAME TO hidden")
        for passed in (60, 120, 180):
            clock.now = 1_000_000.0 + passed
            assert values()["orders"] == 3, "served until the third failure"
        clock.now += 60
        gone = values()
        assert "orders" not in gone
        assert gone[f"{OWN}query_stale"] == 1
        assert gone[f"{OWN}query_failures_total"] == 4
        connection.execute("ALTER TABLE hidden RENAME TO orders")
    clock.now += 60
    assert values()["orders"] == 3


def test_a_query_runs_at_its_schedule_only(shop: Path) -> None:
    clock = Clock()
    settings = BusinessSettings.model_validate(
        {"sqlite": str(shop), "schedule": "60s", "metrics": [metric("orders", "SELECT count(*) AS value FROM orders")]}
    )
    collector = BusinessCollector(settings, source_of(settings), Context("shop"), clock)
    list(collector.collect())
    with contextlib.closing(sqlite3.connect(shop)) as connection:
        connection.execute("DELETE FROM orders")
        connection.commit()

    clock.now += 59
    before = {it.series.name: it.value for it in collector.collect()}  # type: ignore[union-attr]  # nothing is malformed
    clock.now += 1
    after = {it.series.name: it.value for it in collector.collect()}  # type: ignore[union-attr]  # nothing is malformed

    assert (before["orders"], after["orders"]) == (3, 0)


def test_a_counter_that_falls_is_logged_as_a_reset(shop: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    query = metric("orders_total", "SELECT count(*) AS value FROM orders", type="counter")
    settings = BusinessSettings.model_validate({"sqlite": str(shop), "metrics": [query]})
    collector = BusinessCollector(settings, source_of(settings), Context("shop"), clock)
    list(collector.collect())
    with contextlib.closing(sqlite3.connect(shop)) as connection:
        connection.execute("DELETE FROM orders WHERE status = 'open'")
        connection.commit()
    clock.now += 60

    with caplog.at_level(logging.INFO):
        list(collector.collect())

    assert "orders_total fell from 3 to 2: Prometheus counts this as a reset." in caplog.text


def test_a_database_that_hangs_is_down_and_its_figures_come_back_with_it(tmp_path: Path) -> None:
    with postgres_server() as server:
        config = f"""
interval: 1s
exporters:
  business:
    - name: shop
      dsn: "{server.dsn()}"
      timeout: 2s
      metrics: [{{name: shop_answer, query: "SELECT 42 AS value", schedule: 1s}}]
"""
        with agent(tmp_path, config) as program:
            until(lambda: 'shop_answer{target="shop"} 42' in fetch(f"{program.url}/metrics")[1], what="the figure")
            server.freeze()
            try:
                until(lambda: f'{OWN}up{{target="shop"}} 0' in fetch(f"{program.url}/metrics")[1], what="the failure")
            finally:
                server.thaw()
            until(
                lambda: 'shop_answer{target="shop"} 42' in fetch(f"{program.url}/metrics")[1], what="the figure again"
            )
