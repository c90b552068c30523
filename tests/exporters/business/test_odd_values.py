"""Odd values from each source of business figures: each affects only its own series."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from databases import redis_server
from deckwatch.testing import opened
from deckwatch_exporters.business import EXPORTER
from deckwatch_exporters.business.rows import Table, declared, figures
from deckwatch_exporters.business.settings import QuerySettings
from probed_site import tcp_server

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from deckwatch.testing import Collected

ROWS: list[tuple[Any, ...]] = [("paid", 3.0), ("open", 2.0), ("gone", 1.0)]
METRIC = {"name": "orders", "labels": ["status"]}
ODD: list[Any] = [
    None, "", "(null)", -5, 2**64 + 1, 10**400, float("nan"), float("inf"), "1e999", b"\xff\xfe", "\ud800", "1_0", [],
    {}, True, "0001-01-01T00:00:00+23:59",
]  # fmt: skip


def _made(rows: list[tuple[Any, ...]], columns: tuple[str, ...], **metric: Any) -> tuple[dict[str, float], list[str]]:
    query = QuerySettings.model_validate({"query": "q", "metrics": [metric]})
    found = figures(query, [declared(it) for it in query.metrics], Table(columns, rows))
    return {it.series.text.rstrip(): it.value for it in found.samples}, [it.what for it in found.malformed]


@given(data=st.data())
def test_an_odd_value_affects_only_its_row(data: st.DataObject) -> None:
    number, column = data.draw(st.integers(0, 2)), data.draw(st.integers(0, 1))
    rows = [list(row) for row in ROWS]
    rows[number][column] = data.draw(st.sampled_from(ODD))
    base, _ = _made([row for row in ROWS if row != ROWS[number]], ("status", "value"), **METRIC)

    found, malformed = _made([tuple(row) for row in rows], ("status", "value"), **METRIC)

    assert base.items() <= found.items()
    assert len(found) == 3 or malformed or rows[number][1] is None


BUCKETS: list[tuple[Any, ...]] = [
    (kind, le, count, 20.0) for kind in ("a", "b") for le, count in (("5", 1), ("10", 3), ("+Inf", 4))
]


@given(data=st.data())
def test_an_odd_bucket_affects_only_its_histogram(data: st.DataObject) -> None:
    columns = ("kind", "le", "value", "sum")
    metric = {"name": "took", "type": "histogram", "le": "le", "labels": ["kind"]}
    base, _ = _made(BUCKETS, columns, **metric)
    rows = [list(row) for row in BUCKETS]
    odd, column = data.draw(st.sampled_from(ODD)), data.draw(st.integers(1, 3))
    number = data.draw(st.integers(0, 2))
    how = data.draw(st.sampled_from(["replace", "drop", "repeat"]))
    if how == "replace":
        rows[number][column] = odd
    elif how == "drop":
        del rows[number]
    else:
        rows.append([*rows[number][:2], 99, 20.0])

    found, malformed = _made([tuple(row) for row in data.draw(st.permutations(rows))], columns, **metric)

    assert {name: value for name, value in base.items() if 'kind="b"' in name}.items() <= found.items()
    assert all(value >= 0 for name, value in found.items() if "_sum" not in name)
    if how == "repeat":
        assert len(malformed) == 1


def _collect(settings: dict[str, Any]) -> Collected:
    with opened(EXPORTER, settings) as target:
        collected = target.collect()
    assert collected.errors == {}
    assert collected.values["deckwatch_business_up"] == 1
    return collected


def _orders(collected: Collected) -> dict[str, float]:
    return {name: value for name, value in collected.values.items() if name.startswith("orders")}


GOOD = {'orders{status="paid"}': 3.0, 'orders{status="open"}': 2.0}


@pytest.mark.parametrize(
    "odd", ["null", "7", '"x"', "[]", "[1]", '{"status": "odd", "value": "(null)"}', '{"status": "without value"}']
)
def test_an_odd_item_of_a_json_document_costs_no_other_one(odd: str) -> None:
    items = [json.dumps({"status": status, "value": value}) for status, value in ROWS[:2]]
    document = f"[{items[0]}, {odd}, {items[1]}]".encode()

    def talk(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + document)

    with tcp_server(talk) as port:
        url = {"url": f"http://127.0.0.1:{port}/"}
        found = _collect({"json": url, "metrics": [{**METRIC, "query": "@"}]})

    assert _orders(found) == GOOD
    assert len(found.malformed) == ("without value" not in odd)  # that is NULL


def test_odd_values_of_an_sqlite_file_cost_no_other_row(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "shop.db") as database:
        database.execute("CREATE TABLE orders (status, value)")
        database.executemany("INSERT INTO orders VALUES (?, ?)", [*ROWS[:2], (b"\xff", "many"), (b"\xfe", b"\xff")])
        database.execute("INSERT INTO orders VALUES (CAST(x'e9' AS TEXT), 'x')")

    settings = {"sqlite": str(tmp_path / "shop.db"), "metrics": [{**METRIC, "query": "SELECT * FROM orders"}]}
    found = _collect(settings)

    assert _orders(found) == GOOD
    assert len(found.malformed) == 3


def test_an_odd_value_in_redis_costs_no_other_query(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server, server.client() as client:
        client.set("good", 5)
        client.rpush("list", 1)
        for number, value in enumerate([b"\xff", b"(null)", b"", b"1_0", b"9" * 400]):
            client.set(f"odd{number}", value)
        queries = {
            "good": "GET good",
            **{f"odd{number}": f"GET odd{number}" for number in range(5)},
            "wrong": "GET list",
        }
        metrics = [{"name": name, "query": query} for name, query in queries.items()]
        found = _collect({"redis": {"url": server.url}, "metrics": metrics})

    assert found.values["good"] == 5
    assert not [name for name in found.values if name.startswith(("odd", "wrong"))]
    assert len(found.malformed) == 5
