"""When a job runs: at its interval without a scraper, or finishing shortly before each scrape."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.collection.run_times import MAX_BACKOFF, RunTimes
from deckwatch.collection.scrape_period import ExpectedScrape


def _alone(interval: float, fixed: bool = False) -> RunTimes:
    return RunTimes(interval, lambda _after: None, fixed)


def _scraped(interval: float, period: float, fixed: bool = False, phase: float = 0.0) -> RunTimes:
    def next_scrape(after: float) -> ExpectedScrape:
        return ExpectedScrape(phase + (math.floor((after - phase) / period) + 1) * period, period)

    return RunTimes(interval, next_scrape, fixed)


def _runs(run_times: RunTimes, start: float, count: int) -> list[float]:
    runs, previous = [], start
    for _ in range(count):
        previous = run_times.next_run(previous, previous + 0.001)
        runs.append(previous)
    return runs


def test_without_a_scraper_runs_keep_their_interval() -> None:
    assert _runs(_alone(15), 1000, 3) == [1015, 1030, 1045]


def test_runs_missed_during_a_long_pause_are_skipped() -> None:
    assert _alone(15).next_run(1000, 5000) == 5015


@pytest.mark.parametrize("period", [5.0, 10.0, 15.0, 30.0, 60.0])
def test_each_scrape_gets_a_run_that_finished_less_than_a_second_ago(period: float) -> None:
    run_times = _scraped(15, period)
    run_times.ran(0.1, reached=True)

    ends = [run + 0.1 for run in _runs(run_times, 1000, 40)]

    for beat in range(int(1000 // period) + 3, int(ends[-1] // period)):
        assert any(0 < beat * period - end <= 1.0 for end in ends), f"no fresh run at {beat * period}"


def test_a_period_longer_than_the_interval_is_divided_evenly() -> None:
    runs = _runs(_scraped(15, 60), 1000, 12)[2:]

    assert {round(later - earlier, 6) for earlier, later in pairwise(runs)} == {15.0}


def test_runs_are_never_more_frequent_than_a_fixed_interval() -> None:
    runs = _runs(_scraped(60, 15, fixed=True), 1000, 6)

    assert {round(later - earlier, 6) for earlier, later in pairwise(runs)} == {60.0}


def _gaps(run_times: RunTimes, failures: int) -> list[float]:
    gaps = []
    for _ in range(failures):
        gaps.append(run_times.gap(1000.0))
        run_times.ran(0.1, reached=False)
    return gaps


def test_retries_of_a_down_target_back_off_to_every_five_seconds() -> None:
    assert _gaps(_alone(1), 6) == [1, 1, 2, 4, MAX_BACKOFF, MAX_BACKOFF]


@pytest.mark.parametrize("period", [1.0, 5.0, 15.0, 60.0])
def test_a_target_that_recovers_is_retried_within_a_scrape_period_and_five_seconds(period: float) -> None:
    assert max(_gaps(_scraped(15, period), 10)) <= max(period, 5.0)


def test_one_success_ends_the_backoff() -> None:
    run_times = _alone(1)
    _gaps(run_times, 5)
    run_times.ran(0.1, reached=True)

    assert run_times.gap(1000.0) == 1


def test_backoff_never_shortens_a_long_interval() -> None:
    assert _gaps(_alone(300), 5)[-1] == 300 > MAX_BACKOFF


@given(
    interval=st.floats(0.5, 600),
    period=st.floats(1, 600),
    phase=st.floats(0, 600),
    late=st.floats(0.001, 1000),
    duration=st.floats(0, 100),
    failures=st.integers(0, 20),
    fixed=st.booleans(),
)
def test_the_next_run_is_always_in_the_near_future(
    interval: float, period: float, phase: float, late: float, duration: float, failures: int, fixed: bool
) -> None:
    run_times = _scraped(interval, period, fixed, phase)
    for _ in range(failures):
        run_times.ran(duration, reached=False)
    now = 10_000 + late

    planned = run_times.next_run(10_000, now)

    assert now < planned <= now + 2 * max(run_times.gap(now), period) + 1
