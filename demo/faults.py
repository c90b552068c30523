"""Trouble on demand: each is there while its context is, and its end is the mend."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
import redis

from .programs import DemoError
from .stack import SCRAPE_INTERVAL
from .times import FACTOR, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from .stack import Stack

_MIB = 1 << 20


@dataclass(frozen=True)
class Fault:
    """`alerts`: the one to expect first, and what may come with it. `builds_up`: seconds, at the shipped times, until
    the condition holds for which the alert's `for` then waits."""

    what: str
    alerts: tuple[str, ...]
    run: Callable[[Stack], AbstractContextManager[None]]
    builds_up: float = 0
    takes: float = 0  # seconds of that which are never shortened
    needs: Callable[[], None] = field(default=lambda: None)  # raises DemoError
    prepare: Callable[[Stack], None] = field(default=lambda _: None)  # before the agent starts

    def expected_after(self, stack: Stack) -> int:
        """Seconds, about: what builds up, `for`, and the way through scrape, evaluation and Alertmanager's wait."""
        rule = stack.rules[self.alerts[0]]
        builds_up = self.builds_up / (FACTOR if stack.fast else 1)
        wait = 300 if rule["labels"]["severity"] == "info" else 10 if rule["labels"]["severity"] == "critical" else 30
        way = 2 * SCRAPE_INTERVAL + (max(wait / FACTOR, 1) if stack.fast else wait)
        return round(self.takes + builds_up + seconds(rule.get("for", "0s")) + way)


@contextlib.contextmanager
def _meanwhile(*works: Callable[[threading.Event], None]) -> Iterator[None]:
    """Each in a thread, until the event that it is given. What ends a connection ends the work."""
    stop = threading.Event()

    def run(work: Callable[[threading.Event], None]) -> None:
        with contextlib.suppress(psycopg.Error, redis.RedisError, OSError):
            work(stop)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(5)


@contextlib.contextmanager
def _slow_query(stack: Stack) -> Iterator[None]:
    def ask(stop: threading.Event) -> None:
        with stack.database() as database:
            while not stop.wait(0.2):
                database.execute("SELECT customer, count(*), pg_sleep(0.002) FROM orders WHERE id % 4 = 0 GROUP BY 1")

    with _meanwhile(ask, ask):
        yield


@contextlib.contextmanager
def _blocked(stack: Stack) -> Iterator[None]:
    update = "UPDATE stock SET pieces = pieces - 1 WHERE article = 1"

    def wait(_stop: threading.Event) -> None:
        with stack.database() as database:
            database.execute(update)

    with contextlib.suppress(psycopg.Error), stack.database() as blocker, contextlib.ExitStack() as waiting:
        # Last in, first out: the transaction ends before the others are waited for.
        waiting.enter_context(_meanwhile(wait, wait, wait))
        blocker.execute("BEGIN")
        blocker.execute(update)
        waiting.callback(_end, blocker)
        yield


def _end(blocker: psycopg.Connection[Any]) -> None:
    with contextlib.suppress(psycopg.Error):
        blocker.execute("ROLLBACK")


@contextlib.contextmanager
def _redis_down(stack: Stack) -> Iterator[None]:
    stack.redis.stop()
    yield
    stack.redis.start()
    with stack.cache() as cache:
        cache.mset({f"session:{n}": "x" * 200 for n in range(2000)})


@contextlib.contextmanager
def _postgres_down(stack: Stack) -> Iterator[None]:
    stack.postgres.stop()
    yield
    stack.postgres.start()


def _may_mount() -> None:
    if os.getuid() != 0:
        raise DemoError("FAULT=disk-full takes root: it mounts a file system of 20 MB, to be filled")


def _mount(stack: Stack) -> None:
    stack.disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m,mode=700", "deckwatch-demo", str(stack.disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DemoError(f"FAULT=disk-full cannot mount a file system here: {done.stderr.strip()}")


@contextlib.contextmanager
def _disk_full(stack: Stack) -> Iterator[None]:
    file = stack.disk / "filling"

    def fill(stop: threading.Event) -> None:
        with file.open("wb", buffering=0) as opened:
            while not stop.wait(0.5):
                opened.write(b"x" * (_MIB // 2))  # a short write, then an error, end it

    with _meanwhile(fill):
        yield
    file.unlink()


@contextlib.contextmanager
def _memory_leak(stack: Stack) -> Iterator[None]:
    stack.load.tell(f"leak {_MIB if stack.fast else _MIB / FACTOR}")
    yield
    stack.load.tell("leak 0")


@contextlib.contextmanager
def _evictions(stack: Stack) -> Iterator[None]:
    def write(stop: threading.Event) -> None:
        number = 0
        with stack.cache() as cache:
            while not stop.wait(0.5):
                with cache.pipeline(transaction=False) as pipeline:
                    for number in range(number + 1, number + 101):  # noqa: B020  goes on from the last round
                        pipeline.set(f"thumbnail:{number}", "x" * 2000)
                    pipeline.execute()

    with stack.cache() as cache:
        used = int(cache.info("memory")["used_memory"])
        cache.config_set("maxmemory-policy", "allkeys-lru")
        cache.config_set("maxmemory", used + 2 * _MIB)
    with _meanwhile(write):
        yield
    with stack.cache() as cache:
        cache.config_set("maxmemory", 0)


def _has_loki() -> None:
    if not os.environ.get("LOKI_URL"):
        raise DemoError("FAULT=log-errors needs a Loki to ship logs to, which the distribution lacks: set LOKI_URL")


@contextlib.contextmanager
def _log_errors(stack: Stack) -> Iterator[None]:
    stack.load.tell("errors 5")
    yield
    stack.load.tell("errors 0")


FAULTS = {
    "slow-query": Fault(
        "two sessions that run queries of 2 s and more", ("PostgresSlowQuery", "PostgresSlowQueries"), _slow_query
    ),
    "blocked": Fault(
        "a transaction that keeps a row locked, and three sessions that wait", ("PostgresBlockedSessions",), _blocked
    ),
    "redis-down": Fault("Redis is stopped", ("RedisDown",), _redis_down),
    "postgres-down": Fault("PostgreSQL is stopped", ("PostgresDown",), _postgres_down),
    "disk-full": Fault(
        "a file system of 20 MB fills within 20 s (takes root)",
        ("HostDiskFull", "HostDiskWillFillIn4Hours"),
        _disk_full,
        needs=_may_mount,
        prepare=_mount,
        takes=20,
    ),
    "memory-leak": Fault("the shop leaks memory", ("ProcessMemoryLeak", "ProcessMemoryHigh"), _memory_leak, 120 * 60),
    "evictions": Fault(
        "Redis is given too little memory for what is written",
        ("RedisEvictingKeys", "RedisHitRatioLow"),
        _evictions,
        300,
    ),
    "log-errors": Fault(
        "the shop logs five errors a second (needs LOKI_URL)", ("LogErrorsRising",), _log_errors, 60, needs=_has_loki
    ),
}
