"""The demo's programs: their configuration and the order in which they start and stop."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import yaml
from redis import Redis, RedisError

from .programs import DemoError, Program, Programs, environment, free_port, is_up, postgres_account
from .times import dump, redirect, shorten_rules

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
ALERTS = ROOT / "alerts"

SCRAPE_INTERVAL = 5  # seconds

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
    redis_url: str
    postgres_url: str
    agent_url: str
    alertmanager_url: str
    prometheus_url: str
    rules: dict[str, dict[str, Any]]  # alert rules as loaded by Prometheus, by name
    fast: bool

    @property
    def programs(self) -> tuple[Program, ...]:
        return self.redis, self.postgres, self.agent, self.alertmanager, self.prometheus, self.load

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
            for program in (self.load, self.agent, self.alertmanager, self.prometheus):
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
        _secret(folder / f"{name}.password", password)
    redis_port, postgres_port = free_port(), free_port()
    redis_url = f"redis://:{passwords['redis']}@127.0.0.1:{redis_port}/0"
    server = f"127.0.0.1:{postgres_port}"
    postgres_url = f"postgresql://shop:{passwords['shop']}@{server}/shop"
    log = folder / "shop.log"
    load = _load(folder, redis_url, postgres_url, log if loki else None)
    rules = _rules(folder, fast)
    agent, agent_url = _agent(folder, redis_port, server, load, log, loki)
    alertmanager, alertmanager_url = _alertmanager(folder, found, hook, fast)
    prometheus, prometheus_url = _prometheus(folder, found, agent_url, alertmanager_url, fast)
    return Stack(
        folder,
        _redis(folder, found, redis_port, passwords["redis"]),
        _postgres(folder, found, postgres_port, passwords["postgres"]),
        agent,
        alertmanager,
        prometheus,
        load,
        redis_url,
        postgres_url,
        agent_url,
        alertmanager_url,
        prometheus_url,
        rules,
        fast,
    )


def _secret(file: Path, text: str) -> Path:
    """Create a file that only its owner can read, even before it is written."""
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(text)
    return file


def _redis(folder: Path, found: Programs, port: int, password: str) -> Program:
    config = _secret(
        folder / "redis.conf",
        f'port {port}\nbind 127.0.0.1\nrequirepass {password}\nsave ""\ndir {folder}\n',
    )

    def ready() -> bool:
        try:
            with Redis(host="127.0.0.1", port=port, password=password, socket_timeout=1) as client:
                return bool(client.ping())
        except RedisError:
            return False

    return Program("Redis", [found.redis, str(config)], folder / "redis.log", ready)


def _postgres(folder: Path, found: Programs, port: int, password: str) -> Program:
    account = postgres_account()
    home = folder / "postgres"
    home.mkdir(0o700)
    passwords = _secret(home / "password", password)
    if account:
        folder.chmod(0o711)  # PostgreSQL's user must reach its own folder, but not list this one
        for path in (home, passwords):
            shutil.chown(path, account, account)
    data = str(home / "data")
    command = [found.initdb, "-D", data, "-U", "postgres", "--auth=scram-sha-256", f"--pwfile={passwords}"]
    command += ["-E", "UTF8", "--locale=C", "--no-sync"]
    done = subprocess.run(
        command,
        cwd=home,
        env=environment(),
        user=account,
        group=account,
        extra_groups=[] if account else None,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DemoError(f"initdb exited with status {done.returncode}: {done.stderr.strip()}")
    settings = {
        "port": port,
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "shared_preload_libraries": "pg_stat_statements",
        "fsync": "off",  # the data is deleted with the demo
    }
    command = [found.postgres, "-D", data]
    command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    def ready() -> bool:
        try:
            with psycopg.connect(
                host="127.0.0.1", port=port, user="postgres", password=password, dbname="postgres", connect_timeout=2
            ):
                return True
        except psycopg.OperationalError:
            return False

    return Program(
        "PostgreSQL",
        command,
        folder / "postgres.log",
        ready,
        account,
        stop_signal=signal.SIGINT,  # fast shutdown: terminates sessions
        death_signal=signal.SIGQUIT,  # immediate shutdown, but removes shared memory and child processes
    )


def _fill(stack: Stack) -> None:
    """Create the shop's database and its two users, and sessions in Redis."""

    def password(name: str) -> str:
        return (stack.folder / f"{name}.password").read_text()

    server = stack.postgres_url.rpartition("@")[2].removesuffix("/shop")
    admin = f"postgresql://postgres:{password('postgres')}@{server}"
    with psycopg.connect(f"{admin}/postgres", autocommit=True) as connection:
        for role in ("shop", "monitor"):
            statement = f"CREATE ROLE {role} LOGIN PASSWORD '{password(role)}'"
            connection.execute(statement.encode())
        connection.execute("GRANT pg_monitor TO monitor")
        connection.execute("CREATE DATABASE shop OWNER shop")
    with psycopg.connect(f"{admin}/shop", autocommit=True) as connection:
        connection.execute("CREATE EXTENSION pg_stat_statements")
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
    command = [sys.executable, str(Path(__file__).with_name("load.py")), f"shop@{folder.name}"]
    return Program("the shop", command, folder / "load.log", lambda: True, environ=environ)


