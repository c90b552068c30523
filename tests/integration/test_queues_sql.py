"""SQL queues on a real PostgreSQL: values of an events table, and errors of invalid queries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from databases import PostgresServer, postgres_server
from deckwatch.testing import Collected, opened
from deckwatch_exporters.queues import EXPORTER

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENTS = """
SELECT type AS queue,
       count(*) FILTER (WHERE NOT processed AND processing_error IS NULL) AS length,
       count(*) FILTER (WHERE processing_error IS NOT NULL) AS dead,
       count(*) FILTER (WHERE processed) AS processed_total,
       count(*) AS enqueued_total,
       extract(epoch FROM now() - min(created_at) FILTER (WHERE NOT processed AND processing_error IS NULL))
           AS oldest_age_seconds
FROM events GROUP BY type;
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        running.execute(
            "CREATE TABLE events (type text, processed bool DEFAULT false, processed_at timestamptz,"
            " processing_error text, created_at timestamptz DEFAULT now())",
            "INSERT INTO events (type, created_at) SELECT 'order', now() - n * interval '1 minute'"
            " FROM generate_series(0, 4) AS n",
            "INSERT INTO events (type, processed, processed_at) SELECT 'order', true, now() FROM generate_series(1, 7)",
            "INSERT INTO events (type, processing_error) VALUES ('order', 'card declined')",
            "INSERT INTO events (type, processed, processed_at) VALUES ('refund', true, now())",
            "CREATE ROLE stranger LOGIN",
        )
        yield running


def collect(server: PostgresServer, query: str, user: str = "postgres", **settings: Any) -> Collected:
    given = {"kind": "sql", "dsn": server.dsn(user=user), "query": query, **settings}
    with opened(EXPORTER, given, name="outbox") as target:
        collected = target.collect()
    collected.assert_declared()
    return collected


def queues_in(collected: Collected) -> dict[str, float]:
    return {name: value for name, value in collected.values.items() if name != "queue_up"}


def test_an_events_table_is_exported_as_a_queue(server: PostgresServer) -> None:
    collected = collect(server, EVENTS)
    assert not collected.errors
    order = {"queue": "order", "kind": "sql"}
    assert collected.value("queue_length", **order) == 5
    assert collected.value("queue_dead", **order) == 1
    assert collected.value("queue_processed_total", **order) == 7
    assert collected.value("queue_enqueued_total", **order) == 13
    assert 240 <= collected.value("queue_oldest_message_age_seconds", **order) < 1000
    assert collected.value("queue_oldest_message_age_exact", **order) == 1
    assert collected.value("queue_oldest_message_age_seconds", queue="refund") == 0, "nothing waits"


def test_a_query_without_a_queue_name_uses_the_target_name(server: PostgresServer) -> None:
    collected = collect(server, "SELECT count(*) AS length FROM events WHERE NOT processed")
    assert queues_in(collected) == {'queue_length{queue="outbox",kind="sql"}': 6}


def test_null_is_absent(server: PostgresServer) -> None:
    collected = collect(server, "SELECT 1 AS length, NULL::int AS dead, NULL::int AS oldest_age_seconds")
    assert queues_in(collected) == {'queue_length{queue="outbox",kind="sql"}': 1}


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELEC 1", ("syntax error", "Check query")),
        ("SELECT 1 AS length, 2 AS size", ("'size'", "there are: queue, oldest_age_seconds, length")),
        ("SELECT 1 AS length, 2 AS length", ("'length' more than once",)),
        ("SELECT 'a' AS queue", ("none of the columns of a queue",)),
        ("INSERT INTO events (type) VALUES ('x') RETURNING 1 AS length", ("read-only", "may only read")),
        ("SELECT count(*) AS length FROM pg_sleep(60)", ("statement timeout", "raise timeout")),
        ("-- nothing", ("Check query",)),
    ],
)
def test_an_invalid_query_is_explained(server: PostgresServer, query: str, told: tuple[str, ...]) -> None:
    collected = collect(server, query, timeout=0.5)
    error = collected.errors["queues"]
    assert all(words in error for words in told), error
    assert not collected.snapshots["queues"].is_unreachable


def test_the_search_path_of_the_target_applies(server: PostgresServer) -> None:
    server.execute("CREATE SCHEMA shop", "CREATE TABLE shop.jobs AS SELECT 1")
    query = "SELECT count(*) AS length FROM jobs"
    assert '"jobs" does not exist' in collect(server, query).errors["queues"]
    assert queues_in(collect(server, query, search_path=["shop"])) == {'queue_length{queue="outbox",kind="sql"}': 1}


def test_a_missing_privilege_is_reported(server: PostgresServer) -> None:
    error = collect(server, EVENTS, user="stranger").errors["queues"]
    assert "permission denied for table events" in error
    assert "GRANT SELECT" in error


def test_an_invalid_row_affects_only_itself(server: PostgresServer) -> None:
    collected = collect(
        server,
        "SELECT * FROM (VALUES ('a', '1'), ('b', 'many'), ('c', '3'), ('c', '4'), (NULL, '5'), ('d', 'NaN'))"
        " AS rows (queue, length)",
    )
    assert queues_in(collected) == {'queue_length{queue="a",kind="sql"}': 1}
    assert collected.malformed == [
        "row 2: length of queue 'b'",
        "row 3: queue 'c' is in 2 rows",
        "row 4: queue 'c' is in 2 rows",
        "row 5: queue",
        "row 6: length of queue 'd'",
    ]


def test_a_server_that_is_down_is_unreachable_until_it_recovers() -> None:
    with postgres_server() as server:
        given = {"kind": "sql", "dsn": server.dsn(), "query": "SELECT 1 AS length"}
        with opened(EXPORTER, given) as target:
            assert target.collect().values
            server.stop()
            down = target.collect()
            assert down.snapshots["queues"].is_unreachable
            assert not [name for name in down.values if name.startswith("queue_length")]
            server.start()
            assert target.collect().value("queue_length") == 1
