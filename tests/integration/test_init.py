"""`deckwatch init` on this machine, with real servers."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import redis

from databases import postgres_server, redis_server
from deckwatch.cli.convert import FORMATS
from deckwatch.collection.registry import Registry
from deckwatch.config import load_config
from deckwatch.discovery.machine import Machine, Server, look, socket_servers
from deckwatch.discovery.proposal import proposal
from services import deckwatch_command, installed, until

if TYPE_CHECKING:
    from collections.abc import Mapping


def init(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        deckwatch_command("init", *arguments),
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, **environ},
    )


def targets(text: str, folder: Path, environ: Mapping[str, str] | None = None) -> set[tuple[str, str]]:
    """The targets of a config that is valid, apart from password files that do not exist yet."""
    path = folder / "proposed.yml"
    path.write_text(text)
    config = load_config(path, environ or {}, Registry.installed(), allow_missing_secrets=True)
    return {(target.exporter, target.name) for target in config.targets}


def test_servers_that_listen_here_are_found_and_need_what_they_say(tmp_path: Path) -> None:
    with (
        redis_server(tmp_path) as opened,
        redis_server(tmp_path, password="SECRET") as closed,
        postgres_server() as database,
    ):
        printed = init(tmp_path).stdout

    assert f'url: "redis://127.0.0.1:{opened.port}/0"}}' in printed
    assert f"password_file: /etc/deckwatch/secrets/redis-{closed.port}" in printed
    assert f"postgresql://deckwatch@127.0.0.1:{database.port}/postgres" in printed
    assert "GRANT pg_monitor TO deckwatch;" in printed
    assert "SECRET" not in printed
    found = targets(printed, tmp_path)
    assert {"system", "redis", "postgres"} <= {exporter for exporter, _ in found}


def test_servers_at_unix_sockets_are_found_and_can_be_monitored(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    server = subprocess.Popen([installed("redis-server"), "--port", "0", "--unixsocket", str(path), "--save", ""])
    try:
        with postgres_server() as database:
            until(path.exists, what="the socket of Redis")
            found = list(socket_servers())
            text = proposal(Machine(servers=tuple(it for it in found if it.socket == str(path))))
            (tmp_path / "deckwatch.yml").write_text(text)
            command = deckwatch_command("once", "redis", "--config", str(tmp_path / "deckwatch.yml"))
            printed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    finally:
        server.kill()
        server.wait()

    assert Server("redis", "", 0, socket=str(path)) in found
    assert ("postgres", database.port) in {(server.kind, server.port) for server in found}
    assert 'redis_up{target="cache"} 1' in printed


def test_container_logs_are_followed_in_their_format(tmp_path: Path) -> None:
    (tmp_path / "var/lib/docker/containers").mkdir(parents=True)

    text = proposal(look({"LOKI_URL": "http://loki:3100"}, tmp_path))

    assert 'path: "/var/lib/docker/containers/*/*-json.log", format: docker, labels: {job: containers}' in text
    assert ("system", "") in targets(text, tmp_path, {"LOKI_URL": "http://loki:3100"})


def test_the_environment_alone_gives_a_config_for_containers(tmp_path: Path) -> None:
    environ = {
        "REDIS_URL": "redis://:SECRET@cache:6379/0",
        "DATABASE_URL": "postgresql://app:SECRET@db/app",
        "CELERY_BROKER_URL": "redis://:SECRET@cache:6379/1",
        "LOKI_URL": "http://loki:3100",
    }
    printed = init(tmp_path, "--from-environment", **environ).stdout

    assert "SECRET" not in printed
    assert "# Looked at: environment." in printed
    assert targets(printed, tmp_path, environ) == {
        ("system", ""),
        ("redis", "cache"),
        ("postgres", "main"),
        ("queues", "tasks"),
    }


def test_variables_of_other_products_are_left_out(tmp_path: Path) -> None:
    printed = init(tmp_path, "--from-environment", DATABASE_URL="mysql://app@db/app", CELERY_BROKER_URL="sqs://").stdout

    assert targets(printed, tmp_path) == {("system", "")}


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    first = init(tmp_path, "--write", "--from-environment")
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.endswith("Wrote deckwatch.yml. Next: deckwatch check --config deckwatch.yml\n")
    (tmp_path / "deckwatch.yml").write_text("mine")

    refused = init(tmp_path, "--write", "--from-environment")
    assert refused.returncode == 2
    assert refused.stderr == "deckwatch.yml exists. Choose another file, or overwrite it with --force.\n"
    assert (tmp_path / "deckwatch.yml").read_text() == "mine"
    assert init(tmp_path, "--write", "--from-environment", "--force").returncode == 0
    assert init(tmp_path, "--write", "none/deckwatch.yml").stderr.startswith("none/deckwatch.yml: No such file")


def test_json_logs_are_found(tmp_path: Path) -> None:
    (tmp_path / "var/log/shop").mkdir(parents=True)
    (tmp_path / "var/log/shop/app.json").write_text("{}")

    machine = look({"LOKI_URL": "http://loki:3100"}, tmp_path)

    assert machine.log_patterns == ("/var/log/*/*.json",)
    assert '- {path: "/var/log/*/*.json", format: json, labels: {job: app}}' in proposal(machine)


@pytest.mark.parametrize(
    "machine",
    [
        Machine(),
        Machine(servers=(Server("rabbitmq", "127.0.0.1", 5672), Server("pgbouncer", "127.0.0.1", 6432))),
        Machine(
            process_groups=(("worker", "celery.*worker|arq "),), container_logs=(("/var/log/pods/*/*/*.log", "cri"),)
        ),
        Machine(
            servers=(
                Server("redis", "", 0, needs_password=True, socket="/run/redis/redis.sock"),
                Server("postgres", "", 5433, socket="/run/postgresql"),
                Server("pgbouncer", "", 6432, socket="/run/postgresql"),
                Server("redis", "[::1]", 6379),
            ),
        ),
        Machine(
            variables=("REDIS_URL", "DATABASE_URL", "CELERY_BROKER_URL", "LOKI_URL"),
            log_patterns=("/srv/*/log/*.json",),
        ),
    ],
)
def test_every_proposal_is_a_valid_config(machine: Machine, tmp_path: Path) -> None:
    environ = {
        "REDIS_URL": "redis://cache/0",
        "DATABASE_URL": "postgresql://db/app",
        "CELERY_BROKER_URL": "redis://cache/1",
        "LOKI_URL": "http://loki:3100",
    }

    assert ("system", "") in targets(proposal(machine), tmp_path, environ)


def test_comments_become_valid_settings(tmp_path: Path) -> None:
    machine = Machine(servers=(Server("rabbitmq", "127.0.0.1", 5672),))
    text = proposal(machine).replace("# queues:", "queues:").replace("#   - {", "  - {")
    text = text.replace("# logs:", "logs:").replace("#   loki", "  loki").replace("#   files", "  files")
    text = text.replace("#     - {", "    - {")

    assert ("queues", "tasks") in targets(text, tmp_path)


def test_the_stack_around_the_agent_is_used(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/sql_exporter.yml").write_text("")
    found = look({}, tmp_path)
    servers = (Server("loki", "127.0.0.1", 3100), Server("prometheus", "127.0.0.1", 9090))
    text = proposal(replace(found, servers=servers, container_logs=(("/var/log/pods/*/*/*.log", "cri"),)))

    assert "prometheus_url: http://127.0.0.1:9090" in text
    assert '\n  loki: {url: "http://127.0.0.1:3100"}\n' in text
    assert "deckwatch convert sql_exporter /etc/sql_exporter.yml" in text
    assert {form for _, form in found.replaced} <= FORMATS.keys()
    assert ("system", "") in targets(text, tmp_path)


def test_queues_of_workers_are_looked_for_in_each_redis(tmp_path: Path) -> None:
    servers = (Server("redis", "127.0.0.1", 6379), Server("redis", "127.0.0.1", 6380, needs_password=True))
    text = proposal(Machine(servers=servers, process_groups=(("worker", "celery.*worker"),)))

    assert {("queues", "tasks"), ("queues", "tasks2")} <= targets(text, tmp_path)


def test_the_user_of_redis_that_is_proposed_suffices(tmp_path: Path) -> None:
    with redis_server(tmp_path, password="SECRET") as server:
        text = proposal(Machine(servers=(Server("redis", "127.0.0.1", server.port, needs_password=True),)))
        statement = next(line.split("#", 1)[1] for line in text.splitlines() if "ACL SETUSER" in line)
        with redis.Redis(port=server.port, password="SECRET") as client:
            client.execute_command(*statement.replace(">PASSWORD", ">OTHER").split())
        (tmp_path / "password").write_text("OTHER")
        secret = f"/etc/deckwatch/secrets/redis-{server.port}"
        (tmp_path / "deckwatch.yml").write_text(
            text.replace(secret, str(tmp_path / "password")).replace("redis://", "redis://deckwatch@")
        )
        command = deckwatch_command("check", "--config", str(tmp_path / "deckwatch.yml"), "--format", "json")
        checked = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)

    assert "ACL SETUSER" not in json.dumps(checked)


def test_at_a_terminal_each_part_can_be_left_out_and_yes_takes_all(tmp_path: Path) -> None:
    environ = {**os.environ, "REDIS_URL": "redis://cache/0", "DATABASE_URL": "postgresql://db/app"}

    def answer(answers: bytes, *arguments: str) -> tuple[str, set[tuple[str, str]]]:
        mine, theirs = pty.openpty()
        command = deckwatch_command("init", "--from-environment", "--force", "--write", "made.yml", *arguments)
        process = subprocess.Popen(command, cwd=tmp_path, env=environ, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        os.write(mine, answers)
        printed = b"".join(iter(partial(read_terminal, mine), b"")).decode()
        os.close(mine)
        assert process.wait(60) == 0, printed
        return printed, targets((tmp_path / "made.yml").read_text(), tmp_path, environ)

    printed, found = answer(b"\nperhaps\nn\n")
    assert printed.count("Use $REDIS_URL? [Y/n]") == 1
    assert printed.count("Use $DATABASE_URL? [Y/n]") == 2
    assert found == {("system", ""), ("redis", "cache")}
    printed, found = answer(b"", "--yes")
    assert "?" not in printed
    assert found == {("system", ""), ("redis", "cache"), ("postgres", "main")}


def read_terminal(descriptor: int) -> bytes:
    """What was printed; nothing when the other side has closed, which a terminal reports as an error."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""
