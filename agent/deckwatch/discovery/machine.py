"""Look at this machine: listening sockets, processes, the environment and log folders. It connects to loopback only."""

from __future__ import annotations

import contextlib
import glob
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Environment variables that name a server, with the schemes that Deckwatch knows. Their values may hold passwords and
#: are never printed.
VARIABLES = {
    "REDIS_URL": ("redis", "rediss", "unix"),
    "DATABASE_URL": ("postgres", "postgis"),
    "CELERY_BROKER_URL": ("redis", "rediss", "amqp", "amqps", "sentinel"),
    "LOKI_URL": ("http", "https"),
}
_TIMEOUT = 1.0
#: By a part of the program's name, and by the usual port where the program cannot be seen without privileges.
_PROGRAMS = {
    "redis-server": "redis",
    "valkey-server": "redis",
    "postgres": "postgres",
    "pgbouncer": "pgbouncer",
    "beam.smp": "rabbitmq",
}
_PORTS = {6379: "redis", 5432: "postgres", 6432: "pgbouncer", 5672: "rabbitmq"}
_WORKERS = {"worker": r"celery.*worker|rq worker|dramatiq|arq ", "web": r"gunicorn|uvicorn|uwsgi|daphne|hypercorn"}
_WORKER_WORDS = {
    "worker": ("celery", "rq worker", "dramatiq", "arq "),
    "web": ("gunicorn", "uvicorn", "uwsgi", "daphne", "hypercorn"),
}
_LOGS = ("/var/log/*/*.json", "/var/log/*/*.jsonl", "/srv/*/log/*.json", "/srv/*/logs/*.json")


@dataclass(frozen=True, order=True)
class Server:
    """A server that listens here. `needs_password` is None where it was not asked."""

    kind: str
    host: str
    port: int
    needs_password: bool | None = None


@dataclass(frozen=True)
class Machine:
    """What was found. `looked_at` says where, for the user."""

    servers: tuple[Server, ...] = ()
    process_groups: dict[str, str] = field(default_factory=dict)
    variables: tuple[str, ...] = ()
    log_patterns: tuple[str, ...] = ()
    is_container_host: bool = False
    looked_at: tuple[str, ...] = ()


def look(environ: Mapping[str, str], root: Path = Path("/")) -> Machine:
    """Look at this machine. `root` is the file system that holds the log folders."""
    looked_at = ["listening sockets", "processes", "environment"]
    patterns = tuple(pattern for pattern in _LOGS if glob.glob(str(root / pattern.lstrip("/"))))
    looked_at += [os.path.dirname(pattern) for pattern in _LOGS]
    return Machine(
        servers=tuple(sorted(_asked(server) for server in _servers())),
        process_groups=_process_groups(),
        variables=tuple(name for name, schemes in VARIABLES.items() if environ.get(name, "").startswith(schemes)),
        log_patterns=patterns,
        is_container_host=(root / "var/log/pods").is_dir() or (root / "var/lib/docker/containers").is_dir(),
        looked_at=tuple(dict.fromkeys([*looked_at, "/var/log/pods", "/var/lib/docker/containers"])),
    )


def _servers() -> set[Server]:
    found: set[Server] = set()
    try:
        connections = psutil.net_connections("tcp")
    except (psutil.Error, OSError):
        return found
    for connection in connections:
        if connection.status != psutil.CONN_LISTEN or not connection.laddr:
            continue
        kind = _kind(connection.pid, connection.laddr.port)
        if kind == "rabbitmq" and connection.laddr.port != 5672:
            continue  # its other ports are for the cluster
        if kind is not None:
            found.add(Server(kind, _address(connection.laddr.ip), connection.laddr.port))
    return found


def _kind(pid: int | None, port: int) -> str | None:
    if pid is None:
        return _PORTS.get(port)
    try:
        name = psutil.Process(pid).name()
    except psutil.Error:
        return _PORTS.get(port)
    return next((kind for program, kind in _PROGRAMS.items() if program in name), None)


def _address(ip: str) -> str:
    """Where this machine reaches the socket."""
    return "127.0.0.1" if ip in ("0.0.0.0", "::", "::1", "::ffff:127.0.0.1") else ip


def _asked(server: Server) -> Server:
    """The server with whether it needs a password. Only Redis says so before it is given one."""
    if server.kind != "redis" or not server.host.startswith("127."):
        return server
    with contextlib.suppress(OSError), socket.create_connection((server.host, server.port), _TIMEOUT) as connection:
        connection.settimeout(_TIMEOUT)
        connection.sendall(b"PING\r\n")
        answer = connection.recv(64)
        if answer.startswith((b"+PONG", b"-NOAUTH")):
            return Server(server.kind, server.host, server.port, needs_password=answer.startswith(b"-NOAUTH"))
    return server


def _process_groups() -> dict[str, str]:
    """Groups of processes that a Python team watches, by name, with the expression for their command lines."""
    commands = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    return {
        name: _WORKERS[name]
        for name, words in _WORKER_WORDS.items()
        if any(word in command for command in commands for word in words)
    }
