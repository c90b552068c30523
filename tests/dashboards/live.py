"""A live agent that monitors a host, Redis with a replica, PostgreSQL, PgBouncer and logs under load, and a Prometheus.

Prometheus scrapes the agent in both ways: everything at once (job `deckwatch`), and each target as an instance of its
own through service discovery (job `discovered`).

PYTHONPATH=tests .venv/bin/python -m dashboards.live    # keeps one running, to draw pictures from
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import redis
import rq
from celery import Celery  # type: ignore[import-untyped]  # Celery has no types
from kombu.connection import Connection

from certificates import Authority
from dashboards.live_app import application, use
from dashboards.live_dependencies import dependent
from dashboards.logql import serve
from dashboards.prometheus_server import start_prometheus
from databases import PostgresServer, RedisServer, postgres_server, redis_server
from loki import Double, loki
from pgbouncer_server import PgBouncer, pgbouncer_server
from probed_site import name_server, site
from services import Program, deckwatch_command, free_port, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: The slow log of Redis, and the threshold of the agent, so that a small load has slow commands and slow queries.
_SLOW_COMMAND_USEC = 2000
_SLOW_QUERY = "50ms"
_SLOW_SCRIPT = "local n = 0; for i = 1, 1000000 do n = n + i end; return n"


@dataclass(frozen=True)
class Live:
    agent: Program
    prometheus: Program
    loki: Double
    loki_url: str  # answers the dashboards' queries


@contextlib.contextmanager
def live(folder: Path) -> Iterator[Live]:
    with contextlib.ExitStack() as stack:
        cache = stack.enter_context(
            redis_server(
                folder,
                *("--maxmemory", "4mb", "--maxmemory-policy", "allkeys-lru", "--appendonly", "yes"),
                *("--slowlog-log-slower-than", str(_SLOW_COMMAND_USEC), "--latency-monitor-threshold", "2"),
            )
        )
        replica = stack.enter_context(redis_server(folder, "--replicaof", "127.0.0.1", str(cache.port)))
        database = stack.enter_context(
            postgres_server(
                track_io_timing="on",
                wal_level="logical",
                deadlock_timeout="100ms",
                work_mem="64kB",
                shared_buffers="1MB",
            )
        )
        _prepare(database)
        broker = stack.enter_context(redis_server(folder))
        stack.enter_context(_held_task(broker))
        pooler = stack.enter_context(pgbouncer_server(database))
        double = stack.enter_context(loki())
        log = folder / "shop.json"
        app = stack.enter_context(application(folder))
        stack.enter_context(dependent(folder, database, cache))
        for load in (
            lambda: use(app),
            lambda: _use_redis(cache),
            lambda: _use_postgres(database),
            lambda: _use_pgbouncer(pooler),
            lambda: _block(database),
            lambda: _deadlock(database),
            lambda: _write_log(log),
            lambda: _use_queues(broker),
        ):
            stack.enter_context(_repeated(load))
        (folder / "pgbouncer").write_text(pooler.passwords["monitor"])
        authority = Authority(folder)
        port = stack.enter_context(site(authority.serving()))
        names = stack.enter_context(name_server())
        probes: list[dict[str, Any]] = [
            {"name": "names", "url": f"dns://127.0.0.1:{names}/example.org?type=SOA", "timeout": "1s"},
            {
                "name": "site",
                "url": f"https://127.0.0.1:{port}/health",
                "tls": {"ca_file": str(authority.file)},
                "timeout": "1s",
            },
        ]
        address = f"127.0.0.1:{free_port()}"
        (folder / "deckwatch.yml").write_text(_config(cache, replica, database, pooler, broker, double, log, probes))
        program = stack.enter_context(_agent(folder, address))
        watched = stack.enter_context(_prometheus(folder, program))
        yield Live(program, watched, double, stack.enter_context(serve(double)))


def _agent(folder: Path, address: str) -> contextlib.AbstractContextManager[Program]:
    command = deckwatch_command("run", "--listen", address)
    environment = {"STATE_DIRECTORY": str(folder / "state")}
    return running(command, f"http://{address}", "/-/ready", folder / "agent.log", environment, cwd=folder)


def _prometheus(folder: Path, program: Program) -> contextlib.AbstractContextManager[Program]:
    """A Prometheus that discovers targets as deploy/prometheus/prometheus.yml does."""
    address = program.url.removeprefix("http://")
    discovered = {
        "job_name": "discovered",
        "http_sd_configs": [{"url": f"{program.url}/sd", "refresh_interval": "5s"}],
        "relabel_configs": [{"source_labels": ["__address__"], "target_label": "agent"}],
        "scrape_interval": "2s",
        "scrape_timeout": "2s",
    }
    settings = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [
            {"job_name": "deckwatch", "static_configs": [{"targets": [address]}]},
            discovered,
        ],
    }
    return start_prometheus(folder, settings)


def _config(
    cache: RedisServer,
    replica: RedisServer,
    database: PostgresServer,
    pooler: PgBouncer,
    broker: RedisServer,
    double: Double,
    log: Path,
    probes: list[dict[str, Any]],
) -> str:
    (log.parent / "apps" / "shop").mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {
        "interval": "1s",
        "thresholds": {"slow_query": _SLOW_QUERY},
        "exporters": {
            "system": {
                "processes": [
                    {"name": "redis", "match": "redis-server"},
                    {"name": "postgres", "match": "postgres"},
                    {"name": "deckwatch", "match": "deckwatch run", "expected": "always"},
                ]
            },
            "redis": [
                {
                    "name": "cache",
                    "url": cache.url,
                    "streams": ["orders"],
                    "keys": ["orders", "visits"],
                    "key_groups": {"patterns": ["^([^:]+):"]},
                    "keys_interval": "1s",
                },
                {"name": "replica", "url": replica.url},
            ],
            "postgres": [
                {"name": "main.db", "dsn": database.dsn(), "slow_queries": {"blocked_after": "100ms"}},
                {"name": "detailed", "dsn": database.dsn(), "detailed_activity": True},
            ],
            "pgbouncer": [{"name": "pooler", "dsn": pooler.dsn(), "password_file": str(log.parent / "pgbouncer")}],
            "queues": [
                {"name": "mails", "kind": "celery", "url": broker.url, "events": True},
                {"name": "jobs", "kind": "rq", "url": broker.url},
                {"name": "events", "kind": "redis_stream", "url": broker.url, "queues": ["events"]},
            ],
            "http_probe": probes,
            "apps": {"dir": str(log.parent / "apps")},
            "business": [
                {
                    "name": "shop",
                    "dsn": database.dsn(),
                    "schedule": "1s",
                    "metrics": [
                        {
                            "name": "shop_orders_total",
                            "type": "counter",
                            "query": "SELECT max(id) AS value FROM orders",
                        },
                        {"name": "shop_open_orders", "query": "SELECT count(*) AS value FROM orders"},
                        {"name": "shop_open_carts", "query": "SELECT 7 AS value"},
                    ],
                }
            ],
        },
        "logs": {
            "loki": {"url": double.url, "batch_wait": "200ms"},
            "files": [
                {
                    "path": str(log),
                    "labels": {"job": "shop"},
                    "drop": [{"field": "level", "matches": "debug"}],
                    "metrics": [{"name": "shop_placed_total", "match": {"message": "order placed"}}],
                },
                {"path": str(log.parent / "application.json"), "labels": {"job": "orders"}},
                {"path": str(log.parent / "dependencies.json"), "labels": {"job": "checkout"}},
            ],
            "journal": [{"directory": str(log.parent), "labels": {"job": "journal"}}],
        },
    }
    return json.dumps(settings)


@contextlib.contextmanager
def _repeated(load: Callable[[], None]) -> Iterator[None]:
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            with contextlib.suppress(psycopg.Error, redis.RedisError, OSError):
                load()
            over.wait(0.05)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(60)


def _prepare(database: PostgresServer) -> None:
    database.execute(
        "CREATE EXTENSION pg_stat_statements",
        "CREATE TABLE orders (id serial PRIMARY KEY, customer int, status text, note text)",
        "CREATE INDEX orders_customer ON orders (customer)",
        "CREATE INDEX orders_customer_again ON orders (customer)",
        "CREATE TABLE unindexed AS SELECT generate_series(1, 20000) AS n, repeat('x', 100) AS filler",
        "INSERT INTO orders (customer, status, note) SELECT n % 100, 'new', repeat('n', 50)"
        " FROM generate_series(1, 5000) n",
        "SELECT pg_create_physical_replication_slot('standby', true)",
        "ANALYZE",
    )


def _use_redis(server: RedisServer) -> None:
    with server.client(db=0) as client:
        for _ in range(20):
            number = random.randrange(4000)
            client.set(f"session:{number}", "x" * 1000, ex=random.choice((1, 60, 600)))
            client.get(f"session:{random.randrange(5000)}")
            client.incr("visits")
        client.xadd("orders", {"id": "1"}, maxlen=100)
        if not client.xinfo_groups("orders"):
            client.xgroup_create("orders", "workers", id="0")
        client.eval(_SLOW_SCRIPT, 0)
        client.lpush("visits", "a string is no list")  # an error


def _use_postgres(server: PostgresServer) -> None:
    with server.connect(application_name="shop") as connection:
        for _ in range(10):
            customer = random.randrange(100)
            connection.execute("SELECT count(*) FROM orders WHERE customer = %s", (customer,))
            connection.execute("UPDATE orders SET status = 'paid' WHERE id = %s", (random.randrange(1, 5000),))
            connection.execute("INSERT INTO orders (customer, status) VALUES (%s, 'new')", (customer,))
        connection.execute("DELETE FROM orders WHERE id IN (SELECT id FROM orders ORDER BY id DESC LIMIT 5)")
        connection.execute("SELECT n FROM unindexed ORDER BY filler, n DESC LIMIT 5")  # a temporary file
        connection.execute("SELECT count(*) FROM unindexed WHERE filler LIKE '%y%'")
        connection.execute("SELECT pg_sleep(0.08)")
        connection.execute("CHECKPOINT")
        with contextlib.suppress(psycopg.Error), connection.transaction():
            connection.execute("SELECT 1 / 0")


def _use_pgbouncer(server: PgBouncer) -> None:
    with server.connect(application_name="shop") as connection:
        for _ in range(10):
            connection.execute("SELECT count(*) FROM orders WHERE customer = 1")


@contextlib.contextmanager
def _held_task(server: RedisServer) -> Iterator[None]:
    """A Celery queue in which a message waits and another one is held by a worker that does not acknowledge it."""
    with (
        Connection(server.url) as connection,  # type: ignore[no-untyped-call]  # kombu has no types
        connection.SimpleQueue("mails") as queue,
    ):
        for number in range(2):
            queue.put({"mail": number}, headers={"task": "send", "id": str(number)})
        queue.get(timeout=10)
        yield


def _use_queues(server: RedisServer) -> None:
    """RQ jobs that wait, are scheduled and have failed, and a stream whose consumer is behind at times."""
    with server.client(db=0) as client:
        jobs = rq.Queue("jobs", connection=client)
        if len(jobs) > 100:
            client.delete(jobs.key)
        jobs.enqueue("os.getcwd")
        if random.random() < 0.05:
            jobs.enqueue_in(timedelta(hours=1), "os.getcwd")
            jobs.failed_job_registry.add(jobs.enqueue("os.abort"))
        for _ in range(random.randrange(6)):
            client.xadd("events", {"id": "1"}, maxlen=10_000)
        with contextlib.suppress(redis.ResponseError):  # it exists
            client.xgroup_create("events", "workers", id="0")
        for _, entries in client.xreadgroup("workers", "worker-1", {"events": ">"}, count=random.randrange(1, 6)):
            client.xack("events", "workers", *(id for id, _ in entries[random.random() < 0.05 :]))
    if random.random() < 0.1:
        _send_task_events(server)


def _send_task_events(server: RedisServer) -> None:
    """Events of Celery's worker and its tasks, one of which fails."""
    app = Celery(broker=server.url, set_as_current=False)
    with app.connection_for_write() as connection, app.events.Dispatcher(connection, hostname="worker@shop") as events:
        events.send("worker-heartbeat", freq=2.0, active=1)
        for outcome in ({"type": "task-succeeded", "runtime": 0.2}, {"type": "task-failed", "exception": "OSError()"}):
            uuid = str(random.random())
            events.send("task-sent", uuid=uuid, name="mails.send", queue="mails")
            events.send("task-received", uuid=uuid, name="mails.send")
            events.send("task-started", uuid=uuid)
            events.send(uuid=uuid, **outcome)


