"""The lower bound of the age of the oldest message, from counts alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deckwatch_exporters.queues.waiting import Counts, WaitingAges


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def bounds(*counts: Counts, step: float = 10.0) -> list[float]:
    """Return the bound after each of the counts, which are `step` seconds apart."""
    clock = Clock()
    ages = WaitingAges(clock)
    found = []
    for count in counts:
        found.append(ages.age("jobs", count).seconds)
        clock.now += step
    return found


def test_the_bound_grows_while_nothing_is_delivered() -> None:
    assert bounds(*[Counts(5, 0, delivered=7)] * 3) == [0, 10, 20]
    assert bounds(Counts(5, 0), Counts(6, 0), Counts(6, 0)) == [0, 10, 20]


def test_messages_that_are_delivered_end_the_wait_of_as_many() -> None:
    found = bounds(Counts(2, 1, 0), Counts(2, 1, 1), Counts(2, 1, 2), Counts(2, 1, 2))
    assert found == [0, 10, 10, 20], "after two deliveries, the oldest waits since the second moment at the latest"


def test_an_empty_queue_ends_the_wait() -> None:
    assert bounds(Counts(2, 1, 0), Counts(0, 1, 2), Counts(1, 1, 2), Counts(1, 1, 2)) == [0, 0, 0, 10]


def test_consumers_without_counters_make_the_age_unknown() -> None:
    assert bounds(Counts(5, 1), Counts(5, 1), Counts(5, 0), Counts(5, 0)) == [0, 0, 0, 10]


def test_messages_that_expire_end_the_wait() -> None:
    expiring = [Counts(5, 0, 0, enqueued, drops=True) for enqueued in (5, 8, 11)]
    assert bounds(*expiring) == [0, 10, 10]


def test_counters_that_start_again_end_the_wait() -> None:
    assert bounds(Counts(5, 1, 100), Counts(5, 1, 0), Counts(5, 1, 0)) == [0, 0, 10]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=600), st.randoms())
def test_the_bound_never_exceeds_the_real_age_in_whichever_order_messages_leave(
    steps: list[tuple[int, int]], random: object
) -> None:
    clock, queue, delivered = Clock(), [], 0
    ages = WaitingAges(clock)
    for added, taken in steps:
        clock.now += 1
        queue += [clock.now] * added
        for _ in range(min(taken, len(queue))):
            queue.pop(random.randrange(len(queue)))  # type: ignore[attr-defined]  # Hypothesis's random.Random
            delivered += 1
        bound = ages.age("jobs", Counts(len(queue), 1, delivered)).seconds
        assert bound <= (clock.now - min(queue) if queue else 0)
