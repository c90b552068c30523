"""CPU time of collection at real intervals, beside the peers: scraped every second, every 15 s, unscraped and idle.

All programs of a comparison run at the same time on the same host, each with its own scraper.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.measure import SETTLE, Scraper, Scraping, cpu_seconds
from bench.stack import CONFIG, SAME_COVERAGE, at_work, port_of, same_coverage, servers
from databases import postgres_exporter, redis_exporter
from services import Program, agent, node_exporter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from databases import PostgresServer, RedisServer

RUNS = 3  # in a row; the median and the spread are reported
CYCLES = {1.0: 20, 15.0: 4}  # of each run, by seconds between two scrapes
SCRAPES = 300
MOST_EXPENSIVE = 10
_CPU = "deckwatch_collector_cpu_seconds_total{"

HOST = "interval: 15s\nexporters: {system: {}}\n"


@dataclass(frozen=True)
class Figure:
    """The median of some runs, and the lowest and highest one."""

    runs: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    def __str__(self) -> str:
        return f"{self.median:.2f} ({min(self.runs):.2f} to {max(self.runs):.2f})"


def measured(groups: Mapping[str, Sequence[Program]], seconds: float, runs: int = RUNS) -> dict[str, Figure]:
    """Return the CPU milliseconds that each group of programs uses in `seconds`, from now on."""

    def used() -> dict[str, float]:
        return {name: sum(cpu_seconds(it.process.pid) for it in programs) for name, programs in groups.items()}

    cycles = CYCLES.get(seconds, 1)
    figures: dict[str, list[float]] = {name: [] for name in groups}
    before = used()
    for _ in range(runs):
        time.sleep(cycles * seconds)
        after = used()
        for name, figure in figures.items():
            figure.append((after[name] - before[name]) / cycles * 1000)
        before = after
    return {name: Figure(tuple(figure)) for name, figure in figures.items()}


def settle(period: float) -> None:
    """Wait until agents have learned the period of their scrapers."""
    time.sleep(max(SETTLE, 4.5 * period))


def collectors_of(program: Program) -> dict[str, float]:
    """Return the CPU seconds of each collector so far."""
    lines = [line for line in program.metrics().splitlines() if line.startswith(_CPU)]
    return {
        line.split('collector="')[1].split('"')[0]: float(line.rsplit(" ", 1)[1])
        for line in lines
        if 'collector="deckwatch' not in line
    }


@contextlib.contextmanager
def floor(folder: Path, period: float) -> Iterator[Program]:
    """Run the program that only reads and joins what a cycle of the host needs. It serves nothing."""
    command = [sys.executable, str(Path(__file__).with_name("floor.py")), f"{period:g}"]
    with (folder / "floor.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield Program("", process, folder / "floor.log")
        finally:
            process.kill()


@contextlib.contextmanager
def programs(
    folder: Path, period: float, redis: RedisServer, postgres: PostgresServer
) -> Iterator[dict[str, list[Program]]]:
    """Run everything that is measured. The programs with a URL are scraped."""
    with contextlib.ExitStack() as running:

        def place(name: str) -> Path:
            (folder / name).mkdir()
            return folder / name

        where = {"redis": redis.url, "postgres": postgres.dsn(user="monitor")}
        covering = running.enter_context(node_exporter(place("covering"), *same_coverage(folder)))
        default = running.enter_context(node_exporter(place("default")))
        of_redis = running.enter_context(redis_exporter(place("redis"), redis.url))
        of_postgres = running.enter_context(postgres_exporter(place("postgres"), postgres.dsn(user="monitor")))
        ours = running.enter_context(agent(place("ours"), CONFIG.format(**where, more=SAME_COVERAGE)))
        host = running.enter_context(agent(place("host"), HOST))
        yield {
            "ours": [ours],
            "host": [host],
            "three": [covering, of_redis, of_postgres],
            "three default": [default, of_redis, of_postgres],
            "node": [covering],
            "node default": [default],
            "floor": [running.enter_context(floor(folder, period))],
        }


def cycles(folder: Path) -> list[tuple[str, ...]]:
    """Measure every situation. The last rows are the most expensive collectors at each period."""
    rows: list[tuple[str, ...]] = []
    collectors: list[tuple[str, ...]] = []
    with servers(folder) as (redis, postgres), at_work([redis], postgres):
        for period in CYCLES:
            (folder / f"{period:g}").mkdir()
            with programs(folder / f"{period:g}", period, redis, postgres) as groups:
                scraped = sorted({port_of(it) for programs_ in groups.values() for it in programs_ if it.url})
                with Scraping(scraped, period):
                    settle(period)
                    before = collectors_of(groups["ours"][0])
                    found = measured(groups, period)
                    after = collectors_of(groups["ours"][0])
            for title, ours, peers in (
                ("host", "host", ("node", "node default")),
                ("host, Redis and PostgreSQL", "ours", ("three", "three default")),
            ):
                rows.append(_row(f"{title}, scraped every {period:g} s", found[ours], *(found[it] for it in peers)))
            rows.append((f"host, only read and joined every {period:g} s", f"{found['floor']} ms", "-", "-"))
            used = {name: (after[name] - before.get(name, 0.0)) / CYCLES[period] / RUNS * 1000 for name in after}
            expensive = sorted(used, key=lambda name: -used[name])[:MOST_EXPENSIVE]
            collectors += [(f"  {name}, every {period:g} s", f"{used[name]:.2f} ms", "", "") for name in expensive]
    rows += unscraped(folder)
    return [*rows, *collectors]


def unscraped(folder: Path) -> list[tuple[str, ...]]:
    """Measure agents that nobody scrapes, and one scrape of unchanged metrics."""
    rows: list[tuple[str, ...]] = []
    (folder / "unscraped").mkdir()
    with contextlib.ExitStack() as running:
        agents = {}
        for interval in (1.0, 15.0, 600.0):
            place = folder / "unscraped" / f"{interval:g}"
            place.mkdir()
            agents[interval] = running.enter_context(agent(place, HOST.replace("15s", f"{interval:g}s")))
        time.sleep(SETTLE)
        found = measured({f"{interval:g}": [program] for interval, program in agents.items()}, 15.0)
        for interval in (1.0, 15.0):
            figure = Figure(tuple(run * interval / 15.0 for run in found[f"{interval:g}"].runs))
            rows.append((f"host, not scraped, interval {interval:g} s", f"{figure} ms", "-", "-"))
        idle = Figure(tuple(run / 15.0 for run in found["600"].runs))
        rows.append(("host, idle: not scraped, interval 600 s, by second", f"{idle} ms", "-", "-"))
        rows.append(("one scrape of the host, from memory", f"{of_a_scrape(agents[600.0])} ms", "-", "-"))
    return rows


def of_a_scrape(program: Program) -> Figure:
    """Return the CPU milliseconds of a scrape between two collections."""
    scraper = Scraper(port_of(program))
    runs = []
    for _ in range(RUNS):
        before = cpu_seconds(program.process.pid)
        for _ in range(SCRAPES):
            scraper.scrape()
            time.sleep(0.01)
        runs.append((cpu_seconds(program.process.pid) - before) / SCRAPES * 1000)
    return Figure(tuple(runs))


def _row(title: str, ours: Figure, covering: Figure, default: Figure) -> tuple[str, ...]:
    return (
        title,
        f"{ours} ms",
        f"{covering} ms, ratio {ours.median / covering.median:.2f}",
        f"{default} ms, ratio {ours.median / default.median:.2f}",
    )
