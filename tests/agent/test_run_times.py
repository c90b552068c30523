"""The rhythm: plain intervals without a scraper, runs that end shortly before each scrape with one."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.collection.run_times import MAX_BACKOFF, Rhythm
from deckwatch.collection.scrape_period import Beat


def _alone(interval: float, fixed: bool = False) -> Rhythm:
    return Rhythm(interval, lambda _after: None, fixed)


def _scraped(interval: float, period: float, fixed: bool = False, phase: float = 0.0) -> Rhythm:
    def next_beat(after: float) -> Beat:
        return Beat(phase + (math.floor((after - phase) / period) + 1) * period, period)

    return Rhythm(interval, next_beat, fixed)


def _runs(rhythm: Rhythm, start: float, count: int) -> list[float]:
    runs, previous = [], start
    for _ in range(count):
        previous = rhythm.next_run(previous, previous + 0.001)
        runs.append(previous)
    return runs


def test_without_a_scraper_runs_keep_their_interval() -> None:
    assert _runs(_alone(15), 1000, 3) == [1015, 1030, 1045]


def test_a_run_that_was_missed_for_long_is_not_made_up_for() -> None:
    assert _alone(15).next_run(1000, 5000) == 5015


@pytest.mark.parametrize("period", [5.0, 10.0, 15.0, 30.0, 60.0])
def test_each_scrape_finds_a_run_that_ended_less_than_a_second_ago(period: float) -> None:
    rhythm = _scraped(15, period)
    rhythm.ran(0.1, ok=True)

    ends = [run + 0.1 for run in _runs(rhythm, 1000, 40)]

    for beat in range(int(1000 // period) + 3, int(ends[-1] // period)):
        assert any(0 < beat * period - end <= 1.0 for end in ends), f"no fresh run at {beat * period}"


def test_a_period_longer_than_the_interval_is_divided_evenly() -> None:
    runs = _runs(_scraped(15, 60), 1000, 12)[2:]

    assert {round(later - earlier, 6) for earlier, later in pairwise(runs)} == {15.0}


def test_a_fixed_interval_is_never_undercut() -> None:
    runs = _runs(_scraped(60, 15, fixed=True), 1000, 6)

    assert {round(later - earlier, 6) for earlier, later in pairwise(runs)} == {60.0}


def test_a_failing_target_is_tried_less_often_up_to_once_a_minute() -> None:
    rhythm = _alone(15)
    gaps = []
    for _ in range(6):
        gaps.append(rhythm.wanted_gap)
        rhythm.ran(0.1, ok=False)

    assert gaps == [15, 15, 30, 60, 60, 60]


def test_one_success_ends_the_back_off() -> None:
    rhythm = _alone(15)
    for _ in range(5):
        rhythm.ran(0.1, ok=False)
    rhythm.ran(0.1, ok=True)

    assert rhythm.wanted_gap == 15


def test_back_off_never_makes_a_long_interval_shorter() -> None:
    rhythm = _alone(300)
    for _ in range(5):
        rhythm.ran(0.1, ok=False)

    assert rhythm.wanted_gap == 300 > MAX_BACKOFF


@given(
    interval=st.floats(0.5, 600),
    period=st.floats(1, 600),
    phase=st.floats(0, 600),
    late=st.floats(0.001, 1000),
    duration=st.floats(0, 100),
    failures=st.integers(0, 20),
    fixed=st.booleans(),
)
def test_the_next_run_lies_in_the_near_future_whatever_happened(
    interval: float, period: float, phase: float, late: float, duration: float, failures: int, fixed: bool
) -> None:
    rhythm = _scraped(interval, period, fixed, phase)
    for _ in range(failures):
        rhythm.ran(duration, ok=False)
    now = 10_000 + late

    planned = rhythm.next_run(10_000, now)

    assert now < planned <= now + 2 * max(rhythm.gap(now), period) + 1
