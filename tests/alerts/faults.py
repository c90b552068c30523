"""Faults of the live matrix: each block ends with the repair."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import psycopg

from services import free_port, until

from .matrix import AS_A_WHOLE, BY_TARGET, Matrix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from databases import Server


@contextlib.contextmanager
def _frozen(server: Server) -> Iterator[None]:
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


@contextlib.contextmanager
def _stopped(server: Server) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


@contextlib.contextmanager
def _killed(server: Server) -> Iterator[None]:
    server.kill()
    try:
        yield
    finally:
        server.start()


def redis_down(matrix: Matrix) -> contextlib.AbstractContextManager[None]:
    return _killed(matrix.redis)


def redis_replica_paused(matrix: Matrix) -> contextlib.AbstractContextManager[None]:
    return _frozen(matrix.redis_replica)


@contextlib.contextmanager
def redis_crash_loop(matrix: Matrix) -> Iterator[None]:
    """Five crashes, each followed by an immediate start and a few seconds of service."""
    for _ in range(5):
        matrix.redis.kill()
        matrix.redis.start()
        time.sleep(5)
    yield


@contextlib.contextmanager
def redis_full_sync(matrix: Matrix) -> Iterator[None]:
    """The replica waits for half a minute, which is 7.5 minutes of the rules, for the snapshot of its master."""
    with matrix.redis.client() as master, matrix.redis_replica.client() as replica:
        master.config_set("repl-diskless-sync-delay", 30)
        master.config_set("repl-backlog-size", 16384)
        replica.replicaof("127.0.0.1", free_port())
        master.set("more than the backlog", b"x" * 1_000_000)
        replica.replicaof("127.0.0.1", matrix.redis.port)
        until(lambda: master.info("replication").get("slave0", {}).get("state") == "wait_bgsave", what="a full sync")
        yield
        until(lambda: replica.info("replication")["master_link_status"] == "up", what="the end of the full sync")
        master.config_set("repl-diskless-sync-delay", 1)
        master.delete("more than the backlog")


@contextlib.contextmanager
def redis_full(matrix: Matrix) -> Iterator[None]:
    with matrix.redis.client() as client:
        limit = int(client.config_get("maxmemory")["maxmemory"])
        number = 0
        while client.info("memory")["used_memory"] < 0.95 * limit:
            client.set(f"blob:{number}", b"x" * 250_000)
            number += 1
        yield
        client.flushall()


def primary_gone(matrix: Matrix) -> contextlib.AbstractContextManager[None]:
    return _stopped(matrix.postgres)


def standby_paused(matrix: Matrix) -> contextlib.AbstractContextManager[None]:
    return _frozen(matrix.standby)


@contextlib.contextmanager
def archive_command_hangs(matrix: Matrix) -> Iterator[None]:
    blocked = matrix.postgres.folder / "archive-blocked"
    blocked.touch()
    matrix.postgres.execute(
        f"ALTER SYSTEM SET archive_command = 'while test -e {blocked}; do sleep 0.1; done'", "SELECT pg_reload_conf()"
    )
    try:
        yield
    finally:
        blocked.unlink()


@contextlib.contextmanager
def max_connections_reached(matrix: Matrix) -> Iterator[None]:
    with contextlib.ExitStack() as sessions:
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                sessions.enter_context(matrix.postgres.connect(user="app"))
        yield


@contextlib.contextmanager
def pool_exhausted(matrix: Matrix) -> Iterator[None]:
    def wait() -> None:
        with matrix.pool.connect() as connection:
            connection.execute("SELECT 1")

    waiter = threading.Thread(target=wait, daemon=True)
    with contextlib.ExitStack() as sessions:
        for _ in range(2):  # the pool's size
            sessions.enter_context(matrix.pool.connect()).execute("BEGIN")
        waiter.start()
        yield
    waiter.join(60)


def pgbouncer_down(matrix: Matrix) -> contextlib.AbstractContextManager[None]:
    return _stopped(matrix.pool)


def agent_by_target_killed(matrix: Matrix) -> contextlib.AbstractContextManager[None]:
    return _killed(matrix.agents[BY_TARGET])


def agent_as_a_whole_killed(matrix: Matrix) -> contextlib.AbstractContextManager[None]:
    return _killed(matrix.agents[AS_A_WHOLE])
