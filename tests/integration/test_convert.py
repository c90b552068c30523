"""`deckwatch convert` gives a config that exposes the same metrics, and says with a line what it left out."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from databases import postgres_server
from deckwatch.convert import postgres_exporter, query_exporter, sql_exporter
from deckwatch.convert.conversion import NotConvertible

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUERY_EXPORTER = """\
databases:
  shop:
    dsn: sqlite:///shop.db
    labels: {region: eu}
metrics:
  orders: {type: gauge, description: Orders by status., labels: [status]}
  revenue: {type: counter, increment: false}
  seconds: {type: summary}
queries:
  by_status:
    interval: 5
    databases: [shop]
    metrics: [orders]
    sql: SELECT status, count(*) AS orders FROM orders GROUP BY status;
  money:
    schedule: "*/5 * * * *"
    databases: [shop]
    metrics: [revenue, seconds]
    sql: SELECT sum(total) AS revenue, 1 AS seconds FROM orders -- all of them
"""
SQL_EXPORTER = """\
global: {min_interval: 10s}
target:
  data_source_name: sqlite:///shop.db
  collectors: [sh*]
collectors:
  - collector_name: shop
    metrics:
      - metric_name: shop_orders
        type: gauge
        help: Orders by status.
        key_labels: [status]
        values: [n]
        query_ref: by_status
      - metric_name: shop_money
        type: gauge
        help: Cost of an order.
        static_labels: {currency: "${EUR}$$"}
        value_label: kind
        values: [lowest, highest]
        query: SELECT min(total) AS lowest, max(total) AS highest FROM orders
      - metric_name: node_orders
        type: gauge
        help: A name that Deckwatch uses.
        values: [n]
        query_ref: by_status
    queries:
      - query_name: by_status
        query: SELECT status, count(*) AS n FROM orders GROUP BY status
  - collector_name: other
    metrics: []
"""
POSTGRES_EXPORTER = """\
pg_shop:
  query: |
    SELECT * FROM (VALUES ('paid', 2, 'closed', 'x', interval '1 s'), ('new', 3, 'odd', 'x', NULL))
    AS orders (status, n, state, secret, took);
  cache_seconds: 30
  runonserver: ">=13"
  metrics:
    - status: {usage: LABEL, description: Status.}
    - n: {usage: GAUGE, description: Orders.}
    - state: {usage: MAPPEDMETRIC, description: State., metric_mapping: {closed: 0, open: 1}}
    - secret: {usage: DISCARD}
    - took: {usage: DURATION, description: Duration.}
