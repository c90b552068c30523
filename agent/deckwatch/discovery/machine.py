"""Look at this machine: listening sockets, processes, the environment and log folders.

It connects only to loopback addresses and Unix sockets.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Environment variables that name a server, with the schemes that Deckwatch knows. Their values may hold passwords and
#: are never printed.
VARIABLES = {
    "REDIS_URL": ("redis", "rediss", "unix"),
    "DATABASE_URL": ("postgres", "postgis"),
    "CELERY_BROKER_URL": ("redis", "rediss", "amqp", "amqps", "sentinel"),
    "LOKI_URL": ("http", "https"),
}
_TIMEOUT = 1.0
#: By the program's name, and by the usual port where the program cannot be seen without privileges.
_PROGRAMS = {
    "redis-server": "redis",
    "valkey-server": "redis",
    "postgres": "postgres",
    "postmaster": "postgres",
    "pgbouncer": "pgbouncer",
    "beam.smp": "rabbitmq",
    "prometheus": "prometheus",
    "loki": "loki",
}
_PORTS = {6379: "redis", 5432: "postgres", 6432: "pgbouncer", 5672: "rabbitmq", 9090: "prometheus", 3100: "loki"}
#: Where a program listens at further ports, the one that counts.
_ONLY_PORT = {"rabbitmq": 5672, "loki": 3100}
_WORKERS = {"worker": r"celery.*worker|rq worker|dramatiq|arq ", "web": r"gunicorn|uvicorn|uwsgi|daphne|hypercorn"}
_WORKER_WORDS = {
    "worker": ("celery", "rq worker", "dramatiq", "arq "),
    "web": ("gunicorn", "uvicorn", "uwsgi", "daphne", "hypercorn"),
}
_LISTENING = 0x10000  # flag of a socket in /proc/net/unix: __SO_ACCEPTCON in include/linux/net.h
_POSTGRES_SOCKET = re.compile(r"(.+)/\.s\.PGSQL\.([0-9]+)")
_REDIS_SOCKET = re.compile(r".*/(?:redis|valkey)[^/]*\.sock")
#: Folders of containers' logs, with the pattern and the format of the files in them.
_CONTAINER_LOGS = {
    "/var/log/pods": ("/var/log/pods/*/*/*.log", "cri"),
    "/var/lib/docker/containers": ("/var/lib/docker/containers/*/*-json.log", "docker"),
}
#: Config files of the programs that Deckwatch replaces, with the format for `deckwatch convert`.
_CONFIGS = {
    "/etc/sql_exporter/sql_exporter.yml": "sql_exporter",
    "/etc/sql_exporter.yml": "sql_exporter",
    "/etc/postgres_exporter/queries.yaml": "postgres_exporter",
    "/etc/promtail/config.yml": "promtail",
    "/etc/promtail/promtail.yml": "promtail",
}
_LOGS = ("/var/log/*/*.json", "/var/log/*/*.jsonl", "/srv/*/log/*.json", "/srv/*/logs/*.json")


@dataclass(frozen=True, order=True)
class Server:
    """A server that listens here, at a host and a port or at a Unix socket.

    `host` is written as in a URL. `socket` is the path of Redis' socket, or the folder of PostgreSQL's.
    `needs_password` is None where it was not asked.
    """

    kind: str
    host: str
    port: int
    needs_password: bool | None = None
    socket: str = ""


@dataclass(frozen=True)
class Machine:
    """What was found. `looked_at` says where, for the user."""

    servers: tuple[Server, ...] = ()
    process_groups: tuple[tuple[str, str], ...] = ()  # names, and expressions for command lines
    variables: tuple[str, ...] = ()
    log_patterns: tuple[str, ...] = ()
    container_logs: tuple[tuple[str, str], ...] = ()  # patterns and formats
    replaced: tuple[tuple[str, str], ...] = ()  # config files of other programs, and their formats
    looked_at: tuple[str, ...] = ()


def look(environ: Mapping[str, str], root: Path = Path("/")) -> Machine:
    """Look at this machine. `root` is the file system that holds the log folders."""
    looked_at = ["listening TCP and Unix sockets", "processes", "environment"]
    patterns = tuple(pattern for pattern in _LOGS if glob.glob(str(root / pattern.lstrip("/"))))
    looked_at += [os.path.dirname(pattern) for pattern in _LOGS]
    return Machine(
        servers=tuple(sorted(_asked(server) for server in _servers())),
        process_groups=_process_groups(),
        variables=variables(environ),
        log_patterns=patterns,
        container_logs=tuple(logs for folder, logs in _CONTAINER_LOGS.items() if (root / folder.lstrip("/")).is_dir()),
        replaced=tuple((path, form) for path, form in _CONFIGS.items() if (root / path.lstrip("/")).is_file()),
        looked_at=tuple(dict.fromkeys([*looked_at, *_CONTAINER_LOGS, *map(os.path.dirname, _CONFIGS)])),
    )


def variables(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The names of the variables that name a server."""
    return tuple(name for name, schemes in VARIABLES.items() if environ.get(name, "").startswith(schemes))


