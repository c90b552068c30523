"""Which statements have their own series: the top ones, without frequent changes."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from deckwatch_exporters.postgres.sticky_top import StickyTop

_updates = st.lists(
    st.tuples(
        st.dictionaries(st.integers(0, 20), st.floats(0.001, 1e9), max_size=10),
        st.floats(0, 5000),
    ),
    max_size=40,
)


@given(st.integers(0, 5), _updates)
def test_the_number_of_members_never_exceeds_the_limit(
    size: int, updates: list[tuple[dict[int, float], float]]
) -> None:
    top: StickyTop[int] = StickyTop(size)
    now, seen = 0.0, set[int]()
    for done, pause in updates:
        now += pause
        top.update(done, now)
        seen |= done.keys()

        assert len(top.members) <= size
        assert top.members <= seen
        assert len(top.members) == min(size, len(seen))


@given(st.integers(1, 5), _updates)
def test_a_new_member_is_replaced_within_ten_minutes_only_by_ten_times_its_value(
    size: int, updates: list[tuple[dict[int, float], float]]
) -> None:
    top: StickyTop[int] = StickyTop(size)
    now, since, done_by = 0.0, dict[int, float](), Counter[int]()
    for done, pause in updates:
        now += pause
        before = top.members
        top.update(done, now)
        done_by.update(done)
        for left in before - top.members:
            most = max(done_by[came] for came in top.members - before)
            assert now - since[left] >= 600 or most > 10 * done.get(left, 0)
        since |= dict.fromkeys(top.members - before, now)


def test_a_very_high_value_enters_immediately() -> None:
    top: StickyTop[str] = StickyTop(2)
    top.update({"a": 1.0, "b": 1.0}, 0)
    top.update({"a": 1.0, "c": 100.0}, 1)

    assert top.members == {"a", "c"}


@given(_updates)
def test_the_clock_can_go_backwards(updates: list[tuple[dict[int, float], float]]) -> None:
    top: StickyTop[int] = StickyTop(3)
    for done, moment in updates:
        top.update(done, moment)

    assert len(top.members) <= 3


def test_a_clearly_higher_value_eventually_replaces_the_last_member() -> None:
    top: StickyTop[str] = StickyTop(2)
    for minute in range(60):
        top.update({"a": 10.0, "b": 5.0} | ({"c": 20.0} if minute >= 5 else {}), minute * 60.0)

    assert top.members == {"a", "c"}


def test_a_slightly_higher_value_replaces_no_member() -> None:
    top: StickyTop[str] = StickyTop(1)
    for minute in range(600):
        top.update({"a": 10.0} | ({"b": 13.0} if minute >= 5 else {}), minute * 60.0)

    assert top.members == {"a"}


def test_a_member_with_only_old_activity_is_replaced_by_a_currently_active_one() -> None:
    top: StickyTop[str] = StickyTop(1)
    top.update({"then": 1000.0}, 0)
    for hour in range(1, 24):
        top.update({"now": 1.0}, hour * 3600.0)

    assert top.members == {"now"}


def test_an_idle_member_stays_while_all_others_are_idle() -> None:
    top: StickyTop[str] = StickyTop(2)
    top.update({"a": 1.0}, 0)
    for hour in range(200):
        top.update({}, hour * 3600.0)

    assert top.members == {"a"}


def test_past_activity_is_eventually_forgotten() -> None:
    top: StickyTop[int] = StickyTop(2)
    for hour in range(1000):
        top.update({-1: 100.0, -2: 100.0, hour: 1.0}, hour * 3600.0)

    assert len(top._scores) < 50
