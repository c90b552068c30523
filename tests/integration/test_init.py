"""`deckwatch init` on this machine, with real servers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from databases import postgres_server, redis_server
from deckwatch.collection.registry import Registry
from deckwatch.config import load_config
from deckwatch.discovery.machine import Machine, Server, look
from deckwatch.discovery.proposal import proposal
from services import deckwatch_command

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
        Machine(process_groups={"worker": "celery.*worker|arq "}, is_container_host=True),
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