def _servers() -> set[Server]:
    found = _tcp_servers()
    on_tcp = {(server.kind, server.port) for server in found}
    kinds = {server.kind for server in found}
    for server in socket_servers():
        # Most servers listen at both. The socket of Redis does not tell its port.
        if (server.kind, server.port) not in on_tcp and (server.port or server.kind not in kinds):
            found.add(server)
    return found


def socket_servers() -> Iterator[Server]:
    """Servers at Unix sockets with usual names. Format of the file: proc_net_unix(5)."""
    try:
        lines = Path("/proc/net/unix").read_text(errors="surrogateescape").splitlines()[1:]
    except OSError:
        return
    for fields in (line.split(maxsplit=7) for line in lines):
        if len(fields) < 8 or not int(fields[3], 16) & _LISTENING or not fields[7].isprintable():
            continue
        if match := _POSTGRES_SOCKET.fullmatch(fields[7]):
            kind = _PORTS.get(int(match[2]), "postgres")
            yield Server(kind if kind == "pgbouncer" else "postgres", "", int(match[2]), socket=match[1])
        elif _REDIS_SOCKET.fullmatch(fields[7]):
            yield Server("redis", "", 0, socket=fields[7])


def _tcp_servers() -> set[Server]:
    found: set[Server] = set()
    try:
        connections = psutil.net_connections("tcp")
    except (psutil.Error, OSError):
        return found
    for connection in connections:
        if connection.status != psutil.CONN_LISTEN or not connection.laddr:
            continue
        kind = _kind(connection.pid, connection.laddr.port)
        if kind is not None and connection.laddr.port == _ONLY_PORT.get(kind, connection.laddr.port):
            found.add(Server(kind, _address(connection.laddr.ip), connection.laddr.port))
    return found


def _kind(pid: int | None, port: int) -> str | None:
    if pid is None:
        return _PORTS.get(port)
    try:
        name = psutil.Process(pid).name()
    except psutil.Error:
        return _PORTS.get(port)
    return _PROGRAMS.get(name)


def _address(ip: str) -> str:
    """Where this machine reaches the socket, as the host in a URL."""
    if ip in ("0.0.0.0", "::", "::ffff:127.0.0.1"):
        return "127.0.0.1"
    return f"[{ip}]" if ":" in ip else ip


def _asked(server: Server) -> Server:
    """The server with whether it needs a password. Only Redis says so before it is given one."""
    if server.kind != "redis" or not (server.socket or server.host.startswith(("127.", "[::1]"))):
        return server
    with contextlib.suppress(OSError), _connected(server) as connection:
        connection.sendall(b"PING\r\n")
        answer = connection.recv(64)
        if answer.startswith((b"+PONG", b"-NOAUTH")):
            return replace(server, needs_password=answer.startswith(b"-NOAUTH"))
    return server


def _connected(server: Server) -> socket.socket:
    if not server.socket:
        return socket.create_connection((server.host.strip("[]"), server.port), _TIMEOUT)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_TIMEOUT)
    try:
        connection.connect(server.socket)
    except OSError:
        connection.close()
        raise
    return connection


def _process_groups() -> tuple[tuple[str, str], ...]:
    """Groups of processes that a Python team watches, by name, with the expression for their command lines."""
    commands = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    return tuple(
        (name, _WORKERS[name])
        for name, words in _WORKER_WORDS.items()
        if any(word in command for command in commands for word in words)
    )
