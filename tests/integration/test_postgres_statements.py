"""Statements of a real pg_stat_statements: everything is counted, in few series, and no counter decreases."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from databases import PostgresServer, postgres_server
from services import deckwatch_command, fetch, until
from watching import Watch, config, fallen, watching

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CALLS, SECONDS = "pg_stat_statements_calls_total", "pg_stat_statements_seconds_total"
STATEMENT = "postgres.statement"
PREFIX = "pg_stat_statements_"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server(**{"pg_stat_statements.max": "10000"}) as server:
        server.execute("CREATE EXTENSION pg_stat_statements", "CREATE TABLE items (n int)")
        yield server


def counts(server: PostgresServer) -> dict[tuple[str, str, str, bool], tuple[float, float]]:
    """Return calls and seconds of all statements except Deckwatch's; the comment excludes this query too."""
    with server.connect() as connection:
        rows = connection.execute(
            "SELECT /* deckwatch */ userid::text, dbid::text, queryid::text, toplevel, calls, total_exec_time / 1000"
            " FROM pg_stat_statements WHERE query NOT LIKE '%/* deckwatch */%'"
        ).fetchall()
    return {tuple(row[:4]): (row[4], row[5]) for row in rows}


def done_since(server: PostgresServer, before: dict[tuple[str, str, str, bool], tuple[float, float]]) -> list[float]:
    """Return calls and seconds since that reading."""
    differences = [
        (calls - before.get(key, (0, 0))[0], seconds - before.get(key, (0, 0))[1])
        for key, (calls, seconds) in counts(server).items()
    ]
    return [sum(column) for column in zip(*differences, strict=True)]


def run_distinct(server: PostgresServer, count: int, first: int = 0, database: str = "postgres") -> None:
    """Run `count` statements with distinct queryids: they differ in the number of columns in two places."""
    with server.connect(database) as connection:
        for number in range(first, first + count):
            one, other = number % 100 + 1, number // 100 + 1
            columns, inner = ", ".join(["n"] * one), ", ".join(["1"] * other)
            connection.execute(
                f"SELECT {columns} FROM items WHERE n IN (SELECT count(*) FROM (VALUES ({inner})) AS v)".encode()
            )


