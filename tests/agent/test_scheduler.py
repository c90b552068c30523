"""The schedule: every probe runs at its rhythm, a hung one costs nothing but itself."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from deckwatch.collection.board import Board, Selection
from deckwatch.collection.run import SeriesBudget
from deckwatch.collection.scheduler import Schedule
from deckwatch.exporter import Probe
from deckwatch.metrics.declaration import Sample, gauge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

RUNS = gauge("runs", "Runs so far.", ["who"])


class Counting:
    def __init__(self, who: str) -> None:
        self.who = who
        self.runs = 0
        self.fail = False

    def collect(self) -> Iterable[Sample]:
        self.runs += 1
        if self.fail:
            raise OSError("told to fail")
        yield RUNS(self.runs, who=self.who)


class Hanging:
    def __init__(self) -> None:
        self.release = threading.Event()
        self.started = 0

    def collect(self) -> Iterable[Sample]:
        self.started += 1
        self.release.wait(60)
        yield RUNS(0, who="hanging")


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def schedule(board: Board) -> Iterator[Schedule]:
    schedule = Schedule(board)
    schedule.start()
    yield schedule
    schedule.stop()


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come to pass in time"
        time.sleep(0.01)


def _add(schedule: Schedule, name: str, collector: Counting | Hanging, interval: float = 0.1, target: str = "") -> None:
    probe = Probe(name, collector, target, close=lambda: setattr(collector, "closed", True))
    schedule.add(name + target, [probe], SeriesBudget(100), interval, exporter=name)


def _text(board: Board) -> str:
    return board.render(Selection(), openmetrics=False, compress=False).decode()


def test_a_probe_runs_at_once_and_then_at_its_interval(schedule: Schedule) -> None:
    counting = Counting("a")
    began = time.monotonic()
    _add(schedule, "a", counting)

    until(lambda: counting.runs >= 1)
    assert time.monotonic() - began < 1.0
    until(lambda: counting.runs >= 5)
    assert time.monotonic() - began >= 0.35


def test_a_clock_that_is_set_back_stops_nothing(board: Board) -> None:
    counting, offset = Counting("a"), [0.0]
    schedule = Schedule(board, clock=lambda: time.time() + offset[0])
    schedule.start()
    _add(schedule, "a", counting)
    until(lambda: counting.runs >= 2)

    offset[0] = -3600
    before = counting.runs
    until(lambda: counting.runs >= before + 3)
    began, runs = time.monotonic(), counting.runs
    until(lambda: counting.runs >= runs + 5)
    assert time.monotonic() - began > 0.3
    schedule.stop()


def test_a_hung_probe_is_never_started_twice_and_the_others_go_on(schedule: Schedule, board: Board) -> None:
    hanging, counting = Hanging(), Counting("a")
    _add(schedule, "hanging", hanging)
    _add(schedule, "a", counting)

    until(lambda: counting.runs >= 10)
    until(lambda: 'deckwatch_collector_success{collector="hanging"} 0' in _text(board))

    assert hanging.started == 1
    assert 'deckwatch_collector_success{collector="a"} 1' in _text(board)
    hanging.release.set()


def test_a_hung_probe_that_comes_back_is_served_again(schedule: Schedule, board: Board) -> None:
    hanging = Hanging()
    _add(schedule, "hanging", hanging)
    until(lambda: 'deckwatch_collector_success{collector="hanging"} 0' in _text(board))

    hanging.release.set()

    until(lambda: 'runs{who="hanging"} 0' in _text(board))


def test_fifty_hung_probes_leave_room_for_the_next(schedule: Schedule) -> None:
    hung = [Hanging() for _ in range(50)]
    for number, hanging in enumerate(hung):
        _add(schedule, f"hung{number}", hanging)
    until(lambda: all(hanging.started for hanging in hung))
    counting = Counting("late")
    _add(schedule, "late", counting)

    until(lambda: counting.runs >= 3)

    for hanging in hung:
        hanging.release.set()


def test_a_change_of_state_is_logged_once(schedule: Schedule, caplog: pytest.LogCaptureFixture) -> None:
    counting = Counting("a")
    with caplog.at_level("INFO", logger="deckwatch.collector"):
        counting.fail = True
        _add(schedule, "a", counting, interval=0.05)
        until(lambda: counting.runs >= 4)
        counting.fail = False
        until(lambda: any("works again" in record.getMessage() for record in caplog.records))

    assert [record.getMessage() for record in caplog.records] == [
        "a is failing: OSError: told to fail",
        "a works again",
    ]


def test_a_removed_probe_is_closed_and_runs_no_more(schedule: Schedule, board: Board) -> None:
    counting = Counting("a")
    _add(schedule, "a", counting)
    until(lambda: counting.runs >= 2)

    schedule.remove("a")

    until(lambda: getattr(counting, "closed", False))
    runs = counting.runs
    assert "runs{" not in _text(board)
    time.sleep(0.3)  # three intervals, in which it would run
    assert counting.runs == runs


def test_a_probe_removed_while_it_hangs_is_closed_when_it_comes_back(schedule: Schedule) -> None:
    hanging = Hanging()
    _add(schedule, "hanging", hanging)
    until(lambda: hanging.started == 1)
    schedule.remove("hanging")
    assert not hasattr(hanging, "closed")

    hanging.release.set()

    until(lambda: hasattr(hanging, "closed"))


def test_scrapes_of_one_target_set_the_pace_of_that_target_alone(schedule: Schedule) -> None:
    _add(schedule, "redis", Counting("cache"), 600, "cache")
    _add(schedule, "redis", Counting("sessions"), 600, "sessions")

    cache, sessions = schedule.jobs()
    for number in range(5):
        schedule._pace("cache").arrival("prometheus", time.time() - 5 * (4 - number))

    assert cache.rhythm.gap(time.time()) == pytest.approx(5, abs=0.1)
    assert sessions.rhythm.gap(time.time()) == 600


def test_probes_that_share_a_job_back_off_when_all_of_them_fail_and_not_before(schedule: Schedule) -> None:
    first, second = Counting("first"), Counting("second")
    first.fail = True
    probes = [Probe("postgres.first", first, group="main"), Probe("postgres.second", second, group="main")]
    schedule.add("postgres", probes, SeriesBudget(10), 0.05, exporter="postgres")
    (job,) = schedule.jobs()
    until(lambda: second.runs >= 4)
    assert job.rhythm.wanted_gap == 0.05

    second.fail = True

    until(lambda: job.rhythm.wanted_gap > 0.05)
    assert first.runs == pytest.approx(second.runs, abs=1)
