"""From the trouble to the message: a live agent, a real Prometheus, a real Alertmanager, and what reaches a webhook.

The rules and routes are the shipped ones; only their times are shorter.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from databases import PostgresServer, RedisServer, postgres_server, redis_server
from loki import Double, Fault, loki
from services import Program, agent, fetch, until

from .alerting import (
    NOT_WATCHED,
    Webhook,
    alerting_prometheus,
    alertmanager,
    redirected,
    shipped_alertmanager_config,
    webhook,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: Grows by some MiB a second, or keeps still when told `still`.
LEAK = """
import sys, time
kept = []
while True:
    time.sleep(0.5)
    if sys.argv[2] == "leak":
        kept.append(b"x" * 2_000_000)
"""


def other_than(text: str) -> str:
    """A regular expression for all texts but this one. RE2 has no look-ahead."""
    shorter = (f"{re.escape(text[:n])}(?:[^{re.escape(text[n])}]|$)" for n in range(len(text)))
    return f"^(?:{'|'.join(shorter)}|{re.escape(text)}.)"


@dataclass
class Stack:
    hook: Webhook
    prometheus: Program
    redis: RedisServer
    postgres: PostgresServer
    loki: Double
    folder: Path
    disk: Path | None

    def firing(self) -> set[str]:
        answer = json.loads(fetch(self.prometheus.url + "/api/v1/alerts")[1])
        return {it["labels"]["alertname"] for it in answer["data"]["alerts"] if it["state"] == "firing"}

    @contextlib.contextmanager
    def only(self, name: str, *receivers: str, also: str = "") -> Iterator[None]:
        """Check that the fault in the block sends this alert (and `also`, later) and no other to these receivers.

        The block ends with the fix, which resolves them.
        """
        start = len(self.hook.notices)
        yield
        expected = {name, also} - {""}
        # A restart is reported for what is 40 s here.
        until(lambda: expected <= {it.name for it in self.hook.since(start, "resolved")}, what=f"{expected} resolving")
        fired = self.hook.since(start, "firing")
        assert {it.name for it in fired} - {"Watchdog"} == expected
        assert {it.receiver for it in fired if it.name == name} == set(receivers)
        for it in fired:
            assert it.annotations["runbook_url"].endswith(f"/alerts/runbooks/{it.name}.md")

    def told(self, name: str, start: int, seconds: float = 60) -> None:
        until(
            lambda: any(it.name == name for it in self.hook.since(start, "firing")), seconds, f"{name} reaching anybody"
        )


@contextlib.contextmanager
def leaking(mode: str) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", LEAK, "deckwatch-leak", mode])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def small_disk(folder: Path) -> Path | None:
    """A file system of 20 MB, where the tests may mount one."""
    if os.getuid() != 0:
        return None
    disk = folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "deckwatch-test", disk], check=False)
    return disk if mounted.returncode == 0 else None


def unmount(disk: Path) -> None:
    subprocess.run(["umount", "-l", disk], check=False)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("alerting")
    log = folder / "app.log"
    stop = threading.Event()
    with contextlib.ExitStack() as services:
        cache = services.enter_context(redis_server(folder))
        database = services.enter_context(postgres_server())
        database.execute("CREATE EXTENSION pg_stat_statements", "CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)")
        double = services.enter_context(loki())
        disk = small_disk(folder)
        if disk is not None:
            services.callback(unmount, disk)

        def write() -> None:
            while not stop.wait(0.5):
                with log.open("a") as file:
                    file.write('{"level": "info", "message": "still here"}\n')

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        services.callback(stop.set)
        mounts = str(disk) if disk is not None else "/"
        config = {
            "interval": "1s",
            "exporters": {
                "system": {
                    "disable": NOT_WATCHED,
                    "filesystem": {"mount_points_exclude": other_than(mounts)},
                    "processes": [{"name": "leak", "match": "deckwatch-leak"}],
                },
                "redis": [{"name": "cache", "url": cache.url}],
                "postgres": [{"name": "main", "dsn": database.dsn()}],
            },
            "logs": {
                "loki": {"url": double.url, "batch_wait": "200ms", "timeout": "1s", "max_backoff": "500ms"},
                "own": False,
                "files": [{"path": str(log), "labels": {"job": "app"}}],
            },
        }
        services.enter_context(leaking("still"))
        watch = services.enter_context(agent(folder, json.dumps(config), STATE_DIRECTORY=str(folder / "state")))
        hook = services.enter_context(webhook())
        manager = services.enter_context(alertmanager(folder, redirected(shipped_alertmanager_config(), hook.url)))
        server = services.enter_context(alerting_prometheus(folder, watch, manager))
        it = Stack(hook, server, cache, database, double, folder, disk)
        until(lambda: any(notice.name == "Watchdog" for notice in hook.notices), what="the watchdog")
        until(lambda: it.firing() == {"Watchdog"}, what="quiet")
        # Prometheus scrapes some seconds after its start; with such short times that agents are absent has been told.
        until(
            lambda: (
                {n.name for n in hook.since(0, "firing")} - {"Watchdog"} == {n.name for n in hook.since(0, "resolved")}
            ),
            what="quiet",
        )
        hook.notices[:] = [notice for notice in hook.notices if notice.name == "Watchdog"]
        yield it


def test_only_the_watchdog_fires_on_a_healthy_system(stack: Stack) -> None:
    assert {notice.name for notice in stack.hook.notices if notice.status == "firing"} <= {"Watchdog"}
    assert {notice.receiver for notice in stack.hook.notices if notice.name == "Watchdog"} == {"watchdog"}


def test_a_killed_redis_sends_one_page_and_nothing_else(stack: Stack) -> None:
    start = len(stack.hook.notices)
    with stack.only("RedisDown", "pager", "database"):
        assert stack.redis.process is not None
        stack.redis.process.kill()
        stack.redis.process.wait()
        stack.redis.process = None
        stack.told("RedisDown", start)
        until(lambda: "DeckwatchCollectorFailing" in stack.firing(), what="the collector's alert, which is inhibited")
        stack.redis.start()


def test_a_stopped_postgresql_pages_and_its_restart_is_reported(stack: Stack) -> None:
    start = len(stack.hook.notices)
    with stack.only("PostgresDown", "pager", "database", also="PostgresRestarted"):
        stack.postgres.stop()
        stack.told("PostgresDown", start)
        stack.postgres.start()


def test_a_query_of_3_s_is_reported_once_in_the_digest(stack: Stack) -> None:
    start = len(stack.hook.notices)
    with stack.only("PostgresSlowQuery", "digest"):
        stack.postgres.execute("SELECT pg_sleep(3)")
        stack.told("PostgresSlowQuery", start)


def test_a_blocking_session_is_reported_without_the_slow_query_that_it_causes(stack: Stack) -> None:
    start = len(stack.hook.notices)
    with stack.postgres.connect() as blocker:
        blocker.execute("BEGIN")
        blocker.execute("UPDATE t SET n = 2")
        waiter = threading.Thread(target=stack.postgres.execute, args=("UPDATE t SET n = 3",), daemon=True)
        waiter.start()
        stack.told("PostgresBlockedSessions", start)
        until(lambda: "PostgresSlowQuery" in stack.firing(), what="the slow query's alert, which is inhibited")
        # From when Alertmanager knows of both; before and afterwards, either alert may be the only one.
        both = len(stack.hook.notices)
        for _ in range(50):
            assert "PostgresSlowQuery" not in {it.name for it in stack.hook.since(both, "firing")}
            time.sleep(0.1)
        blocker.execute("COMMIT")
    waiter.join(60)
    until(lambda: not {"PostgresBlockedSessions", "PostgresSlowQuery"} & set(stack.firing()), what="both resolving")
    # Alertmanager sends no resolution of an alert that ends while it is inhibited, even if it had been sent before.
    until(lambda: "PostgresBlockedSessions" in {it.name for it in stack.hook.since(start, "resolved")}, what="its end")


def test_a_missing_loki_is_reported(stack: Stack) -> None:
    start = len(stack.hook.notices)
    with stack.only("LogShippingStuck", "platform"):
        stack.loki.fault = Fault("refuse")
        stack.told("LogShippingStuck", start)
        stack.loki.fault = None


def test_a_filling_disk_is_reported_before_it_is_full(stack: Stack) -> None:
    if stack.disk is None:
        pytest.skip("mounting a small tmpfs takes root")
    start = len(stack.hook.notices)
    with stack.only("HostDiskWillFillIn4Hours", "pager", "platform"):
        filling = stack.disk / "filling"
        with filling.open("ab") as file:
            file.write(b"x" * 12_000_000)  # of 20 MB, and then more for longer than a burst
            for _ in range(40):
                file.write(b"x" * 120_000)
                file.flush()
                time.sleep(1)
        stack.told("HostDiskWillFillIn4Hours", start)
        filling.unlink()


def test_a_leaking_process_is_reported_long_before_its_limit(stack: Stack) -> None:
    start = len(stack.hook.notices)
    with stack.only("ProcessMemoryLeak", "application"), leaking("leak"):
        stack.told("ProcessMemoryLeak", start, 180)
