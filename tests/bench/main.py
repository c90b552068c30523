"""Benchmarks of Deckwatch and its peers in one run: `make bench`. Compare the ratios, because hosts differ.

`python tests/bench/main.py cycles` runs only the sections with this word in their title.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.applications import aggregation, counting
from bench.celery_scrapes import celery_scrapes
from bench.cycles import cycles
from bench.encoding import encoding
from bench.idle_memory import idle_memory
from bench.logs import logs
from bench.measure import SETTLE, Scraper, cpu_of_a_cycle, quantile, resident_bytes
from bench.middleware import middleware
from bench.passwords import passwords
from bench.queues import queues
from bench.redis_scale import redis_scale
from bench.rule_evaluation import rule_evaluation
from bench.rules import rules
from bench.stack import same_coverage, stack
from bench.status_page import status_page_cost
from deckwatch.cli.table import table
from services import Program, agent, deckwatch_command, free_port, node_exporter, running

if TYPE_CHECKING:
    from collections.abc import Callable

CYCLES = 60
PERIOD = 1.0  # seconds
SCRAPES = 200
PAUSE = 0.6  # seconds between scrapes: the agent can keep up, and no two scrapes get the same snapshot

HANGS = """
exporters:
  system: {}
  hangs: {}
"""
HANGING_EXPORTER = """
import time
from deckwatch.exporter import Exporter, Settings, Target

class Hangs:
    def collect(self):
        time.sleep(3600)
        return ()

