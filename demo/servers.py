"""The servers of the demo and of the examples: how each is configured."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import yaml
from redis import Redis, RedisError

from .programs import DemoError, Program, Programs, environment, free_port, is_up, postgres_account
from .times import SCRAPE_INTERVAL, dump, redirect, shorten_rules

ROOT = Path(__file__).resolve().parent.parent
ALERTS = ROOT / "alerts"


def secret(file: Path, text: str) -> Path:
    """Create a file that only its owner can read, even before it is written."""
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(text)
    return file


def redis(folder: Path, found: Programs, port: int, password: str) -> Program:
    config = secret(
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


def postgres(folder: Path, found: Programs, port: int, password: str) -> Program:
    account = postgres_account()
    home = folder / "postgres"
    home.mkdir(0o700)
    passwords = secret(home / "password", password)
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


def rules(folder: Path, fast: bool) -> dict[str, dict[str, Any]]:
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


def alertmanager(folder: Path, found: Programs, hook: str, fast: bool) -> tuple[Program, str]:
    file = folder / "alertmanager.yml"
    file.write_text(dump(redirect(yaml.safe_load((ALERTS / "alertmanager.yml").read_text()), hook, fast)))
    address = f"127.0.0.1:{free_port()}"
    command = [found.alertmanager, f"--config.file={file}", f"--storage.path={folder / 'alertmanager'}"]
    command += [f"--web.listen-address={address}", f"--web.external-url=http://{address}", "--cluster.listen-address="]
    url = f"http://{address}"
    return Program("Alertmanager", command, folder / "alertmanager.log", lambda: is_up(f"{url}/-/ready")), url


def prometheus(folder: Path, found: Programs, agent_url: str, alertmanager_url: str, fast: bool) -> tuple[Program, str]:
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


def agent(folder: Path, file: Path, listen: str, **environ: str) -> tuple[Program, str]:
    """The agent with a config file, and its URL. `environ` is for the config."""
    command = [sys.executable, "-m", "deckwatch", "run", "--config", str(file), "--state-dir", str(folder / "state")]
    command += ["--listen", listen]
    url = f"http://{listen}"
    log = folder / "agent.log"
    return Program("the agent", command, log, lambda: is_up(f"{url}/-/ready"), environ=environment(**environ)), url


def create_database(admin: str, database: str, passwords: dict[str, str]) -> None:
    """Create a database that the first role of `passwords` owns, and that all of them may monitor.

    `admin` is the URL of the server for its superuser, without a database.
    """
    with psycopg.connect(f"{admin}/postgres", autocommit=True) as connection:
        for role, password in passwords.items():
            connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'".encode())
        connection.execute("GRANT pg_monitor TO monitor")
        connection.execute(f"CREATE DATABASE {database} OWNER {next(iter(passwords))}".encode())
    with psycopg.connect(f"{admin}/{database}", autocommit=True) as connection:
        connection.execute("CREATE EXTENSION pg_stat_statements")
