"""run_once() returns a snapshot, whatever a collector does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from deckwatch.collection.run import NamedCollector, SeriesBudget, Snapshot, run_once
from deckwatch.exporter import Malformed, NotAvailable, Unreachable
from deckwatch.metrics.declaration import Gauge, Sample
from deckwatch.metrics.encoding import Encoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

THING = Gauge("thing", "A thing.", ["n"])


class Yields:
    def __init__(self, produce: Callable[[], Iterable[Sample]]) -> None:
        self.collect = produce


def _run(produce: Callable[[], Iterable[Sample]], budget: SeriesBudget | None = None) -> Snapshot:
    return run_once(NamedCollector("test", Yields(produce)), Encoder(), budget or SeriesBudget(1000))


def _raise(failure: Exception) -> Iterable[Sample]:
    yield THING(1, n="before")
    raise failure


def test_a_successful_run_returns_its_encoded_samples() -> None:
    snapshot = _run(lambda: [THING(1, n="a"), THING(2, n="b")])

    assert not snapshot.error
    assert snapshot.series == 2
    assert snapshot.families[0].text == 'thing{n="a"} 1\nthing{n="b"} 2\n'


@pytest.mark.parametrize(
    "failure", [ValueError("bad"), OSError(5, "I/O error"), RuntimeError(), ZeroDivisionError("x")]
)
def test_a_run_that_raises_returns_no_samples_and_the_error(failure: Exception) -> None:
    snapshot = _run(lambda: _raise(failure))

    assert snapshot.families == ()
    assert snapshot.error.startswith(type(failure).__name__)


def test_an_unreachable_target_returns_only_the_samples_that_report_it() -> None:
    snapshot = _run(lambda: _raise(Unreachable("connection refused", [THING(0, n="up")])))

    assert snapshot.error == "connection refused"
    assert [family.text for family in snapshot.families] == ['thing{n="up"} 0\n']


def test_an_unreachable_target_without_a_message_is_not_a_success() -> None:
    snapshot = _run(lambda: _raise(Unreachable("")))

    assert snapshot.is_unreachable
    assert snapshot.error


def test_a_collector_that_exits_fails_its_run_only() -> None:
    def exits() -> Iterable[Sample]:
        raise SystemExit(3)

    assert _run(exits).error == "SystemExit: 3"


@pytest.mark.parametrize("item", [None, 5, "thing 1", (THING(1, n="a"), THING(2, n="b"))])
def test_anything_but_a_sample_fails_the_run(item: object) -> None:
    snapshot = _run(lambda: [item])  # type: ignore[list-item]  # what a collector must not yield

    assert f"collect() yielded a {type(item).__name__}" in snapshot.error


def test_a_nested_generator_fails_the_run_and_the_error_names_the_remedy() -> None:
    snapshot = _run(lambda: [iter([THING(1, n="a")])])  # type: ignore[list-item]  # what a collector must not yield

    assert "use `yield from`" in snapshot.error


def test_malformed_values_of_any_type_are_reported_as_text() -> None:
    snapshot = _run(lambda: [Malformed(7, b"x"), THING(1, n="a")])  # type: ignore[arg-type, list-item]  # ditto

    assert snapshot.malformed == (Malformed("7", "b'x'"),)
    assert snapshot.series == 1


def test_a_collector_that_yields_up_itself_does_not_make_it_come_twice() -> None:
    up = Gauge("shop_up", "Whether the shop answers.")
    named = NamedCollector("shop", Yields(lambda: [up(0), THING(1, n="a")]), up=up)

    snapshot = run_once(named, Encoder(), SeriesBudget(10))

    assert "".join(family.text for family in snapshot.families).count("shop_up") == 1
    assert any(family.text == "shop_up 1\n" for family in snapshot.families)


def test_an_error_is_one_line() -> None:
    assert _run(lambda: _raise(ValueError("one\ntwo\r\nthree"))).error == "ValueError: one two three"


def test_a_feature_that_the_host_lacks_is_a_success_without_samples() -> None:
    snapshot = _run(lambda: _raise(NotAvailable()))

    assert (snapshot.error, snapshot.families) == ("", ())


def test_a_wrong_label_fails_the_run_and_is_named() -> None:
    assert "thing takes the labels (n), got (wrong)" in _run(lambda: [THING(1, wrong="x")]).error


def test_a_wrong_value_fails_the_run() -> None:
    assert "None, not a number" in _run(lambda: [THING(None, n="a")]).error  # type: ignore[arg-type]  # the fault


def test_a_series_that_comes_twice_counts_once_and_the_rest_of_the_run_is_served() -> None:
    snapshot = _run(lambda: [THING(1, n="a"), THING(2, n="b"), THING(3, n="a")])
    (family,) = snapshot.families
    assert [(sample.series.labels, sample.value) for sample in family.samples] == [
        ((("n", "a"),), 1),
        ((("n", "b"),), 2),
    ]
    assert snapshot.error == ""
    assert snapshot.malformed == (Malformed('thing{n="a"}, collected twice', "3"),)


def test_a_thousand_series_over_the_budget_are_counted_and_dropped() -> None:
    snapshot = _run(lambda: (THING(n, n=str(n)) for n in range(1100)), SeriesBudget(100))

    assert (snapshot.series, snapshot.dropped, snapshot.error) == (100, 1000, "")


def test_the_collectors_of_a_target_share_its_budget() -> None:
    budget = SeriesBudget(10)
    six = Yields(lambda: [THING(n, n=str(n)) for n in range(6)])

    first = run_once(NamedCollector("a", six), Encoder(), budget)
    second = run_once(NamedCollector("b", six), Encoder(), budget)
    again = run_once(NamedCollector("a", six), Encoder(), budget)

    assert (first.series, second.series, second.dropped, again.series) == (6, 4, 2, 6)


def test_series_that_disappear_make_room_for_those_of_other_collectors() -> None:
    budget = SeriesBudget(10)
    counts = iter((8, 2))
    shrinking = Yields(lambda: [THING(n, n=str(n)) for n in range(next(counts))])
    nine = Yields(lambda: [THING(n, n=str(n)) for n in range(9)])

    runs = [run_once(NamedCollector(name, it), Encoder(), budget) for name, it in (("a", shrinking), ("b", nine)) * 2]

    assert [(run.series, run.dropped) for run in runs] == [(8, 0), (2, 7), (2, 0), (8, 1)]
