"""Numbers, times and lines on the status page."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.status_page import sparkline, texts


@pytest.mark.parametrize(
    ("value", "unit", "per_second", "text"),
    [
        (None, "bytes", False, "\u2013"),
        (0, "", False, "0"),
        (7, "", False, "7"),
        (12_345, "", True, "12.3k/s"),
        (999.7, "", False, "1.0k"),
        (0.25, "", True, "0.2/s"),
        (1024, "bytes", False, "1.0 KiB"),
        (1_395_864_371, "bytes", False, "1.3 GiB"),
        (0.874, "ratio", False, "87%"),
        (0.004, "ratio", False, "0.4%"),
        (1.0, "ratio", False, "100%"),
        (0.012, "seconds", False, "12 ms"),
        (3.42, "seconds", False, "3.4 s"),
        (90, "seconds", False, "2 min"),
        (7200, "seconds", False, "2 h"),
        (864_000, "seconds", False, "10 d"),
    ],
)
def test_a_figure_is_shown_with_its_unit(value: float | None, unit: str, per_second: bool, text: str) -> None:
    assert texts.number(value, unit, per_second) == text


def test_times_are_relative() -> None:
    assert texts.ago(100, 112) == "12 s ago"
    assert texts.ago(103, 100) == "in 3.0 s"
    assert texts.ago(100.2, 100) == "now"
    assert texts.ago(None, 100) == ""


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["", "bytes", "ratio", "seconds"]))
def test_any_number_has_a_text(value: float, unit: str) -> None:
    assert texts.number(value, unit)


@given(st.lists(st.floats(width=32), max_size=120))
def test_a_sparkline_stays_in_its_box(values: list[float]) -> None:
    drawn = sparkline.path(values)

    points = [pair.split() for pair in drawn.replace("M", "L").split("L") if pair]
    assert len(points) in (0, sum(map(math.isfinite, values)))
    for x, y in points:
        assert 0 <= float(x) <= sparkline.WIDTH
        assert 0 <= float(y) <= sparkline.HEIGHT


def test_a_gap_in_the_values_is_a_gap_in_the_line() -> None:
    assert sparkline.path([1.0, 2.0, math.nan, 3.0]).count("M") == 2
    assert sparkline.path([1.0]) == ""
