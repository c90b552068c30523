"""`deckwatch advise postgres NAME` against a server with a problem of each kind."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from databases import PostgresServer, postgres_server
from services import ROOT, deckwatch_command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server(fsync="off", autovacuum="off") as server:
        server.execute(
            "CREATE EXTENSION pg_stat_statements",
            "CREATE TABLE orders (id serial PRIMARY KEY, note text, shop int)",
            "INSERT INTO orders (note, shop) SELECT 'x', g FROM generate_series(1, 150000) AS g",
            "CREATE INDEX orders_shop ON orders (shop)",
            "CREATE INDEX orders_shop_again ON orders (shop)",
            'CREATE INDEX "Orders by note" ON orders (note)',
            "ANALYZE",
            "SELECT setval('orders_id_seq', 2000000000)",
            "UPDATE orders SET note = 'y'",
            *["SELECT count(*) FROM orders WHERE note = 'hunter2'"] * 5,
        )
        yield server


def _advise(folder: Path, config: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    file = folder / "deckwatch.yml"
    file.write_text(config)
    command = deckwatch_command("advise", *arguments, "--config", str(file))
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)


def test_advice_gives_the_value_and_the_statement_that_fixes_it(tmp_path: Path, server: PostgresServer) -> None:
    answer = _advise(tmp_path, f"exporters: {{postgres: [{{name: main, dsn: '{server.dsn()}'}}]}}", "postgres", "main")

    assert answer.returncode == 0, answer.stderr
    text = " ".join(answer.stdout.split())
    for expected in (
        "duplicate index",
        "DROP INDEX CONCURRENTLY public.orders_shop_again",
        "93.1% used: 2000000000 of 2147483647",
        "ALTER TABLE public.orders ALTER COLUMN id",
        "150000 dead rows",
        "ALTER SYSTEM SET fsync = on",
        "ALTER SYSTEM SET autovacuum = on",
        "update orders set note=".upper().replace("=", " = $1"),
    ):
        assert expected in text or expected.lower() in text.lower(), text
    assert "hunter2" not in answer.stdout


def test_advise_changes_nothing_on_the_server(tmp_path: Path, server: PostgresServer) -> None:
    before = server.value("SELECT count(*) FROM pg_indexes WHERE schemaname = 'public'")

    _advise(tmp_path, f"exporters: {{postgres: [{{name: main, dsn: '{server.dsn()}'}}]}}", "postgres", "main")

    assert server.value("SELECT count(*) FROM pg_indexes WHERE schemaname = 'public'") == before == 4


def test_a_server_that_is_down_gives_one_line_and_does_not_affect_the_others(
    tmp_path: Path, server: PostgresServer
) -> None:
    config = (
        "exporters: {postgres: ["
        f"{{name: gone, dsn: 'postgresql://somebody:hunter2@127.0.0.1:1/x'}}, {{name: main, dsn: '{server.dsn()}'}}]}}"
    )
    answer = _advise(tmp_path, config, "postgres")

    assert answer.returncode == 1
    assert "postgres gone: NotConnected: connection failed" in answer.stdout
    assert "duplicate index" in answer.stdout
    assert "hunter2" not in answer.stdout + answer.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["postgres", "elsewhere"], "there is no target 'elsewhere' of postgres in the config; it has: main\n"),
        (["system"], "no advice is available for 'system'\n"),
        (["nothing"], "no advice is available for 'nothing'\n"),
    ],
)
def test_targets_that_cannot_be_advised_on_give_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    answer = _advise(tmp_path, "exporters: {postgres: [{name: main, dsn: 'host=127.0.0.1 port=1'}]}", *arguments)

    assert (answer.returncode, answer.stderr) == (2, message)


def test_the_values_used_by_the_advice_are_exported(tmp_path: Path, server: PostgresServer) -> None:
    file = tmp_path / "deckwatch.yml"
    file.write_text(f"exporters: {{postgres: [{{name: main, dsn: '{server.dsn()}'}}]}}")
    command = deckwatch_command("once", "postgres", "--config", str(file))
    exposition = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    for name in (
        'pg_duplicate_index_size_bytes{target="main",server="',
        "pg_sequence_used_ratio{",
        "pg_stat_user_tables_autovacuum_threshold{",
        "pg_stat_user_tables_n_dead_tup{",
        "pg_stat_user_indexes_idx_scan_total{",
        "pg_index_size_bytes{",
        "pg_stat_user_tables_seq_tup_read{",
        "pg_stat_database_blks_hit{",
        "pg_settings_fsync{",
    ):
        assert f"\n{name}" in exposition
