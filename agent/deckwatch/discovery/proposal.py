"""A commented config for what was found on a machine, with what is missing and the statements that provide it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.discovery.machine import Machine, Server

_POSTGRES = """\
# In psql, as a superuser (choose a password, and write it to the file):
#   CREATE ROLE deckwatch LOGIN PASSWORD '...';
#   GRANT pg_monitor TO deckwatch;
#   CREATE EXTENSION IF NOT EXISTS pg_stat_statements;  -- after shared_preload_libraries = 'pg_stat_statements'
"""
_REDIS_USER = (
    "ACL SETUSER deckwatch on >PASSWORD +info +config|get +latency|latest +latency|histogram +slowlog|get +slowlog|len "
    "+client|list +client|setname +cluster|info"
)
_SECRETS = "/etc/deckwatch/secrets"


def proposal(machine: Machine) -> str:
    """The text of a `deckwatch.yml`. It is valid once its password files exist; what needs a decision is a comment."""
    exporters = [*_system(machine), *_redis(machine), *_postgres(machine), *_pgbouncer(machine), *_queues(machine)]
    looked_at = ", ".join(machine.looked_at)
    parts = [
        "# Made by `deckwatch init`. Run `deckwatch check` next: it tries every target and says what is missing.\n"
        f"# Looked at: {looked_at}.\n",
        "listen: 127.0.0.1:9797\n" + "".join(_prometheus(machine)),
        *_replaced(machine),
        "exporters:\n" + "".join(f"  {line}\n" if line else "\n" for line in exporters),
        *_logs(machine),
    ]
    return "\n".join(parts)


def _prometheus(machine: Machine) -> Iterator[str]:
    for server in _of(machine, "prometheus")[:1]:
        yield f"prometheus_url: http://{server.host}:{server.port}  # for the alerts on the status page\n"


def _replaced(machine: Machine) -> Iterator[str]:
    for path, form in machine.replaced:
        yield f"# {path} was found. Its equivalent is printed by: deckwatch convert {form} {path}\n"


def _system(machine: Machine) -> Iterator[str]:
    if not machine.process_groups:
        yield "system: {}"
        return
    yield "system:"
    yield "  processes:"
    for name, pattern in machine.process_groups:
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
        name = _name("cache", number)
        if server.socket:
            yield "  # The agent's user needs permission to connect to the socket."
        if server.needs_password:
            yield "  # This server requires a password. Write it to the file, with mode 0600."
            yield "  # With redis://deckwatch@..., this user is sufficient:"
            yield f"  #   {_REDIS_USER}"
        yield f"  - {{name: {name}, {_redis_access(server)}}}"


def _redis_access(server: Server) -> str:
    url = f"unix://{quote(server.socket)}" if server.socket else f"redis://{server.host}:{server.port}/0"
    if server.needs_password:
        return f'url: "{url}", password_file: {_SECRETS}/redis-{server.port or "socket"}'
    return f'url: "{url}"'


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
        if server.socket:
            yield "  # At its socket, the server identifies the agent by its user: run the agent as deckwatch."
            yield f'  - {{name: {_name("main", number)}, dsn: "{_socket_dsn(server, "postgres")}"}}'
            continue
        dsn = f"postgresql://deckwatch@{server.host}:{server.port}/postgres"
        secret = f"{_SECRETS}/postgres-{server.port}"
        yield f'  - {{name: {_name("main", number)}, dsn: "{dsn}", password_file: {secret}}}'


def _socket_dsn(server: Server, database: str) -> str:
    return f"postgresql://deckwatch@/{database}?host={quote(server.socket, safe='')}&port={server.port}"


def _pgbouncer(machine: Machine) -> Iterator[str]:
    servers = _of(machine, "pgbouncer")
    if servers:
        yield "pgbouncer:"
        yield "  # Add the role to stats_users in pgbouncer.ini, and to its auth_file."
    for number, server in enumerate(servers, 1):
        dsn = f"postgresql://deckwatch@{server.host}:{server.port}/pgbouncer"
        if server.socket:
            dsn = _socket_dsn(server, "pgbouncer")
        secret = f"{_SECRETS}/pgbouncer-{server.port}"
        yield f'  - {{name: {_name("pool", number)}, dsn: "{dsn}", password_file: {secret}}}'


def _queues(machine: Machine) -> Iterator[str]:
    rabbits = _of(machine, "rabbitmq")
    has_workers = any(name == "worker" for name, _ in machine.process_groups)
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
    elif brokers := [server for server in _of(machine, "redis") if has_workers]:
        yield "# Workers run here. `auto` finds the libraries of the queues in each Redis."
        yield "queues:"
        for number, server in enumerate(brokers, 1):
            yield f"  - {{name: {_name('tasks', number)}, kind: auto, {_redis_access(server)}}}"
    elif has_workers:
        yield "# Workers run here, but CELERY_BROKER_URL is not set. Name their broker, then remove the comment signs:"
        yield "# queues:"
        yield '#   - {name: tasks, kind: celery, url: "redis://127.0.0.1:6379/0"}'


def _logs(machine: Machine) -> list[str]:
    lines = []
    patterns = machine.log_patterns or (() if machine.container_logs else ("/var/log/app/*.json",))
    lokis = _of(machine, "loki")
    is_known = "LOKI_URL" in machine.variables or bool(lokis)
    url = f"http://{lokis[0].host}:{lokis[0].port}" if lokis else "http://127.0.0.1:3100"
    url = "${LOKI_URL}" if "LOKI_URL" in machine.variables else url
    lines += ["logs:", f'  loki: {{url: "{url}"}}', "  files:"]
    for pattern in patterns:
        service = pattern.split("/")[3].replace("*", "app")
        lines.append(f'    - {{path: "{pattern}", format: json, labels: {{job: {service}}}}}')
    for pattern, form in machine.container_logs:
        job = "pods" if form == "cri" else "containers"
        lines.append(f'    - {{path: "{pattern}", format: {form}, labels: {{job: {job}}}}}')
    if is_known and (machine.log_patterns or machine.container_logs):
        return ["\n".join(lines) + "\n"]
    why = "No JSON log files were found" if is_known else "No Loki was found, and LOKI_URL is not set"
    commented = "\n".join(f"# {line}" for line in lines)
    return [f"# {why}. To ship logs, adapt these lines and remove the comment signs:\n{commented}\n"]
