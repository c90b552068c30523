"""Compares Deckwatch for the host, Redis and PostgreSQL with the three Go exporters on the same servers."""

from __future__ import annotations

import contextlib
import random
import subprocess
import threading
import time
from typing import TYPE_CHECKING

from bench.measure import SETTLE, Scraping, cpu_of_a_cycle, resident_bytes
from databases import (
    PostgresServer,
    RedisServer,
    postgres_exporter,
    postgres_program,
    postgres_server,
    redis_exporter,
    redis_server,
)
from services import Program, agent, node_exporter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

CYCLES = 60
PERIOD = 1.0  # seconds

CONFIG = """\
interval: 15s
exporters:
  system: {{}}
  redis:
    - {{name: cache, url: "{redis}"}}
  postgres:
    - {{name: main, dsn: "{postgres}"{more}}}
"""
#: Collectors that are off by default in node_exporter and on in Deckwatch.
BEYOND_DEFAULT = ("processes", "interrupts", "tcpstat", "meminfo_numa", "softirqs")
#: Deckwatch settings with the same coverage as postgres_exporter's defaults.
SAME_COVERAGE = ", tables: {enabled: false}, statements: {enabled: false}, slow_queries: {enabled: false}"


def same_coverage(folder: Path) -> list[str]:
    """Return the collectors that this version of the peer supports."""
    known = subprocess.run(
        ["prometheus-node-exporter", "--help"], capture_output=True, text=True, check=False, cwd=folder
    )
    text = known.stdout + known.stderr
    return [f"--collector.{name}" for name in BEYOND_DEFAULT if f"--collector.{name}" in text]


def port_of(program: Program) -> int:
    return int(program.url.rpartition(":")[2])


@contextlib.contextmanager
def servers(folder: Path) -> Iterator[tuple[RedisServer, PostgresServer]]:
    with redis_server(folder) as redis, postgres_server() as postgres:
        postgres.execute("CREATE EXTENSION pg_stat_statements", "CREATE ROLE monitor LOGIN IN ROLE pg_monitor")
        pgbench = [postgres_program("pgbench"), "-h", "127.0.0.1", "-p", str(postgres.port), "-U", "postgres"]
        subprocess.run([*pgbench, "-i", "-q", "postgres"], check=True, capture_output=True)
        subprocess.run([*pgbench, "-t", "100", "postgres"], check=True, capture_output=True)
        with redis.client() as client:
            for number in range(1000):
                client.set(f"key:{number}", number, ex=3600)
        yield redis, postgres


@contextlib.contextmanager
def at_work(redis: Sequence[RedisServer], postgres: PostgresServer | None = None) -> Iterator[None]:
    """Run a load on the servers, so that their values change between cycles."""
    over = threading.Event()

    def work() -> None:
        chance = random.Random(1)
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(server.client()) for server in redis]
            connection = stack.enter_context(postgres.connect()) if postgres is not None else None
            while not over.wait(0.1):
                for client in clients:
                    number = chance.randrange(1000)
                    client.set(f"key:{number}", "x" * number, ex=3600)
                    client.get(f"key:{chance.randrange(2000)}")
                if connection is not None:
                    account = chance.randrange(1, 100_000)
                    connection.execute("UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = %s", [account])
                    connection.execute("SELECT abalance FROM pgbench_accounts WHERE aid = %s", [account])

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def cpu(programs: Sequence[Program], scrapers: int = 1) -> float:
    """Return the programs' total CPU milliseconds to collect and serve everything once."""
    pids = [program.process.pid for program in programs]
    return cpu_of_a_cycle(pids, [port_of(program) for program in programs], PERIOD, CYCLES, scrapers)


def megabytes(programs: Sequence[Program]) -> float:
    return sum(resident_bytes(program.process.pid) for program in programs) / 1e6


def asked_in_a_cycle(program: Program, redis: RedisServer, postgres: PostgresServer) -> tuple[float, float]:
    """Return the number of Redis commands and PostgreSQL statements per cycle."""
    with Scraping([port_of(program)], PERIOD):
        time.sleep(SETTLE)
        before = _asked(redis, postgres)
        time.sleep(20 * PERIOD)
        after = _asked(redis, postgres)
    return (after[0] - before[0]) / 20, (after[1] - before[1]) / 20


def _asked(redis: RedisServer, postgres: PostgresServer) -> tuple[float, float]:
    with redis.client() as client:
        commands = float(client.info("stats")["total_commands_processed"])
    return commands, float(postgres.value("SELECT sum(calls) FROM pg_stat_statements WHERE toplevel"))


def stack(folder: Path) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []

    def row(what: str, unit: str, ours: float, peers: float) -> None:
        rows.append((what, f"{ours:.2f} {unit}", f"{peers:.2f} {unit}", f"{ours / peers:.2f}" if peers else "-"))

    for name in ("peers", "same", "all"):
        (folder / name).mkdir()
    with servers(folder) as (redis, postgres), contextlib.ExitStack() as running:
        of_redis = running.enter_context(redis_exporter(folder / "peers", redis.url))
        of_postgres = running.enter_context(postgres_exporter(folder / "peers", postgres.dsn(user="monitor")))
        peers = [running.enter_context(node_exporter(folder / "peers", *same_coverage(folder))), of_redis, of_postgres]
        where = {"redis": redis.url, "postgres": postgres.dsn(user="monitor")}
        with at_work([redis], postgres):
            peers_one, peers_two = cpu(peers), cpu(peers, 2)
        asked = (asked_in_a_cycle(of_redis, redis, postgres)[0], asked_in_a_cycle(of_postgres, redis, postgres)[1])
        for name, title, more in (("same", "same coverage", SAME_COVERAGE), ("all", "everything on", "")):
            with agent(folder / name, CONFIG.format(**where, more=more)) as ours:
                with at_work([redis], postgres):
                    row(f"CPU of a cycle, {title}", "ms", cpu([ours]), peers_one)
                    row(f"CPU of a cycle, {title}, two scrapers", "ms", cpu([ours], 2), peers_two)
                row(f"resident memory, {title}", "MB", megabytes([ours]), megabytes(peers))
                commands, statements = asked_in_a_cycle(ours, redis, postgres)
                row(f"Redis commands of a cycle, {title}", "", commands, asked[0])
                row(f"PostgreSQL statements of a cycle, {title}", "", statements, asked[1])
    return rows
