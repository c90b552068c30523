"""From rows to samples."""

from __future__ import annotations

import datetime
import decimal
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch_exporters.business.rows import Figures, QueryFailed, Table, declared, figures
from deckwatch_exporters.business.settings import QuerySettings


def made(table: Table, *metrics: dict[str, object]) -> Figures:
    query = QuerySettings.model_validate({"query": "select", "metrics": metrics})
    return figures(query, [declared(metric) for metric in query.metrics], table)


def values(found: Figures) -> dict[str, float]:
    return {sample.series.text.rstrip(): sample.value for sample in found.samples}


def test_one_query_gives_several_metrics_with_labels_from_columns() -> None:
    table = Table(("status", "n", "amount"), [(b"paid", b"2", b"55.5"), (b"open", b"1", b"7")])

    found = made(
        table,
        {"name": "orders", "labels": ["status"], "value": "n"},
        {"name": "revenue", "labels": ["status"], "value": "amount"},
    )

    assert values(found) == {
        'orders{status="paid"}': 2,
        'orders{status="open"}': 1,
        'revenue{status="paid"}': 55.5,
        'revenue{status="open"}': 7,
    }


@pytest.mark.parametrize(
    ("value", "figure"),
    [
        (b"t", 1),
        (False, 0),
        (decimal.Decimal("1.5"), 1.5),
        (b"2026-11-26 10:00:00+00", 1_795_687_200),
        ("2026-11-26T11:00:00+01:00", 1_795_687_200),
        (datetime.datetime(2026, 11, 26, 10), 1_795_687_200),
        (datetime.date(1970, 1, 2), 86_400),
        (datetime.timedelta(minutes=1), 60),
    ],
)
def test_times_and_booleans_are_numbers(value: object, figure: float) -> None:
    assert values(made(Table(("value",), [(value,)]), {"name": "x"})) == {"x": figure}


def test_null_is_absent_as_a_value_and_empty_as_a_label() -> None:
    table = Table(("status", "value"), [(None, 1), ("open", None)])

    assert values(made(table, {"name": "x", "labels": ["status"]})) == {'x{status=""}': 1}


def test_a_value_that_is_no_number_costs_its_own_series_and_names_its_row() -> None:
    table = Table(("status", "value"), [("paid", 1), ("open", "many"), ("gone", math.nan)])

    found = made(table, {"name": "x", "labels": ["status"]})

    assert values(found) == {'x{status="paid"}': 1}
    assert found.malformed == [("x, row 2: value", "many"), ("x, row 3: value", "nan")]


def test_rows_with_equal_labels_are_reported_and_the_others_served() -> None:
    table = Table(("status", "value"), [("paid", 1), ("open", 2), ("paid", 3)])

    found = made(table, {"name": "x", "labels": ["status"]})

    assert values(found) == {'x{status="open"}': 2}
    assert found.malformed == [("x, row 1: 2 rows with the same labels", "status='paid'")]


def test_a_metric_over_its_limit_is_not_exposed_and_the_others_are() -> None:
    table = Table(("id", "value"), [(str(number), number) for number in range(11)])

    found = made(table, {"name": "x", "labels": ["id"], "max_series": 10}, {"name": "y", "labels": ["id"]})

    assert found.limited == {"x": 10}
    assert len(found.samples) == 11


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (("status", "n"), "does not return the column 'value'; it returns: status, n"),
        (("value",), "does not return the column 'status'"),
        (("status", "value", "extra"), "no metric uses the column 'extra'"),
        (("status", "value", "value"), "the column 'value' more than once"),
    ],
)
def test_wrong_columns_are_an_error_that_names_them(columns: tuple[str, ...], message: str) -> None:
    with pytest.raises(QueryFailed, match=message):
        made(Table(columns, []), {"name": "x", "labels": ["status"]})


def test_a_histogram_counts_the_values_of_rows() -> None:
    table = Table(("kind", "value"), [("a", 5), ("a", 7), ("a", 1000), ("b", 1)])

    found = made(table, {"name": "x", "type": "histogram", "labels": ["kind"], "buckets": [5, 10]})

    assert values(found)['x_bucket{kind="a",le="5.0"}'] == 1
    assert values(found)['x_bucket{kind="a",le="10.0"}'] == 2
    assert values(found)['x_bucket{kind="a",le="+Inf"}'] == 3
    assert values(found)['x_sum{kind="a"}'] == 1012
    assert values(found)['x_count{kind="b"}'] == 1


def test_a_histogram_is_taken_over_from_the_counts_of_its_buckets() -> None:
    table = Table(("le", "value", "sum"), [("10", 3, 20), ("5", 1, 20), ("+Inf", 4, 20)])

    found = made(table, {"name": "x", "type": "histogram", "le": "le"})

    assert values(found) == {
        'x_bucket{le="5.0"}': 1,
        'x_bucket{le="10.0"}': 3,
        'x_bucket{le="+Inf"}': 4,
        "x_sum": 20,
        "x_count": 4,
    }


def test_an_info_metric_has_the_value_1() -> None:
    table = Table(("version",), [("1.2",)])

    assert values(made(table, {"name": "app_info", "type": "info", "labels": ["version"]})) == {
        'app_info{version="1.2"}': 1
    }


def test_a_counter_below_0_is_malformed() -> None:
    found = made(Table(("value",), [(-1,)]), {"name": "x_total", "type": "counter"})

    assert found.samples == []
    assert found.malformed == [("x_total, row 1: a counter below 0", "-1")]


CELL = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.decimals(), st.dates()
)


@given(st.lists(st.tuples(CELL, CELL), max_size=20))
def test_any_rows_give_distinct_finite_series(rows: list[tuple[object, object]]) -> None:
    found = made(Table(("label", "value"), rows), {"name": "x", "labels": ["label"]})

    assert all(math.isfinite(sample.value) for sample in found.samples)
    assert len({sample.series.text for sample in found.samples}) == len(found.samples) <= len(rows)
