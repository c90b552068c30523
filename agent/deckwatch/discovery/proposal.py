"""A commented config for what was found on a machine, with what is missing and the statements that provide it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.discovery.machine import Machine, Server

_POSTGRES = """\
# In psql, as a superuser (choose a password, and write it to the file):
#   CREATE ROLE deckwatch LOGIN PASSWORD '...';
#   GRANT pg_monitor TO deckwatch;
#   CREATE EXTENSION IF NOT EXISTS pg_stat_statements;  -- after shared_preload_libraries = 'pg_stat_statements'
"""
_SECRETS = "/etc/deckwatch/secrets"


def proposal(machine: Machine) -> str:
    """The text of a `deckwatch.yml`. It is valid once its password files exist; what needs a decision is a comment."""
    exporters = [*_system(machine), *_redis(machine), *_postgres(machine), *_pgbouncer(machine), *_queues(machine)]
    looked_at = ", ".join(machine.looked_at)
    parts = [
        "# Made by `deckwatch init`. Run `deckwatch check` next: it tries every target and says what is missing.\n"
        f"# Looked at: {looked_at}.\n",
        "listen: 127.0.0.1:9797\n",
        "exporters:\n" + "".join(f"  {line}\n" if line else "\n" for line in exporters),
        *_logs(machine),
    ]
    return "\n".join(parts)


def _system(machine: Machine) -> Iterator[str]:
    if not machine.process_groups:
        yield "system: {}"
        return
    yield "system:"
    yield "  processes:"
    for name, pattern in machine.process_groups.items():
        yield f'    - {{name: {name}, match: "{pattern}"}}'


def _of(machine: Machine, kind: str) -> list[Server]:
    return [server for server in machine.servers if server.kind == kind]


def _name(base: str, number: int) -> str:
    return base if number == 1 else f"{base}{number}"


def _redis(machine: Machine) -> Iterator[str]:
    servers = _of(machine, "redis")
    if not servers and "REDIS_URL" not in machine.variables:
        yield "# No Redis was found."
        return
    yield "redis:"
    if "REDIS_URL" in machine.variables:
        yield '  - {name: cache, url: "${REDIS_URL}"}'
        servers = []
    for number, server in enumerate(servers, 1):
        url = f"redis://{server.host}:{server.port}/0"
        name = _name("cache", number)
        if server.needs_password:
            yield "  # This server requires a password. Write it to the file, with mode 0600."
            yield f'  - {{name: {name}, url: "{url}", password_file: {_SECRETS}/redis-{server.port}}}'
        else:
            yield f'  - {{name: {name}, url: "{url}"}}'


def _postgres(machine: Machine) -> Iterator[str]:
    servers = _of(machine, "postgres")
    if "DATABASE_URL" in machine.variables:
        yield "postgres:"
        yield "  # DATABASE_URL is the application's role. A role with pg_monitor sees more:"
        yield from (f"  {line}" for line in _POSTGRES.splitlines())
        yield '  - {name: main, dsn: "${DATABASE_URL}"}'
        return
    if not servers:
        yield "# No PostgreSQL was found."
        return
    yield "postgres:"
    yield from (f"  {line}" for line in _POSTGRES.splitlines())
    for number, server in enumerate(servers, 1):
        dsn = f"postgresql://deckwatch@{server.host}:{server.port}/postgres"
        secret = f"{_SECRETS}/postgres-{server.port}"
        yield f'  - {{name: {_name("main", number)}, dsn: "{dsn}", password_file: {secret}}}'


def _pgbouncer(machine: Machine) -> Iterator[str]:
    servers = _of(machine, "pgbouncer")
    if servers:
        yield "pgbouncer:"
        yield "  # Add the role to stats_users in pgbouncer.ini, and to its auth_file."
    for number, server in enumerate(servers, 1):
        dsn = f"postgresql://deckwatch@{server.host}:{server.port}/pgbouncer"
        secret = f"{_SECRETS}/pgbouncer-{server.port}"
        yield f'  - {{name: {_name("pool", number)}, dsn: "{dsn}", password_file: {secret}}}'


def _queues(machine: Machine) -> Iterator[str]:
    rabbits = _of(machine, "rabbitmq")
    if "CELERY_BROKER_URL" in machine.variables:
        yield "queues:"
        yield '  - {name: tasks, kind: celery, url: "${CELERY_BROKER_URL}"}'
    elif rabbits:
        yield "# RabbitMQ was found. Create a user with the tag monitoring, then remove the comment signs:"
        yield "# queues:"
        for server in rabbits:
            urls = f'url: "amqp://deckwatch@{server.host}:{server.port}/", management_url: "http://{server.host}:15672"'
            secret = f"{_SECRETS}/rabbitmq-{server.port}"
            yield f"#   - {{name: tasks, kind: rabbitmq, {urls}, password_file: {secret}}}"
    elif "worker" in machine.process_groups:
        yield "# Workers run here, but CELERY_BROKER_URL is not set. Name their broker, then remove the comment signs:"
        yield "# queues:"
        yield '#   - {name: tasks, kind: celery, url: "redis://127.0.0.1:6379/0"}'


def _logs(machine: Machine) -> list[str]:
    lines = []
    patterns = machine.log_patterns or ("/var/log/app/*.json",)
    url = "${LOKI_URL}" if "LOKI_URL" in machine.variables else "http://127.0.0.1:3100"
    lines += ["logs:", f'  loki: {{url: "{url}"}}', "  files:"]
    for pattern in patterns:
        service = pattern.split("/")[3].replace("*", "app")
        lines.append(f'    - {{path: "{pattern}", format: json, labels: {{job: {service}}}}}')
    if machine.is_container_host:
        lines.append("    # Container logs: see the README of the logs for the formats cri and docker.")
    if "LOKI_URL" in machine.variables and machine.log_patterns:
        return ["\n".join(lines) + "\n"]
    why = "No Loki was named (LOKI_URL)" if "LOKI_URL" not in machine.variables else "No JSON log files were found"
    commented = "\n".join(f"# {line}" for line in lines)
    return [f"# {why}. To ship logs, adapt these lines and remove the comment signs:\n{commented}\n"]
