"""The cost of a sample from the collector to the response, compared with prometheus_client."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import CollectorRegistry

from deckwatch.collection.board import Board, Selection
from deckwatch.collection.run import NamedCollector, SeriesBudget, run_once
from deckwatch.metrics.declaration import Counter, Sample
from deckwatch.metrics.encoding import Encoder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REQUESTS = Counter("bench_requests_total", "Requests.", ["method", "handler"])
SIZES = (1_000, 10_000, 100_000, 1_000_000)


class Figures:
    """Counters that all change between runs, so that no rendered sample can be reused."""

    def __init__(self, size: int) -> None:
        self._first = [(f"/path/{number}", number * 0.37) for number in range(size)]
        self._looks = 0

    def __iter__(self) -> Iterator[tuple[str, float]]:
        self._looks += 1
        moved = float(self._looks)
        for handler, value in self._first:
            yield handler, value + moved


class Ours:
    def __init__(self, size: int) -> None:
        self.figures = Figures(size)

    def collect(self) -> Iterator[Sample]:
        for handler, value in self.figures:
            yield REQUESTS(value, method="GET", handler=handler)


class Theirs:
    def __init__(self, size: int) -> None:
        self.figures = Figures(size)

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily("bench_requests", "Requests.", labels=["method", "handler"])
        for handler, value in self.figures:
            family.add_metric(["GET", handler], value)
        yield family


def encoding(_folder: Path) -> list[tuple[str, ...]]:
    """Return the microseconds per sample to collect, encode and join as text, when all values have changed."""
    rows: list[tuple[str, ...]] = []
    for size in SIZES:
        ours, of_which = _ours(size)
        theirs = _theirs(size)
        rows.append((str(size), f"{ours:.2f} us", f"{theirs:.2f} us", f"{ours / theirs:.2f}", of_which))
    return rows


def _ours(size: int) -> tuple[float, str]:
    board = Board()
    named = NamedCollector("bench", Ours(size))
    board.add(named, "bench", "", 3600)
    encoder, budget = Encoder(), SeriesBudget(2_000_000)
    rounds = max(3, 200_000 // size)
    best = {"encode": float("inf"), "all": float("inf"), "serve again": float("inf")}
    for _ in range(rounds):
        samples = [item for item in named.collector.collect() if isinstance(item, Sample)]
        gc.collect()
        began = time.perf_counter()
        encoder.families(samples)
        best["encode"] = min(best["encode"], time.perf_counter() - began)
        began = time.perf_counter()
        board.post(run_once(named, encoder, budget), 3600)
        board.render(Selection(), openmetrics=False, compress=False)
        best["all"] = min(best["all"], time.perf_counter() - began)
        began = time.perf_counter()
        board.render(Selection(), openmetrics=False, compress=False)
        best["serve again"] = min(best["serve again"], time.perf_counter() - began)
    encode, again = best["encode"] / size * 1e6, best["serve again"] * 1e3
    return best["all"] / size * 1e6, f"encoding {encode:.2f} us; a second scraper {again:.2f} ms in all"


def _theirs(size: int) -> float:
    registry = CollectorRegistry()
    registry.register(Theirs(size))
    best = float("inf")
    for _ in range(max(1, 20_000 // size)):
        gc.collect()
        began = time.perf_counter()
        generate_latest(registry)
        best = min(best, time.perf_counter() - began)
    return best / size * 1e6
