"""Declared metrics: a call creates a sample, wrong labels raise, and unused series free their memory."""

from __future__ import annotations

import gc
from types import ModuleType

import pytest

from deckwatch.metrics.declaration import Counter, Gauge, Histogram, Metric, MetricPattern, declared_in, unit_of


def test_a_call_creates_a_sample_of_the_labelled_series() -> None:
    keys = Gauge("redis_db_keys", "Keys.", ["db"])

    sample = keys(7, db="db0")

    assert (sample.series.text, sample.value) == ('redis_db_keys{db="db0"} ', 7)


def test_the_same_labels_in_any_order_are_rendered_in_the_declared_order() -> None:
    metric = Counter("x_total", "X.", ["a", "b"])

    assert metric(1, b="2", a="1").series.text == metric(1, a="1", b="2").series.text == 'x_total{a="1",b="2"} '


def test_a_series_is_created_once_while_a_sample_references_it() -> None:
    metric = Gauge("x", "X.", ["a"])

    first, second = metric(1, a="1"), metric(2, a="1")

    assert first.series is second.series


def test_an_unreferenced_series_is_freed() -> None:
    metric = Gauge("x", "X.", ["pid"])

    for pid in range(10_000):
        metric(1, pid=str(pid))
    gc.collect()

    assert len(metric._series) < 100


@pytest.mark.parametrize("labels", [{}, {"b": "1"}, {"a": "1", "b": "2"}])
def test_undeclared_labels_raise_a_type_error_that_names_them(labels: dict[str, str]) -> None:
    with pytest.raises(TypeError, match=r"x takes the labels \(a\)"):
        Gauge("x", "X.", ["a"])(1, **labels)


def test_a_label_value_that_is_not_a_string_raises_a_type_error() -> None:
    with pytest.raises(TypeError, match="'a' is 5"):
        Gauge("x", "X.", ["a"])(1, a=5)  # type: ignore[arg-type]  # the fault under test


@pytest.mark.parametrize("name", ["", "9x", "a-b", "a b", "ä"])
def test_a_name_that_is_not_legacy_ascii_is_rejected_at_declaration(name: str) -> None:
    with pytest.raises(ValueError, match="not a metric name"):
        Gauge(name, "X.")


def test_label_values_are_escaped_and_undecodable_bytes_replaced() -> None:
    metric = Gauge("x", "X.", ["a"])

    assert metric(1, a='back\\slash "quote"\nline').series.text == 'x{a="back\\\\slash \\"quote\\"\\nline"} '
    assert metric(1, a=b"\xff".decode("utf-8", "surrogateescape")).series.text == 'x{a="?"} '


def test_a_declared_target_label_is_renamed_because_the_board_adds_its_own() -> None:
    series = Gauge("x", "X.", ["target"])(1, target="theirs").series

    assert series.text_for("ours") == 'x{target="ours",exported_target="theirs"} '


def test_a_histogram_is_exposed_with_cumulative_buckets_a_sum_and_a_count() -> None:
    duration = Histogram("d_seconds", "D.", ["op"])

    lines = [f"{s.series.text}{s.value}" for s in duration.cumulative({0.1: 1, float("inf"): 3}, 2.5, op="get")]

    assert lines == [
        'd_seconds_bucket{op="get",le="0.1"} 1',
        'd_seconds_bucket{op="get",le="+Inf"} 3',
        'd_seconds_sum{op="get"} 2.5',
        'd_seconds_count{op="get"} 3',
    ]


def test_a_pattern_declares_metrics_for_names_found_on_the_host() -> None:
    memory = MetricPattern("node_memory_*", "gauge", "Field {}.")

    assert memory.named("Active(anon)").name == "node_memory_Active_anon_"
    assert memory.named("X") is memory.named("X")
    assert memory.named("X").help == "Field X."
    assert memory.matches("node_memory_X")
    assert not memory.matches("node_memory_")


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("x_seconds_total", "seconds"),
        ("x_bytes", "bytes"),
        ("x_total", ""),
        ("x_hit_ratio", "ratio"),
        ("seconds", "seconds"),
    ],
)
def test_the_unit_is_derived_from_the_name(name: str, unit: str) -> None:
    assert unit_of(name) == unit


def test_the_catalogue_of_a_module_finds_every_declaration_once() -> None:
    module = ModuleType("m")
    one, two, three = Gauge("a", "A."), Gauge("b", "B."), MetricPattern("c_*", "gauge", "C.")
    module.__dict__.update(ONE=one, AGAIN=one, TABLE={"x": two}, PAIR=(three, one), other=5)

    assert declared_in(module) == (one, two, three)


def test_a_label_may_not_be_declared_twice() -> None:
    with pytest.raises(ValueError, match="declared twice"):
        Metric("x", "gauge", "X.", ["a", "a"])