def _agent(
    folder: Path, redis_port: int, server: str, load: Program, log: Path, loki: str | None
) -> tuple[Program, str]:
    config: dict[str, Any] = {
        "listen": f"127.0.0.1:{free_port()}",
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
            "postgres": [
                {
                    "name": "main",
                    "dsn": f"postgresql://monitor@{server}/shop",
                    "password_file": str(folder / "monitor.password"),
                }
            ],
        },
    }
    environ = environment()
    if loki:
        environ["LOKI_URL"] = loki
        config["logs"] = {
            "loki": {"url": "${LOKI_URL}", "labels": {"env": "demo"}},
            "files": [{"path": str(log), "format": "json", "labels": {"job": "shop"}}],
        }
    file = folder / "deckwatch.yml"
    file.write_text(dump(config))
    command = [sys.executable, "-m", "deckwatch", "run", "--config", str(file), "--state-dir", str(folder / "state")]
    url = f"http://{config['listen']}"
    return Program("the agent", command, folder / "agent.log", lambda: is_up(f"{url}/-/ready"), environ=environ), url


def _rules(folder: Path, fast: bool) -> dict[str, dict[str, Any]]:
    """Copy the rule files for Prometheus. Return the alert rules by name."""
    alerts = {}
    files = sorted(ALERTS.glob("*.rules.yml"))
    if not files:
        raise DemoError(f"{ALERTS} contains no rules. Run the demo from a checkout of the repository.")
    for file in files:
        content = yaml.safe_load(file.read_text())
        if fast:
            content = shorten_rules(content)
        (folder / file.name).write_text(dump(content))
        alerts.update(
            {rule["alert"]: rule for group in content["groups"] for rule in group["rules"] if "alert" in rule}
        )
    return alerts


def _alertmanager(folder: Path, found: Programs, hook: str, fast: bool) -> tuple[Program, str]:
    file = folder / "alertmanager.yml"
    file.write_text(dump(redirect(yaml.safe_load((ALERTS / "alertmanager.yml").read_text()), hook, fast)))
    address = f"127.0.0.1:{free_port()}"
    command = [found.alertmanager, f"--config.file={file}", f"--storage.path={folder / 'alertmanager'}"]
    command += [f"--web.listen-address={address}", f"--web.external-url=http://{address}", "--cluster.listen-address="]
    url = f"http://{address}"
    return Program("Alertmanager", command, folder / "alertmanager.log", lambda: is_up(f"{url}/-/ready")), url


def _prometheus(
    folder: Path, found: Programs, agent_url: str, alertmanager_url: str, fast: bool
) -> tuple[Program, str]:
    config = {
        "global": {
            "scrape_interval": f"{SCRAPE_INTERVAL}s",
            "scrape_timeout": f"{SCRAPE_INTERVAL}s",
            "evaluation_interval": "2s" if fast else f"{SCRAPE_INTERVAL}s",
        },
        "rule_files": [str(folder / "*.rules.yml")],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager_url.removeprefix("http://")]}]}]},
        "scrape_configs": [
            {"job_name": "deckwatch", "static_configs": [{"targets": [agent_url.removeprefix("http://")]}]}
        ],
    }
    file = folder / "prometheus.yml"
    file.write_text(json.dumps(config))
    address = f"127.0.0.1:{free_port()}"
    command = [found.prometheus, f"--config.file={file}", f"--storage.tsdb.path={folder / 'prometheus'}"]
    command += [f"--web.listen-address={address}", f"--web.external-url=http://{address}"]
    # Alerts sent before Prometheus discovers Alertmanager are lost. Resend them soon, not after a minute.
    command += ["--storage.tsdb.retention.time=1d", "--rules.alert.resend-delay=5s"]
    url = f"http://{address}"
    return Program("Prometheus", command, folder / "prometheus.log", lambda: is_up(f"{url}/-/ready")), url
