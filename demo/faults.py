"""The faults that the demo can cause. Each is a context manager: entering causes the fault, leaving fixes it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
import redis

from .programs import DemoError
from .times import FACTOR, until_message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from .stack import Stack

_MIB = 1 << 20


@dataclass(frozen=True)
class Fault:
    """A fault and the alerts it triggers.

    `alerts` lists the expected alert first, then those that may accompany it. `builds_up` is the number of seconds, at
    the shipped times, until the alert's condition becomes true and its `for` starts.
    """

    what: str
    alerts: tuple[str, ...]
    run: Callable[[Stack], AbstractContextManager[None]]
    builds_up: float = 0
    takes: float = 0  # additional seconds that are never shortened
    needs: Callable[[], None] = field(default=lambda: None)  # raises DemoError
    prepare: Callable[[Stack], None] = field(default=lambda _: None)  # before the agent starts

    def expected_after(self, stack: Stack) -> int:
        return until_message(stack.rules[self.alerts[0]], stack.fast, self.builds_up, self.takes)


@contextlib.contextmanager
def _in_background(*works: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run each function in a thread and set its event on exit. A lost connection ends the function."""
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

    with _in_background(ask, ask):
        yield


@contextlib.contextmanager
def _blocked(stack: Stack) -> Iterator[None]:
    update = "UPDATE stock SET pieces = pieces - 1 WHERE article = 1"

    def wait(_stop: threading.Event) -> None:
        with stack.database() as database:
            database.execute(update)

    with contextlib.suppress(psycopg.Error), stack.database() as blocker, contextlib.ExitStack() as waiting:
        # Callbacks run in reverse order: the transaction ends before the waiting threads are joined.
        waiting.enter_context(_in_background(wait, wait, wait))
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
        raise DemoError("FAULT=disk-full requires root because it mounts a file system of 20 MB. Run it with sudo.")


def _mount(stack: Stack) -> None:
    stack.disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m,mode=700", "deckwatch-demo", str(stack.disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DemoError(
            f"FAULT=disk-full cannot mount a file system: {done.stderr.strip()}. Choose another fault: FAULT=help"
        )


@contextlib.contextmanager
def _disk_full(stack: Stack) -> Iterator[None]:
    file = stack.disk / "filling"

    def fill(stop: threading.Event) -> None:
        with file.open("wb", buffering=0) as opened:
            while not stop.wait(0.5):
                opened.write(b"x" * (_MIB // 2))  # ends with an error on the full disk

    with _in_background(fill):
        yield
    file.unlink()


@contextlib.contextmanager
def _memory_leak(stack: Stack) -> Iterator[None]:
    stack.load.send_line(f"leak {_MIB if stack.fast else _MIB / FACTOR}")
    yield
    stack.load.send_line("leak 0")


@contextlib.contextmanager
def _evictions(stack: Stack) -> Iterator[None]:
    def write(stop: threading.Event) -> None:
        number = 0
        with stack.cache() as cache:
            while not stop.wait(0.5):
                with cache.pipeline(transaction=False) as pipeline:
                    for number in range(number + 1, number + 101):  # noqa: B020  continues from the last iteration
                        pipeline.set(f"thumbnail:{number}", "x" * 2000)
                    pipeline.execute()

    with stack.cache() as cache:
        used = int(cache.info("memory")["used_memory"])
        cache.config_set("maxmemory-policy", "allkeys-lru")
        cache.config_set("maxmemory", used + 2 * _MIB)
    with _in_background(write):
        yield
    with stack.cache() as cache:
        cache.config_set("maxmemory", 0)


def _has_loki() -> None:
    if not os.environ.get("LOKI_URL"):
        raise DemoError("FAULT=log-errors requires a Loki server, which the distribution does not have: set LOKI_URL")


@contextlib.contextmanager
def _log_errors(stack: Stack) -> Iterator[None]:
    stack.load.send_line("errors 5")
    yield
    stack.load.send_line("errors 0")


@contextlib.contextmanager
def _worker_killed(stack: Stack) -> Iterator[None]:
    stack.worker.signal_all(signal.SIGKILL)
    stack.worker.stop()
    yield
    stack.worker.start()


@contextlib.contextmanager
def _queue_backlog(stack: Stack) -> Iterator[None]:
    stack.load.send_line("mails 60")
    yield
    stack.load.send_line("mails 5")


@contextlib.contextmanager
def _poison_task(stack: Stack) -> Iterator[None]:
    stack.load.send_line("bounces 0.5")
    yield
    stack.load.send_line("bounces 0")


FAULTS = {
    "slow-query": Fault(
        "two sessions run queries that take 2 s or more", ("PostgresSlowQuery", "PostgresSlowQueries"), _slow_query
    ),
    "blocked": Fault(
        "a transaction keeps a row locked while three sessions wait", ("PostgresBlockedSessions",), _blocked
    ),
    "redis-down": Fault("Redis is stopped", ("RedisDown",), _redis_down),
    "postgres-down": Fault("PostgreSQL is stopped", ("PostgresDown",), _postgres_down),
    "disk-full": Fault(
        "a file system of 20 MB fills up within 20 s (requires root)",
        ("HostDiskFull", "HostDiskWillFillIn4Hours"),
        _disk_full,
        needs=_may_mount,
        prepare=_mount,
        takes=20,
    ),
    "memory-leak": Fault("the shop leaks memory", ("ProcessMemoryLeak", "ProcessMemoryHigh"), _memory_leak, 120 * 60),
    "evictions": Fault(
        "Redis has too little memory for its data",
        ("RedisEvictingKeys", "RedisHitRatioLow"),
        _evictions,
        300,
    ),
    "worker-killed": Fault(
        "the worker that sends mails is killed",
        ("CeleryWorkerDown", "QueueGrowing"),
        _worker_killed,
        takes=60,  # without heartbeats until the worker counts as down
    ),
    "queue-backlog": Fault(
        "mails are queued several times as fast as the worker sends them", ("QueueGrowing",), _queue_backlog, 30 * 60
    ),
    "poison-task": Fault(
        "the task of every second mail raises an exception", ("CeleryTaskFailureRatioHigh",), _poison_task, 300
    ),
    "log-errors": Fault(
        "the shop logs five errors per second (requires LOKI_URL)",
        ("LogErrorsRising",),
        _log_errors,
        60,
        needs=_has_loki,
    ),
}
