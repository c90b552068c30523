"""1 000 Redis targets in one agent, beside redis_exporter's multi-target mode; also while a tenth of them hangs.

Targets are loopback addresses of a few real servers, which makes no difference to the agent.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.measure import Scraper, cpu_seconds, quantile, resident_bytes
from bench.stack import at_work, port_of
from databases import redis_exporter, redis_server
from services import agent, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from databases import RedisServer
    from services import Program

TARGETS = 1000
HUNG = 100  # of the targets, while their server is stopped
SERVERS = 3  # that keep answering
INTERVAL = 15.0  # seconds
SCRAPES_PER_SECOND = 33
SECONDS = 60.0  # of each measurement
WHOLE_SCRAPES = 5


@dataclass(frozen=True)
class Figures:
    """What a program used and how it answered while it watched all targets."""

    cpu_ratio: float
    megabytes: float
    threads: int
    scrapes: tuple[float, ...]  # milliseconds each

    def rows(self) -> list[str]:
        return [
            f"{self.cpu_ratio:.1%}",
            f"{self.megabytes:.0f} MB",
            str(self.threads),
            f"{quantile(self.scrapes, 0.5):.1f} ms",
            f"{quantile(self.scrapes, 0.99):.1f} ms",
        ]


ROWS = ("CPU", "resident memory", "threads", "scrape of one target, p50", "scrape of one target, p99")


def addresses(servers: Sequence[RedisServer], stopped: RedisServer) -> list[str]:
    """Return the host and port of each target. The first HUNG ones lead to the server that will be stopped."""
    hosts = [f"127.0.{number // 250}.{number % 250 + 1}" for number in range(TARGETS)]
    return [
        f"{host}:{(stopped if number < HUNG else servers[number % SERVERS]).port}" for number, host in enumerate(hosts)
    ]


def threads(program: Program) -> int:
    return len(os.listdir(f"/proc/{program.process.pid}/task"))


def measured(program: Program, paths: Sequence[str], per_second: float, seconds: float = SECONDS) -> Figures:
    """Scrape the paths in turn at this rate, and measure from now on."""
    scraper = Scraper(port_of(program))
    before, most_threads, times = cpu_seconds(program.process.pid), 0, []
    began = time.perf_counter()
    for number in range(int(seconds * per_second)):
        time.sleep(max(0.0, began + number / per_second - time.perf_counter()))
        asked = time.perf_counter()
        scraper.scrape(paths[number % len(paths)])
        times.append((time.perf_counter() - asked) * 1000)
        if number % int(per_second) == 0:
            most_threads = max(most_threads, threads(program))
    used = cpu_seconds(program.process.pid) - before
    return Figures(
        used / (time.perf_counter() - began), resident_bytes(program.process.pid) / 1e6, most_threads, tuple(times)
    )


def whole(program: Program) -> str:
    """Scrape everything a few times, each time after other values were collected."""
    scraper, times = Scraper(port_of(program)), []
    for _ in range(WHOLE_SCRAPES):
        time.sleep(1)
        began = time.perf_counter()
        scraper.scrape("/metrics")
        times.append(time.perf_counter() - began)
    return f"{quantile(times, 0.5):.2f} s ({min(times):.2f} to {max(times):.2f})"


def up(program: Program) -> int:
    return sum(line.startswith("redis_up{") and line.endswith(" 1") for line in program.metrics().splitlines())


@contextlib.contextmanager
def servers(folder: Path) -> Iterator[tuple[list[RedisServer], RedisServer]]:
    with contextlib.ExitStack() as running:
        started = [
            running.enter_context(redis_server(folder, "--bind", "0.0.0.0", "--protected-mode", "no"))
            for _ in range(SERVERS + 1)
        ]
        yield started[:-1], started[-1]


def redis_scale(folder: Path) -> list[tuple[str, ...]]:
    """Measure the agent, the agent while targets hang, and the peer."""
    (folder / "ours").mkdir()
    with servers(folder) as (answering, stopped), at_work(answering):
        targets = addresses(answering, stopped)
        listed = "".join(f'    - {{name: "r{it}", url: "redis://{where}"}}\n' for it, where in enumerate(targets))
        paths = [f"/metrics?target=r{number}" for number in range(TARGETS)]
        began = time.perf_counter()
        with agent(folder / "ours", f"interval: {INTERVAL:g}s\nexporters:\n  redis:\n{listed}") as ours:
            started = time.perf_counter() - began
            all_up = up(ours)
            series = sum(not line.startswith("#") for line in ours.metrics().splitlines())
            measured(ours, paths, SCRAPES_PER_SECOND, 2 * INTERVAL)
            healthy = measured(ours, paths, SCRAPES_PER_SECOND)
            everything = whole(ours)
            stopped.freeze()
            try:
                measured(ours, paths[HUNG:], SCRAPES_PER_SECOND, 2 * INTERVAL)
                partly_hung = measured(ours, paths[HUNG:], SCRAPES_PER_SECOND)
                still_up, everything_else = up(ours), whole(ours)
            finally:
                stopped.thaw()
            until(lambda: up(ours) == TARGETS, seconds=60, what="all targets up")
        with redis_exporter(folder, "") as peer:
            of_peer = [f"/scrape?target=redis://{where}" for where in targets]
            measured(peer, of_peer, TARGETS / INTERVAL, INTERVAL)
            beside = measured(peer, of_peer, TARGETS / INTERVAL)
    rows = list(zip(ROWS, healthy.rows(), partly_hung.rows(), beside.rows(), strict=True))
    return [
        *rows,
        (f"one scrape of everything ({series} series)", everything, everything_else, "-"),
        ("start until all targets were collected", f"{started:.1f} s", "-", "-"),
        ("targets up", str(all_up), str(still_up), "-"),
    ]
