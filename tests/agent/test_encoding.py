"""The text formats: encoded samples parse back to the same samples."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from deckwatch.metrics.declaration import Counter, Exemplar, Extra, Gauge, Metric, MetricType, Sample
from deckwatch.metrics.encoding import Encoder, format_numbers, openmetrics_header, text_header

# Surrogates represent bytes that are not UTF-8. They are replaced (see test_declaration), so they do not round-trip.
LABEL_VALUES = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.one_of(st.floats(), st.integers(-(2**53), 2**53), st.booleans())


def _documents(metric: Metric, samples: list[Sample]) -> tuple[str, str]:
    families = Encoder().families(samples)
    text = text_header(metric) + "".join(family.text for family in families)
    openmetrics = openmetrics_header(metric) + "".join(family.openmetrics for family in families) + "# EOF\n"
    return text, openmetrics


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


@given(st.dictionaries(LABEL_VALUES, NUMBERS, min_size=1, max_size=20), st.text(st.characters(codec="utf-8")))
def test_any_label_value_number_and_help_parses_back_in_both_formats(series: dict[str, float], help_text: str) -> None:
    metric = Gauge("deckwatch_things", help_text, ["what"])
    text, openmetrics = _documents(metric, [metric(value, what=what) for what, value in series.items()])

    for families in (list(parse_text(text)), list(parse_openmetrics(openmetrics))):
        assert [family.type for family in families] == ["gauge"]
        parsed = {sample.labels["what"]: sample.value for sample in families[0].samples}
        assert parsed.keys() == series.keys()
        assert all(_same(parsed[what], value) for what, value in series.items())


@given(st.lists(st.one_of(NUMBERS, st.integers()), min_size=1))
def test_every_number_round_trips_exactly(values: list[float]) -> None:
    written = format_numbers(values)

    assert len(written) == len(values)
    assert all(_same(float(text), float(value)) for text, value in zip(written, values, strict=True))


@pytest.mark.parametrize(("value", "text"), [(math.inf, "+Inf"), (-math.inf, "-Inf"), (math.nan, "NaN"), (True, "1")])
def test_non_finite_numbers_are_spelled_as_the_formats_require(value: float, text: str) -> None:
    assert format_numbers([value]) == [text]


@pytest.mark.parametrize("value", [None, "1", [1], {}, [], object()])
def test_a_value_that_is_not_a_number_is_rejected(value: Any) -> None:
    with pytest.raises(TypeError, match="not a number"):
        format_numbers([1.0, value, 2.0])


def test_an_encoder_forgets_series_that_no_longer_exist() -> None:
    metric = Gauge("x", "X.", ["pid"])
    encoder = Encoder()
    for start in range(0, 20_000, 100):
        encoder.families([metric(1, pid=str(pid)) for pid in range(start, start + 100)])

    assert len(encoder._layout.starts) == 100


@pytest.mark.parametrize(
    ("name", "type", "family", "declared"),
    [
        ("node_intr_total", "counter", "node_intr", "counter"),
        ("pg_stat_database_xact_commit", "counter", "pg_stat_database_xact_commit", "unknown"),
        ("node_uname_info", "info", "node_uname", "info"),
        ("node_load1", "gauge", "node_load1", "gauge"),
    ],
)
def test_openmetrics_declarations_keep_sample_names_unchanged(
    name: str, type: MetricType, family: str, declared: str
) -> None:
    metric = Metric(name, type, "X.")
    _, document = _documents(metric, [metric(1)])

    (parsed,) = parse_openmetrics(document)

    assert (parsed.name, parsed.type, parsed.samples[0].name) == (family, declared, name)


def test_a_counter_beside_a_gauge_of_its_family_name_is_declared_unknown() -> None:
    assert "# TYPE jobs_total unknown\n" in openmetrics_header(Counter("jobs_total", "J."), frozenset({"jobs"}))


def test_timestamps_and_exemplars_are_encoded_if_the_format_supports_them() -> None:
    metric = Counter("x_total", "X.")
    extra = Extra(timestamp=1.5, exemplar=Exemplar((("trace_id", "abc"),), 0.25, 1.25))
    (family,) = Encoder().families([metric(3)._replace(extra=extra)])

    assert family.text == "x_total 3 1500\n"
    assert family.openmetrics == 'x_total 3 1.5 # {trace_id="abc"} 0.25 1.25\n'
