"""The compose demo's programs, tested with a real Redis and a real PostgreSQL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from databases import postgres_program, postgres_server, redis_server

from .shipped import DEPLOY

if TYPE_CHECKING:
    from pathlib import Path

DEMO = DEPLOY / "compose/demo"


def _prepare(secrets: Path, logs: Path) -> dict[str, str]:
    subprocess.run([sys.executable, str(DEMO / "prepare.py"), str(secrets), str(logs)], check=True)
    return {file.name: file.read_text() for file in secrets.iterdir()}


def test_passwords_are_created_once_and_differ_between_users_and_installations(tmp_path: Path) -> None:
    one, other, logs = tmp_path / "one", tmp_path / "other", tmp_path / "logs"
    for folder in (one, other, logs):
        folder.mkdir()
    made = _prepare(one, logs)
    assert set(made) == {"redis", "postgres", "app", "monitor"}
    assert len({*made.values(), *_prepare(other, logs).values()}) == 8
    assert all(len(password) >= 32 for password in made.values())
    assert _prepare(one, logs) == made


def test_the_load_writes_to_redis_postgresql_and_a_log_with_the_roles_of_the_script(tmp_path: Path) -> None:
    secrets, logs = tmp_path / "secrets", tmp_path / "logs"
    secrets.mkdir()
    logs.mkdir()
    made = _prepare(secrets, logs)
    with postgres_server() as postgres, redis_server(tmp_path, password=made["redis"]) as redis:
        postgres.execute("CREATE DATABASE app")
        script = (DEMO / "create-roles.sh").read_text().replace("/run/demo", str(secrets))
        psql = os.path.dirname(postgres_program("psql"))
        environ = {
            **os.environ,
            "PATH": f"{psql}:{os.environ['PATH']}",
            "POSTGRES_DB": "app",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(postgres.port),
        }
        subprocess.run(["sh"], input=script, text=True, env=environ, check=True, stdout=subprocess.DEVNULL)
        dsn = f"postgresql://app@127.0.0.1:{postgres.port}/app"
        command = [sys.executable, str(DEMO / "load.py"), "--redis", redis.url, "--postgres", dsn]
        subprocess.run(
            [*command, "--secrets", str(secrets), "--log", str(logs / "shop.json"), "--rounds", "5"],
            check=True,
            timeout=30,
        )
        assert postgres.value("SELECT count(*) FROM orders", database="app") == 5
        assert postgres.value("SELECT pg_has_role('monitor', 'pg_monitor', 'member')", database="app")
        assert postgres.value("SELECT count(*) FROM pg_extension WHERE extname = 'pg_stat_statements'", "app") == 1
        with redis.client() as client:
            assert client.keys("session:*")
    lines = [json.loads(line) for line in (logs / "shop.json").read_text().splitlines()]
    assert len(lines) == 5
    assert all({"time", "level", "message", "customer"} <= set(line) for line in lines)
