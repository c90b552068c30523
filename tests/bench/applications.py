"""Metrics of applications: the cost of counting, and of adding up the files of many processes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from bench.measure import quantile
from deckwatch.testing import opened
from deckwatch_exporters.apps import EXPORTER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CALLS = 100_000
ROUNDS = 5
LIVE, DEAD, SERIES = 256, 10_000, 20

COUNTING = """
import json, sys, time, timeit
if sys.argv[1] == "ours":
    from deckwatch import counter, histogram
    requests, took = counter("requests_total", "Requests.", ["method", "path"]), histogram("took_seconds", "", ["path"])
else:
    from prometheus_client import Counter, Histogram
    requests, took = Counter("requests_total", "", ["method", "path"]), Histogram("took_seconds", "", ["path"])
one, observed = requests.labels("GET", "/"), took.labels("/")
calls = {
    "inc()": lambda: one.inc(),
    'labels("GET", "/").inc()': lambda: requests.labels("GET", "/").inc(),
    "observe()": lambda: observed.observe(0.3),
    'labels("/").observe()': lambda: took.labels("/").observe(0.3),
}
count, rounds = int(sys.argv[2]), int(sys.argv[3])
for call in calls.values():
    call()
def cpu_seconds(call):
    return min(timeit.repeat(call, timer=time.process_time, number=count, repeat=rounds)) / count
print(json.dumps({name: cpu_seconds(call) for name, call in calls.items()}))
"""

WRITING = """
import os, sys
from deckwatch import counter
requests = counter("requests_total", "Requests.", ["path"])
for number in range(int(sys.argv[2])):
    child = os.fork() if number else 0
    if child == 0:
        for path in range(int(sys.argv[1])):
            requests.labels(f"/{path}").inc()
        if number:
            os._exit(0)
    else:
        os.waitpid(child, 0)
"""


def counting(folder: Path) -> list[tuple[str, ...]]:
    """Return the CPU time of a call, beside prometheus_client in its multi-process mode."""
    (folder / "theirs").mkdir()
    ours = _timed("ours", DECKWATCH_APP_DIR=str(folder), DECKWATCH_SERVICE="ours")
    theirs = _timed("theirs", PROMETHEUS_MULTIPROC_DIR=str(folder / "theirs"))
    return [
        (name, f"{ours[name] * 1e9:.0f} ns", f"{theirs[name] * 1e9:.0f} ns", f"{ours[name] / theirs[name]:.2f}")
        for name in ours
    ]


def _timed(which: str, **environ: str) -> dict[str, float]:
    command = [sys.executable, "-c", COUNTING, which, str(CALLS), str(ROUNDS)]
    done = subprocess.run(command, env={**os.environ, **environ}, stdout=subprocess.PIPE, check=True)
    times: dict[str, float] = json.loads(done.stdout)
    return times


def aggregation(folder: Path) -> list[tuple[str, ...]]:
    """Return the time to add up the files of living processes, before and after many processes have ended."""
    rows: list[tuple[str, ...]] = []
    for dead in (0, DEAD):
        _write(folder / "shop", LIVE + dead)
        with _living(folder / "shop", LIVE):
            peer = _time(lambda: _theirs(folder / "shop"), 2)
            with opened(EXPORTER, {"dir": str(folder)}) as target:
                first = _time(target.collect, 1)
                removing = []  # the files of ended processes are removed in parts
                while len(os.listdir(folder / "shop")) > 2 * LIVE + 2:
                    removing.append(_time(target.collect, 1))
                ours = _time(target.collect, ROUNDS)
        figure = f"{ours:.0f} ms (first {first:.0f} ms"
        figure += f", then {len(removing)} of up to {max(removing):.0f} ms)" if removing else ")"
        rows.append((f"{LIVE} files, {dead} processes ended", figure, f"{peer:.0f} ms", f"{ours / peer:.2f}"))
    return rows


def _write(service: Path, processes: int) -> None:
    environ = {**os.environ, "DECKWATCH_APP_DIR": str(service.parent), "DECKWATCH_SERVICE": service.name}
    subprocess.run([sys.executable, "-c", WRITING, str(SERIES), str(processes)], env=environ, check=True)


@contextlib.contextmanager
def _living(service: Path, count: int) -> Iterator[None]:
    """Hold the locks of some of the processes that wrote files, as if they were running."""
    with contextlib.ExitStack() as stack:
        for path in sorted(service.glob("*.lock"))[:count]:
            if path.name != "deckwatch.lock":
                fcntl.flock(stack.enter_context(path.open()), fcntl.LOCK_EX)
        yield


def _theirs(folder: Path) -> None:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))
    generate_latest(registry)


def _time(call: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        times.append((time.perf_counter() - began) * 1000)
    return quantile(times, 0.5)