class Tally:
    """The sums that Prometheus would compute: the last value of each series, including replaced ones."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._last: dict[str, dict[tuple[str, ...], float]] = {CALLS: {}, SECONDS: {}}

    def look(self) -> tuple[float, float]:
        """Return calls and seconds so far."""
        for series in self._watch.series():
            if series.name in self._last:
                self._last[series.name][tuple(series.labels.values())] = series.value
        return sum(self._last[CALLS].values()), sum(self._last[SECONDS].values())


def test_5000_distinct_statements_stay_within_the_budget_and_add_up(server: PostgresServer, tmp_path: Path) -> None:
    server.execute("SELECT 'before the agent', 1, 2, 3")
    target = {"dsn": server.dsn(), "statements": {"top": 20, "top_by_calls": 5, "top_by_io": 5}}
    with watching(tmp_path, config(target, interval="500ms")) as watch:
        watch.cycles(1)
        tally = Tally(watch)
        assert tally.look() == (0, 0)
        before, begun = counts(server), watch.sum("pg_stat_statements_entries")
        for first in range(0, 5000, 100):
            run_distinct(server, 100, first)
            tally.look()
        for _ in range(300):
            server.execute("SELECT n, n + 1 FROM items")
            tally.look()

        until(lambda: tally.look()[0] >= done_since(server, before)[0], what="all statements being counted")
        calls, seconds = done_since(server, before)
        series = watch.series(CALLS)
        event_count = len({event["queryid"] for event in watch.events(STATEMENT)})

        assert watch.sum("pg_stat_statements_entries") >= begun + 5000
        assert 20 <= len(series) <= 31
        assert len(watch.series(target="main")) < 3000
        assert sum(it.labels["queryid"] == "other" for it in series) == 1
        assert calls >= 5300
        assert tally.look()[0] == calls
        assert tally.look()[1] == pytest.approx(seconds, rel=1e-6)
        assert watch.value("pg_stat_statements_all_calls_total") == calls
        assert watch.value("pg_stat_statements_all_seconds_total") == pytest.approx(seconds, rel=1e-6)
        most = max((it for it in series if it.labels["queryid"] != "other"), key=lambda it: it.value)
        assert 100 < most.value <= 300  # its calls from before it entered the top are in `other`
        assert most.labels["queryid"] == server.value(
            "SELECT queryid::text FROM pg_stat_statements WHERE query = 'SELECT n, n + $1 FROM items'"
        )
        assert event_count >= 5000
        assert len(watch.events(STATEMENT)) == event_count
        assert "before the agent" not in watch.program.printed


def test_each_statement_text_is_logged_once_without_literals(server: PostgresServer, tmp_path: Path) -> None:
    secret = "hunter2-of-the-test"
    server.execute("CREATE ROLE somebody LOGIN", "CREATE DATABASE shop OWNER somebody")
    with watching(tmp_path, config({"dsn": server.dsn()}, interval="500ms")) as watch:
        watch.cycles(1)
        server.execute(
            f"ALTER ROLE somebody PASSWORD '{secret}'", f"ALTER ROLE somebody PASSWORD $x${secret}$x$",
            f"CREATE ROLE other PASSWORD E'{secret}\\''", "DROP ROLE other",
        )  # fmt: skip
        with server.connect("shop", "somebody") as connection:
            connection.execute(f"SELECT '{secret}', n /* {secret} */ FROM generate_series(1, 2) AS n".encode())
        (event,) = until(lambda: watch.events(STATEMENT, user="somebody"))
        until(lambda: len([it for it in watch.events(STATEMENT) if "ROLE" in it["query"]]) >= 4)
        with server.connect("shop", "somebody") as connection:
            connection.execute("SELECT 'again', n FROM generate_series(1, 2) AS n")
        until(lambda: watch.sum(CALLS, user="somebody") >= 2)
        watch.cycles(1)
        outputs = [watch.program.printed, watch.program.metrics(), fetch(watch.program.url + "/api/v1/status")[1]]

        assert len(watch.events(STATEMENT, user="somebody")) == 1
        assert event["query"] == "SELECT $1, n FROM generate_series($2, $3) AS n"
        assert event["database"] == "shop"
        assert len(event["fingerprint"]) == 16
        assert {it.labels["queryid"] for it in watch.series(CALLS, user="somebody")} == {event["queryid"]}
        assert {it["query"] for it in watch.events(STATEMENT) if "ROLE" in it["query"]} >= {
            "ALTER ROLE somebody PASSWORD ?", "CREATE ROLE other PASSWORD ?", "DROP ROLE other",
        }  # fmt: skip
        assert not any(secret in output for output in outputs)
        assert "deckwatch */" not in "".join(event["query"] for event in watch.events(STATEMENT))
        queryids = [event["queryid"] for event in watch.events(STATEMENT)]
        assert len(queryids) == len(set(queryids))


def test_statement_texts_become_labels_if_configured(server: PostgresServer, tmp_path: Path) -> None:
    target = {"dsn": server.dsn(), "statements": {"query_text": "label", "text_bytes": 64}}
    with watching(tmp_path, config(target, interval="500ms")) as watch:
        watch.cycles(1)
        server.execute("SELECT 'a', n AS \"quoted\nname\" FROM items", f"SELECT n AS {'ä' * 31}, 5 FROM items")

        def texts() -> set[str]:
            return {it.labels["query"] for it in watch.series("pg_stat_statements_query_id")}

        until(lambda: any("quoted" in text for text in texts()))
        assert 'SELECT $1, n AS "quoted\nname" FROM items' in texts()
        assert max(len(text.encode()) for text in texts()) <= 64
        assert watch.events(STATEMENT) == []


def test_a_reset_and_a_restart_decrease_no_counter_and_lose_few_calls(server: PostgresServer, tmp_path: Path) -> None:
    with watching(tmp_path, config({"dsn": server.dsn()}, interval="500ms")) as watch:
        watch.cycles(1)
        for _ in range(20):
            server.execute("SELECT n, 'reset' FROM items")
        until(lambda: watch.sum(CALLS) >= 20)
        watch.cycles(2)
        before = watch.counters(PREFIX)

        server.execute("SELECT pg_stat_statements_reset()")
        watch.cycles(1)
        for _ in range(5):
            server.execute("SELECT n, 'reset' FROM items")
        until(lambda: watch.sum(CALLS) >= sum(v for k, v in before.items() if k.startswith(CALLS)) + 5)
        after_reset = watch.counters(PREFIX)

        server.stop()
        until(watch.is_down)
        server.start()
        until(watch.is_up)
        watch.cycles(1)
        restarted = watch.counters(PREFIX)
        server.execute("SELECT n, 'reset' FROM items")
        until(lambda: watch.sum(CALLS) > sum(v for k, v in restarted.items() if k.startswith(CALLS)))
        after_restart = watch.counters(PREFIX)

    assert fallen(before, after_reset) == {}
    assert fallen(after_reset, restarted) == {}
    assert fallen(restarted, after_restart) == {}
    # 26 from this test, the reset itself, and the queries that wait for the server to start
    assert 26 <= sum(v for k, v in after_restart.items() if k.startswith(CALLS)) <= 60


def test_evictions_decrease_no_counter(tmp_path: Path) -> None:
    with postgres_server(**{"pg_stat_statements.max": "100"}) as server:
        server.execute("CREATE EXTENSION pg_stat_statements", "CREATE TABLE items (n int)")
        with watching(tmp_path, config({"dsn": server.dsn(), "statements": {"top": 5}}, interval="300ms")) as watch:
            watch.cycles(1)
            seen: dict[str, float] = {}
            for turn in range(8):
                run_distinct(server, 120, first=turn % 3 * 60)
                watch.cycles(1)
                now = watch.counters(PREFIX)
                assert fallen(seen, now) == {}
                seen |= now
            server.execute("SELECT pg_stat_statements_reset()")
            watch.cycles(2)

            assert fallen(seen, watch.counters(PREFIX)) == {}
            assert watch.sum("pg_stat_statements_dealloc_total") >= 1
            assert 0 < watch.sum(CALLS) <= 8 * 120 + 50
            assert watch.failing() == set()


def test_check_gives_the_statement_that_creates_the_extension(server: PostgresServer, tmp_path: Path) -> None:
    server.execute("CREATE DATABASE empty")
    (tmp_path / "deckwatch.yml").write_text(config({"dsn": server.dsn("empty")}))

    done = subprocess.run(
        deckwatch_command("check"), cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 2
    assert "CREATE EXTENSION pg_stat_statements" in done.stdout


def test_check_gives_the_setting_that_loads_the_extension(tmp_path: Path) -> None:
    with postgres_server(shared_preload_libraries="") as server:
        server.execute("CREATE EXTENSION pg_stat_statements")
        (tmp_path / "deckwatch.yml").write_text(config({"dsn": server.dsn()}))
        done = subprocess.run(
            deckwatch_command("check"), cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        with watching(tmp_path, config({"dsn": server.dsn()})) as watch:
            watch.cycles(1)
            failing, up = watch.failing(), watch.is_up()

    assert done.returncode == 2
    assert "ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'" in done.stdout
    assert up
    assert failing == {"postgres.stat_statements"}