"""


def deckwatch(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deckwatch", *arguments],
        cwd=folder,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    connection = sqlite3.connect(tmp_path / "shop.db")
    connection.execute("CREATE TABLE orders (status TEXT, total REAL)")
    connection.executemany("INSERT INTO orders VALUES (?, ?)", [("paid", 10), ("paid", 20), ("open", 5)])
    connection.commit()
    connection.close()
    return tmp_path


def converted(folder: Path, format: str, content: str) -> str:
    """Convert, leave the result in new.yml, and return the notes."""
    (folder / "old.yml").write_text(content)
    done = deckwatch(folder, "convert", format, "old.yml")
    assert done.returncode == 3, done.stderr
    (folder / "new.yml").write_text(done.stdout)
    return done.stderr


def exposed(folder: Path, **environ: str) -> set[str]:
    done = deckwatch(folder, "once", "business", "--config", "new.yml", **environ)
    assert done.returncode == 0, done.stderr
    return {line for line in done.stdout.splitlines() if not line.startswith(("#", "deckwatch_"))}


def test_the_converted_config_of_query_exporter_exposes_its_metrics(folder: Path) -> None:
    notes = converted(folder, "query-exporter", QUERY_EXPORTER)
    assert notes.splitlines() == [
        "old.yml:8: not converted: seconds: type summary",
        "old.yml:16: query money: its schedule is in UTC. Set timezone for another.",
    ]
    assert exposed(folder) == {
        'orders{target="shop",database="shop",region="eu",status="open"} 1.0',
        'orders{target="shop",database="shop",region="eu",status="paid"} 2.0',
        'revenue_total{target="shop",database="shop",region="eu"} 35.0',
    }


def test_the_converted_config_of_sql_exporter_exposes_its_metrics(folder: Path) -> None:
    notes = converted(folder, "sql_exporter", SQL_EXPORTER)
    assert notes.startswith("old.yml:21: not converted: node_orders: ")
    assert notes.count("\n") == 1
    assert exposed(folder) == {
        'shop_orders{target="sql",status="open"} 1.0',
        'shop_orders{target="sql",status="paid"} 2.0',
        'shop_money{target="sql",currency="${EUR}$$",kind="lowest"} 5.0',
        'shop_money{target="sql",currency="${EUR}$$",kind="highest"} 20.0',
    }


def test_the_converted_queries_of_postgres_exporter_expose_its_metrics(folder: Path) -> None:
    notes = converted(folder, "postgres_exporter", POSTGRES_EXPORTER)
    assert "old.yml:6: not converted: pg_shop: runonserver; the query runs on every version of the server" in notes
    assert "old.yml:12: not converted: pg_shop_took: usage DURATION" in notes
    with postgres_server() as server:
        assert exposed(folder, DATA_SOURCE_NAME=server.dsn()) == {
            'pg_shop_n{target="postgres",status="paid"} 2.0',
            'pg_shop_n{target="postgres",status="new"} 3.0',
            'pg_shop_state{target="postgres",status="paid"} 0.0',
        }


def test_a_password_is_not_copied(folder: Path) -> None:
    content = QUERY_EXPORTER.replace("sqlite:///shop.db", "postgresql://app:s3cret-word@db.example/shop")
    notes = converted(folder, "query-exporter", content)
    config = (folder / "new.yml").read_text()
    assert "s3cret-word" not in notes + config
    assert "dsn: postgresql://app@db.example/shop" in config
    assert "set $SHOP_PASSWORD" in notes


@pytest.mark.parametrize("format", ["sql_exporter", "query-exporter", "postgres_exporter"])
@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("", "old.yml: not a YAML mapping\n"),
        ("a: [", "old.yml:1: not valid YAML"),
        ("jobs: 1\nqueries: x\n", "old.yml"),
        ("a: {query: select 1, metrics: 3}\n", "old.yml"),
    ],
)
def test_a_file_of_another_kind_is_refused_in_one_line(folder: Path, format: str, content: str, error: str) -> None:
    (folder / "old.yml").write_text(content)
    done = deckwatch(folder, "convert", format, "old.yml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(error)
    assert done.stderr.count("\n") == 1


ODD: tuple[Any, ...] = (None, 1, -0.5, True, "", "x: ${", [], [1], [[]], {}, {"a": 1}, [{"a": None}])


def odd_variants(value: Any) -> Iterator[Any]:
    """The document with one node replaced by something else, for each node and each odd value."""
    yield from ODD
    if isinstance(value, dict):
        for key, child in value.items():
            yield from ({**value, key: odd} for odd in odd_variants(child))
    if isinstance(value, list):
        for position, child in enumerate(value):
            yield from ([*value[:position], odd, *value[position + 1 :]] for odd in odd_variants(child))


@pytest.mark.parametrize(
    ("module", "content"),
    [(query_exporter, QUERY_EXPORTER), (sql_exporter, SQL_EXPORTER), (postgres_exporter, POSTGRES_EXPORTER)],
)
def test_an_odd_value_anywhere_is_converted_or_refused_but_never_a_traceback(module: Any, content: str) -> None:
    for document in odd_variants(yaml.safe_load(content)):
        with contextlib.suppress(NotConvertible):
            module.convert(yaml.safe_dump(document))


def test_a_missing_file_is_refused(folder: Path) -> None:
    done = deckwatch(folder, "convert", "sql_exporter", "none.yml")
    assert (done.returncode, done.stderr) == (2, "none.yml: cannot be read: No such file or directory\n")


def test_metrics_with_the_names_of_built_in_ones_are_noted(tmp_path: Path) -> None:
    (tmp_path / "old.yml").write_text(
        POSTGRES_EXPORTER.replace("pg_shop:", "pg_database:").replace("n:", "size_bytes:")
    )
    converted = deckwatch(tmp_path, "convert", "postgres_exporter", "old.yml")
    assert converted.returncode == 3
    assert "pg_database_size_bytes: it is a built-in metric of the postgres exporter" in converted.stderr