def _block(server: PostgresServer) -> None:
    """A session that is idle in a transaction, and one that waits for it."""
    with server.connect(application_name="report") as holder, server.connect(application_name="shop") as waiter:
        holder.execute("BEGIN")
        holder.execute("UPDATE orders SET note = 'held' WHERE id = 1")
        waiting = threading.Thread(target=_quietly, args=(waiter, "UPDATE orders SET note = 'waited' WHERE id = 1"))
        waiting.start()
        time.sleep(2.5)
        holder.execute("COMMIT")
        waiting.join(60)


def _deadlock(server: PostgresServer) -> None:
    with server.connect() as one, server.connect() as other:
        for connection, number in ((one, 2), (other, 3)):
            connection.execute("BEGIN")
            connection.execute("UPDATE orders SET note = 'd' WHERE id = %s", (number,))
        waiting = threading.Thread(target=_quietly, args=(one, "UPDATE orders SET note = 'd' WHERE id = 3"))
        waiting.start()
        _quietly(other, "UPDATE orders SET note = 'd' WHERE id = 2")
        waiting.join(60)
    time.sleep(2)


def _quietly(connection: psycopg.Connection[Any], statement: str) -> None:
    with contextlib.suppress(psycopg.Error):
        connection.execute(statement.encode())


_MESSAGES = {
    "debug": "cache looked up",
    "info": "order placed",
    "warning": "payment was slow",
    "error": "payment failed: ConnectionResetError",
}


def _write_log(path: Path) -> None:
    level = random.choices(list(_MESSAGES), (2, 10, 2, 1))[0]
    line = {"time": time.time(), "level": level, "message": _MESSAGES[level], "order": random.randrange(10**6)}
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that the servers end as well
    with tempfile.TemporaryDirectory() as folder, live(Path(folder)) as it:
        print(f"--prometheus {it.prometheus.url} --loki {it.loki_url}", flush=True)
        print(it.agent.url, it.agent.output, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(float(sys.argv[1]) if sys.argv[1:] else 3600)


if __name__ == "__main__":
    main()