HANGS = Exporter(name="hangs", settings=Settings, open=lambda settings, context: Target({"hangs": Hangs()}))
"""


def port_of(program: Program) -> int:
    return int(program.url.rpartition(":")[2])


def cpu(program: Program, scrapers: int) -> float:
    return cpu_of_a_cycle([program.process.pid], [port_of(program)], PERIOD, CYCLES, scrapers)


def latencies(program: Program) -> tuple[float, float]:
    """Return the median and 99th percentile duration of scrapes, in milliseconds."""
    scraper = Scraper(port_of(program))
    for _ in range(int(SETTLE / PAUSE)):
        scraper.scrape()
        time.sleep(PAUSE)
    times = []
    for _ in range(SCRAPES):
        began = time.perf_counter()
        scraper.scrape()
        times.append((time.perf_counter() - began) * 1000)
        time.sleep(PAUSE)
    return quantile(times, 0.5), quantile(times, 0.99)


def age(program: Program) -> float:
    """Return the 95th percentile age of scraped snapshots, in seconds."""
    found: list[float] = []
    settled = int(SETTLE / PERIOD)
    for number in range(settled + 20):
        lines = program.metrics().splitlines()
        if number >= settled:
            found += [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("deckwatch_snapshot_age_")]
        time.sleep(PERIOD)
    return quantile(found, 0.95)


def start(folder: Path) -> tuple[str, ...]:
    """Return the time from the start of the program to its first metrics."""
    (folder / "start").mkdir()
    began = time.perf_counter()
    with agent(folder / "start", "interval: 15s\n"):
        return "start until the first metrics", f"{time.perf_counter() - began:.2f} s", "-", "-"


def row(what: str, unit: str, ours: float, peer: float) -> tuple[str, ...]:
    return what, f"{ours:.2f} {unit}", f"{peer:.2f} {unit}", f"{ours / peer:.2f}" if peer else "-"


def host(folder: Path) -> list[tuple[str, ...]]:
    available = same_coverage(folder)
    rows = []
    (folder / "peer").mkdir()
    (folder / "ours").mkdir()
    with node_exporter(folder / "peer", *available) as peer, agent(folder / "ours", "interval: 15s\n") as ours:
        rows.append(row("CPU of a cycle, one scraper", "ms", cpu(ours, 1), cpu(peer, 1)))
        rows.append(row("CPU of a cycle, two scrapers", "ms", cpu(ours, 2), cpu(peer, 2)))
        (p50, p99), (peer50, peer99) = latencies(ours), latencies(peer)
        rows.append(row("scrape, p50", "ms", p50, peer50))
        rows.append(row("scrape, p99", "ms", p99, peer99))
        rows.append(("age of the snapshots of a scrape, p95", f"{age(ours):.2f} s", "-", "-"))
        megabytes = [resident_bytes(program.process.pid) / 1e6 for program in (ours, peer)]
        rows.append(row("resident memory", "MB", *megabytes))
    rows.append(_while_one_hangs(folder, peer99))
    rows.append(start(folder))
    return rows


def _while_one_hangs(folder: Path, peer99: float) -> tuple[str, ...]:
    site = folder / "site"
    (site / "hangs-1.0.dist-info").mkdir(parents=True)
    (site / "hangs_exporter.py").write_text(HANGING_EXPORTER)
    (site / "hangs-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: hangs\nVersion: 1.0\n")
    (site / "hangs-1.0.dist-info" / "entry_points.txt").write_text(
        "[deckwatch.exporters]\nhangs = hangs_exporter:HANGS\n"
    )
    (folder / "hung").mkdir()
    (folder / "hung" / "deckwatch.yml").write_text("interval: 1s\n" + HANGS)
    port = free_port()
    command = deckwatch_command("run", "--listen", f"127.0.0.1:{port}")
    with running(
        command,
        f"http://127.0.0.1:{port}",
        "/-/healthy",
        folder / "hung" / "log",
        {"PYTHONPATH": str(site)},
        folder / "hung",
    ) as ours:
        time.sleep(2)
        _, p99 = latencies(ours)
    return row("scrape while a target hangs, p99", "ms", p99, peer99)


def main() -> None:
    sections: list[tuple[str, tuple[str, ...], Callable[[Path], list[tuple[str, ...]]]]] = [
        (
            "CPU of collection cycles",
            ("MEDIAN (LOWEST TO HIGHEST) OF 3 RUNS", "DECKWATCH", "PEERS, SAME COVERAGE", "PEERS, DEFAULTS"),
            cycles,
        ),
        ("The host, same coverage", ("", "DECKWATCH", "NODE_EXPORTER", "RATIO"), host),
        ("The host, Redis and PostgreSQL", ("", "DECKWATCH", "THREE GO EXPORTERS", "RATIO"), stack),
        (
            "1 000 Redis targets in one agent, every 15 s",
            ("", "DECKWATCH", "WHILE 100 ARE HUNG", "REDIS_EXPORTER, MULTI-TARGET"),
            redis_scale,
        ),
        ("Memory of an idle agent", ("", "RESIDENT"), idle_memory),
        ("Queues", ("", "VALUE", "RESIDENT", "EVENTS"), queues),
        ("Scrapes of Celery queues", ("", "DECKWATCH", "CELERY-EXPORTER"), celery_scrapes),
        ("Log rules", ("", "DECKWATCH", "PYTHON'S RE", "RATIO"), rules),
        ("Alert rules in Prometheus", ("HOSTS", "SERIES", "ALL RULES", "SLOWEST GROUP", "RESIDENT"), rule_evaluation),
        ("Logs to Loki", ("", "DECKWATCH", "PROMTAIL", "RATIO"), logs),
        ("Counting in an application", ("", "DECKWATCH", "PROMETHEUS_CLIENT, MULTI-PROCESS", "RATIO"), counting),
        ("Measuring a request (CPU time)", ("", "DECKWATCH", "PEER", "RATIO"), middleware),
        ("Adding up an application's processes", ("", "DECKWATCH", "PROMETHEUS_CLIENT", "RATIO"), aggregation),
        ("An authenticated scraper while others try passwords", ("", "QUIET", "FLOODED"), passwords),
        ("The status page", ("", "DECKWATCH"), lambda _folder: status_page_cost()),
        ("Encoding and serving", ("SERIES", "DECKWATCH", "PROMETHEUS_CLIENT", "RATIO", "OF WHICH"), encoding),
    ]
    words = [word.lower() for word in sys.argv[1:]]
    for title, header, measure in sections:
        if words and not any(word in title.lower() for word in words):
            continue
        with tempfile.TemporaryDirectory() as folder:
            rows = measure(Path(folder))
        sys.stdout.write(f"\n{title}\n\n{table(header, rows)}")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
