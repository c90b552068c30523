"""Key figures of targets and their history."""

from __future__ import annotations

import math

from deckwatch.collection.board import Board
from deckwatch.collection.key_figures import INTERVAL, KeyFigures
from deckwatch.collection.registry import Registry
from deckwatch.collection.run import NamedCollector, SeriesBudget, run_once
from deckwatch.exporter import Counter, Gauge, KeyFigure, Sample, Samples
from deckwatch.metrics.declaration import Metric
from deckwatch.metrics.encoding import Encoder

CALLS = Counter("x_calls_total", "Calls.", ["cmd"])
AGE = Gauge("x_age_seconds", "Age.", ["queue"])


class Fixed:
    def __init__(self) -> None:
        self.samples: list[Sample] = []

    def collect(self) -> Samples:
        return self.samples


class Watched:
    """A board with one collector, whose runs and clock the test controls."""

    def __init__(self, *figures: KeyFigure) -> None:
        self.now = 1000.0
        self.board = Board(clock=lambda: self.now)
        self.collector = Fixed()
        self.named = NamedCollector("x", self.collector, "a")
        self.board.add(self.named, "x", "", 60)
        self.figures = KeyFigures(self.board, clock=lambda: self.now)
        self.figures.watch("x", "a", figures)

    def run(self, *samples: Sample) -> None:
        self.collector.samples = list(samples)
        snapshot = run_once(self.named, Encoder(), SeriesBudget(100), clock=lambda: self.now)
        self.board.post(snapshot, 3 * INTERVAL)

    def keep(self) -> None:
        list(self.figures.collect())
        self.now += INTERVAL

    def value(self) -> float | None:
        return self.figures.current()[0].value


def test_a_figure_is_the_sum_of_the_series_with_its_labels() -> None:
    watched = Watched(KeyFigure("Age", "x_age_seconds", where={"queue": "b"}), KeyFigure("All", "x_age_seconds"))
    watched.run(AGE(3, queue="a"), AGE(4, queue="b"))

    assert [figure.value for figure in watched.figures.current()] == [4, 7]


def test_a_figure_is_the_largest_series_on_request() -> None:
    watched = Watched(KeyFigure("Oldest", "x_age_seconds", use="max"))
    watched.run(AGE(3, queue="a"), AGE(4, queue="b"))

    assert watched.value() == 4


def test_a_rate_needs_two_runs_and_ignores_a_reset() -> None:
    watched = Watched(KeyFigure("Calls", "x_calls_total", per_second=True))
    assert watched.value() is None
    watched.run(CALLS(10, cmd="get"))
    assert watched.value() is None
    watched.keep()
    watched.run(CALLS(40, cmd="get"))
    assert watched.value() == 1
    watched.keep()
    watched.run(CALLS(5, cmd="get"))
    assert watched.value() is None


def test_without_a_newer_run_the_rate_stays() -> None:
    watched = Watched(KeyFigure("Calls", "x_calls_total", per_second=True))
    for total in (0, 30):
        watched.run(CALLS(total, cmd="get"))
        watched.keep()
    watched.keep()

    assert watched.value() == 1


def test_a_target_that_is_gone_has_no_figure_and_leaves_a_gap() -> None:
    watched = Watched(KeyFigure("Age", "x_age_seconds"))
    watched.run(AGE(3, queue="a"))
    watched.keep()
    watched.run()
    watched.keep()

    assert watched.value() is None
    first, second = watched.figures.history("x", "a", "Age")
    assert first == 3
    assert math.isnan(second)


def test_the_history_is_one_hour() -> None:
    watched = Watched(KeyFigure("Age", "x_age_seconds"))
    for number in range(200):
        watched.run(AGE(number, queue="a"))
        watched.keep()

    history = watched.figures.history("x", "a", "Age")
    assert len(history) * INTERVAL == 3600
    assert history[-1] == 199


def test_every_key_figure_is_a_metric_of_its_exporter() -> None:
    registry = Registry.installed()
    for exporter in map(registry.get, registry.names()):
        names = {metric.name for metric in exporter.metrics if isinstance(metric, Metric)}
        for figure in exporter.key_figures:
            assert figure.metric in names, f"{exporter.name}: {figure.metric}"
