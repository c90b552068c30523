"""The demo's shop: its programs, and the order in which they start and stop."""

from __future__ import annotations

import contextlib
import re
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from redis import Redis

from . import servers
from .programs import Program, Programs, environment, free_port, is_up
from .times import SCRAPE_INTERVAL, dump

if TYPE_CHECKING:
    from collections.abc import Iterator

_SCHEMA = """
CREATE TABLE orders (id bigserial PRIMARY KEY, customer int NOT NULL, cents int NOT NULL,
    placed timestamptz NOT NULL DEFAULT now());
CREATE INDEX ON orders (customer, id);
CREATE TABLE stock (article int PRIMARY KEY, pieces int NOT NULL);
INSERT INTO stock SELECT n, 100 FROM generate_series(1, 100) n;
INSERT INTO orders (customer, cents) SELECT n % 2000, 100 + n % 9000 FROM generate_series(1, 5000) n;
ANALYZE;
"""


@dataclass
class Stack:
    """The programs and their addresses."""

    folder: Path
    redis: Program
    postgres: Program
    agent: Program
    alertmanager: Program
    prometheus: Program
    load: Program
    worker: Program
    redis_url: str
    postgres_url: str
    agent_url: str
    alertmanager_url: str
    prometheus_url: str
    rules: dict[str, dict[str, Any]]  # alert rules as loaded by Prometheus, by name
    fast: bool

    @property
    def programs(self) -> tuple[Program, ...]:
        return self.redis, self.postgres, self.agent, self.alertmanager, self.prometheus, self.load, self.worker

    @property
    def disk(self) -> Path:
        """Where `disk-full` mounts its small file system. The clean-up script in programs.py unmounts it."""
        return self.folder / "disk"

    @property
    def prometheus_pages(self) -> str:
        """The URL of the web UI. Debian's package has only the classic UI, which has another path."""
        url = self.prometheus_url
        return url if is_up(f"{url}/alerts") else f"{url}/classic"

    def cache(self) -> Redis:
        return Redis.from_url(self.redis_url, socket_timeout=5)

    def database(self, **options: Any) -> psycopg.Connection[Any]:
        """Connect as the shop's user, with autocommit."""
        return psycopg.connect(
            self.postgres_url, autocommit=True, connect_timeout=5, application_name="fault", **options
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start the programs one after the other. On exit, stop all of them in parallel."""
        try:
            self.redis.start()
            self.postgres.start()
            _fill(self)
            for program in (self.load, self.worker, self.agent, self.alertmanager, self.prometheus):
                program.start()
            yield
        finally:
            for program in self.programs:
                program.request_stop()
            for program in self.programs:
                program.stop()


def build(folder: Path, found: Programs, hook: str, loki: str | None, fast: bool) -> Stack:
    """Write the config files into `folder` and run initdb. Starts no program. Raises DemoError."""
    passwords = {name: secrets.token_urlsafe(18) for name in ("redis", "postgres", "shop", "monitor")}
    for name, password in passwords.items():
        servers.secret(folder / f"{name}.password", password)
    redis_port, postgres_port = free_port(), free_port()
    redis_url = f"redis://:{passwords['redis']}@127.0.0.1:{redis_port}/0"
    server = f"127.0.0.1:{postgres_port}"
    postgres_url = f"postgresql://shop:{passwords['shop']}@{server}/shop"
    log = folder / "shop.log"
    load = _load(folder, redis_url, postgres_url, log if loki else None)
    rules = servers.rules(folder, fast)
    agent, agent_url = _agent(folder, redis_port, server, load, log, loki)
    alertmanager, alertmanager_url = servers.alertmanager(folder, found, hook, fast)
    prometheus, prometheus_url = servers.prometheus(folder, found, agent_url, alertmanager_url, fast)
    return Stack(
        folder,
        servers.redis(folder, found, redis_port, passwords["redis"]),
        servers.postgres(folder, found, postgres_port, passwords["postgres"]),
        agent,
        alertmanager,
        prometheus,
        load,
        _worker(folder, redis_url),
        redis_url,
        postgres_url,
        agent_url,
        alertmanager_url,
        prometheus_url,
        rules,
        fast,
    )


def _fill(stack: Stack) -> None:
    """Create the shop's database and its two users, and sessions in Redis."""

    def password(name: str) -> str:
        return (stack.folder / f"{name}.password").read_text()

    server = stack.postgres_url.rpartition("@")[2].removesuffix("/shop")
    admin = f"postgresql://postgres:{password('postgres')}@{server}"
    servers.create_database(admin, "shop", {role: password(role) for role in ("shop", "monitor")})
    with stack.database() as connection:
        connection.execute(_SCHEMA)
        connection.execute("GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO monitor")
    with stack.cache() as cache:
        cache.mset({f"session:{n}": "x" * 200 for n in range(2000)})


def _load(folder: Path, redis_url: str, postgres_url: str, log: Path | None) -> Program:
    environ = environment(DEMO_REDIS_URL=redis_url, DEMO_POSTGRES_DSN=f"{postgres_url}?application_name=shop")
    if log:
        environ["DEMO_LOG"] = str(log)
    # The agent matches the process by its command line; the folder name makes it unique.
    command = [sys.executable, "-m", "demo.load", f"shop@{folder.name}"]
    return Program("the shop", command, folder / "load.log", lambda: True, environ=environ, folder=servers.ROOT)


def _worker(folder: Path, redis_url: str) -> Program:
    """A worker in a single process, so that nothing remains of it when the demo is killed."""
    command = [sys.executable, "-m", "celery", "-A", "demo.mails", "worker"]
    command += ["--pool", "solo", "--loglevel", "warning", "--without-mingle", "--without-gossip"]
    command += ["--hostname", "mails@shop"]
    environ = environment(DEMO_REDIS_URL=redis_url, PYTHONPATH=str(servers.ROOT))
    return Program("the worker", command, folder / "worker.log", lambda: True, environ=environ)


def _agent(
    folder: Path, redis_port: int, server: str, load: Program, log: Path, loki: str | None
) -> tuple[Program, str]:
    config: dict[str, Any] = {
        "interval": f"{SCRAPE_INTERVAL}s",
        "exporters": {
            "system": {"processes": [{"name": "shop", "match": re.escape(load.command[-1])}]},
            "redis": [
                {
                    "name": "cache",
                    "url": f"redis://127.0.0.1:{redis_port}/0",
                    "password_file": str(folder / "redis.password"),
                }
            ],
            "queues": [
                {
                    "name": "mails",
                    "kind": "celery",
                    "url": f"redis://127.0.0.1:{redis_port}/0",
                    "password_file": str(folder / "redis.password"),
                    "queues": ["mails"],
                    "events": True,
                }
            ],
            "postgres": [
                {
                    "name": "main",
                    "dsn": f"postgresql://monitor@{server}/shop",
                    "password_file": str(folder / "monitor.password"),
                }
            ],
        },
    }
    if loki:
        config["logs"] = {
            "loki": {"url": "${LOKI_URL}", "labels": {"env": "demo"}},
            "files": [{"path": str(log), "format": "json", "labels": {"job": "shop"}}],
        }
    file = folder / "deckwatch.yml"
    file.write_text(dump(config))
    listen = f"127.0.0.1:{free_port()}"
    return servers.agent(folder, file, listen, **({"LOKI_URL": loki} if loki else {}))
