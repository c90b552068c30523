"""A real server parses every statement that `deckwatch advise postgres` prints, without unannounced changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from databases import PostgresServer, postgres_server
from deckwatch_exporters.postgres.advice import advice
from deckwatch_exporters.postgres.settings import PostgresSettings
from server_versions import postgres_programs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Advice

VERSIONS = [it for it in ("13", "16", "18") if postgres_programs(it) is not None]
#: "cannot run inside a transaction block", which the server raises after parsing.
NOT_IN_A_TRANSACTION = "25001"
SECRET = "hunter2"


@pytest.fixture(scope="module", params=VERSIONS)
def server(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    with postgres_server(postgres_programs(request.param), fsync="off", autovacuum="off") as server:
        server.execute(
            "CREATE EXTENSION pg_stat_statements",
            'CREATE SCHEMA "Sales ""2"',
            'CREATE TABLE "Sales ""2".orders (id serial PRIMARY KEY, note text, shop int, small smallint)',
            """INSERT INTO "Sales ""2".orders (note, shop) SELECT 'x', g FROM generate_series(1, 150000) AS g""",
            'CREATE INDEX "Shop" ON "Sales ""2".orders (shop)',
            'CREATE INDEX "Shop again" ON "Sales ""2".orders (shop)',
            'CREATE INDEX "Note" ON "Sales ""2".orders (note)',
            """SELECT setval('"Sales ""2".orders_id_seq', 2000000000)""",
            "CREATE SEQUENCE up AS smallint",
            "SELECT setval('up', 32000)",
            "CREATE SEQUENCE down INCREMENT -1 MINVALUE -1000 MAXVALUE 0 START -900",
            "SELECT nextval('down')",
            "CREATE SEQUENCE own MAXVALUE 100",
            "SELECT setval('own', 99)",
            "CREATE SEQUENCE huge",
            "SELECT setval('huge', 9223372036854775000)",
            "CREATE SEQUENCE huge2",
            "CREATE TABLE filled (n int DEFAULT nextval('huge2'))",
            "SELECT setval('huge2', 2147480000)",
            'UPDATE "Sales ""2".orders SET note = \'y\'',
        )
        yield server


def _advice(server: PostgresServer) -> list[Advice]:
    return list(advice(PostgresSettings.model_validate({"dsn": server.dsn()})))


def _remedies_of_statement(server: PostgresServer, *statements: str) -> list[Advice]:
    """Return the advice on statements after these have taken most of the time."""
    server.execute("SELECT pg_stat_statements_reset()", *statements)
    return [it for it in _advice(server) if it.kind == "statements"]


def _assert_parsed(server: PostgresServer, remedy: str) -> None:
    """Run each statement of the remedy in a transaction that is rolled back."""
    for line in remedy.split("\n"):
        statement = line.partition("  -- ")[0]
        if statement.startswith("-- "):
            continue
        assert statement.endswith(";")
        with server.connect() as connection:
            connection.execute(b"BEGIN")
            try:
                connection.execute(statement.encode())
            except psycopg.Error as failure:
                if failure.sqlstate != NOT_IN_A_TRANSACTION:
                    raise
            connection.execute(b"ROLLBACK")


def test_the_server_parses_every_statement_about_schema_and_settings(server: PostgresServer) -> None:
    found = _advice(server)

    assert {it.kind for it in found} >= {"unused index", "duplicate index", "sequence", "dead rows", "setting"}
    for it in found:
        _assert_parsed(server, it.remedy)


def test_the_remedy_for_an_exhausted_sequence_raises_its_actual_limit(server: PostgresServer) -> None:
    remedies = {it.subject: it.remedy for it in _advice(server) if it.kind == "sequence"}

    assert remedies['"Sales ""2".orders_id_seq'].split("\n") == [
        'ALTER TABLE "Sales ""2".orders ALTER COLUMN id TYPE bigint;  -- locks the table while it is rewritten',
        'ALTER SEQUENCE "Sales ""2".orders_id_seq AS bigint;',
    ]
    assert remedies["public.up"] == "ALTER SEQUENCE public.up AS bigint;"
    assert remedies["public.down"] == "ALTER SEQUENCE public.down NO MINVALUE;"
    assert remedies["public.own"] == "ALTER SEQUENCE public.own NO MAXVALUE;"
    assert remedies["public.huge"].startswith("-- ")
    assert remedies["public.huge2"].startswith("ALTER TABLE public.filled ALTER COLUMN n TYPE bigint;")


@pytest.mark.parametrize(
    "statement",
    [
        'DELETE FROM "Sales ""2".orders WHERE shop = -1 AND pg_sleep(0.2) IS NOT NULL',
        'UPDATE "Sales ""2".orders SET note = \'hunter2\' WHERE shop = 7',
        "CREATE DATABASE advised",
        "ALTER ROLE postgres PASSWORD 'hunter2'",
        "WITH gone AS (DELETE FROM filled WHERE n = 1 RETURNING n) SELECT n FROM gone",
        "SELECT interval '1 day', pg_sleep(0.2)",
        "SELECT 1; SELECT pg_sleep(0.2)",
        "DO $$ BEGIN PERFORM pg_sleep(0.2); END $$",
    ],
)
def test_a_statement_that_changes_data_or_cannot_be_prepared_is_never_explained(
    statement: str, server: PostgresServer
) -> None:
    try:
        found = _remedies_of_statement(server, statement)
    finally:
        server.execute("DROP DATABASE IF EXISTS advised")

    assert SECRET not in "".join(f"{it.subject} {it.remedy}" for it in found)
    for it in found:
        _assert_parsed(server, it.remedy)
        assert "EXPLAIN (" not in it.remedy or it.remedy.startswith("EXPLAIN (GENERIC_PLAN) SELECT")
        assert "ANALYZE" not in it.remedy
        assert "..." not in it.remedy


def test_a_slow_query_is_explained_with_its_generic_plan_if_the_server_supports_it(server: PostgresServer) -> None:
    query = 'SELECT count(*) FROM "Sales ""2".orders AS one WHERE note LIKE \'%z%\' AND pg_sleep(0.3) IS NOT NULL'
    found = _remedies_of_statement(server, f"{query} LIMIT 7".replace("pg_sleep(0.3)", "md5(note)"))
    (it,) = [it for it in found if "note LIKE" in it.subject]

    _assert_parsed(server, it.remedy)
    if server.value("SELECT current_setting('server_version_num')::int") >= 160000:
        assert it.remedy.startswith('EXPLAIN (GENERIC_PLAN) SELECT count(*) FROM "Sales ""2".orders AS one')
    else:
        assert "pg_stat_statements WHERE queryid = " in it.remedy


def test_a_long_query_is_identified_by_its_queryid_and_never_truncated(server: PostgresServer) -> None:
    columns = ", ".join(f"note AS note_{n}" for n in range(400))
    found = _remedies_of_statement(server, f'SELECT {columns} FROM "Sales ""2".orders ORDER BY note, shop LIMIT 1')
    (it,) = [it for it in found if it.subject.startswith("queryid")]

    _assert_parsed(server, it.remedy)
    with server.connect() as connection:
        row = connection.execute(it.remedy.split("\n")[1].encode()).fetchone()
    assert row is not None
    assert "note_399" in row[0]
