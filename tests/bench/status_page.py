"""The cost of the status page with 1 000 targets, and of the history behind its sparklines."""

from __future__ import annotations

import time
import tracemalloc

from bench.measure import quantile
from deckwatch.collection.board import Board
from deckwatch.collection.key_figures import INTERVAL, KeyFigures
from deckwatch.collection.run import NamedCollector, SeriesBudget, run_once
from deckwatch.collection.status import AgentStatus, CollectorStatus
from deckwatch.exporter import Gauge, KeyFigure, Sample, Samples
from deckwatch.metrics.encoding import Encoder
from deckwatch.status_page.page import status_page

_TARGETS = 1000
_METRICS = [Gauge(f"x_{number}", "Value.") for number in range(100)]
_FIGURES = [KeyFigure(f"Figure {number}", f"x_{number}") for number in (0, 50, 99)]


class _Values:
    def __init__(self, start: int) -> None:
        self._start = start

    def collect(self) -> Samples:
        return [Sample(metric(0).series, self._start + number) for number, metric in enumerate(_METRICS)]


def status_page_cost() -> list[tuple[str, ...]]:
    """Rows with what is measured and the figure."""
    board = Board()
    names = [f"target{number:04}" for number in range(_TARGETS)]
    for number, name in enumerate(names):
        named = NamedCollector("x", _Values(number), name)
        board.add(named, "x", "", 3600)
        board.post(run_once(named, Encoder(), SeriesBudget(1000)), 3600)
    tracemalloc.start()
    figures = KeyFigures(board)
    for name in names:
        figures.watch("x", name, _FIGURES)
    keeping = []
    for _ in range(int(3600 / INTERVAL)):
        began = time.perf_counter()
        figures.collect()
        keeping.append((time.perf_counter() - began) * 1000)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    now = time.time()
    status = AgentStatus(
        "bench",
        now,
        None,
        True,
        collectors=tuple(CollectorStatus("x", "x", name, "ok", last_run=now, duration=0.001) for name in names),
        key_figures=figures.current(),
    )
    pages = []
    for _ in range(10):
        began = time.perf_counter()
        status_page(status, figures.history)
        pages.append((time.perf_counter() - began) * 1000)
    return [
        ("page with 1 000 targets", f"{quantile(pages, 0.5):.0f} ms"),
        ("history of 3 000 figures, each 30 s", f"{quantile(keeping, 0.5):.0f} ms"),
        ("memory of an hour of it", f"{held / 1e6:.1f} MB"),
    ]
