"""The scheduler runs every collector at its interval, and a hung one does not affect the others."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from deckwatch.collection.board import Board, Selection
from deckwatch.collection.run import NamedCollector, SeriesBudget
from deckwatch.collection.scheduler import MAX_RUNS, Scheduler
from deckwatch.exporter import Unreachable
from deckwatch.metrics.declaration import Gauge, Sample
from services import until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

RUNS = Gauge("runs", "Runs so far.", ["who"])


class Counting:
    def __init__(self, who: str) -> None:
        self.who = who
        self.runs = 0
        self.fail = False

    def collect(self) -> Iterable[Sample]:
        self.runs += 1
        if self.fail:
            raise OSError("deliberate failure")
        yield RUNS(self.runs, who=self.who)


class Hanging:
    def __init__(self) -> None:
        self.release = threading.Event()
        self.started = 0

    def collect(self) -> Iterable[Sample]:
        self.started += 1
        self.release.wait(120)
        yield RUNS(0, who="hanging")


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def scheduler(board: Board) -> Iterator[Scheduler]:
    scheduler = Scheduler(board)
    scheduler.start()
    yield scheduler
    scheduler.stop()


class Clock:
    """The scheduler's clock, which the test advances."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def still(board: Board, clock: Clock) -> Iterator[Scheduler]:
    """A scheduler with a stopped clock."""
    scheduler = Scheduler(board, clock)
    scheduler.start()
    yield scheduler
    scheduler.stop()


def _let_look(scheduler: Scheduler, clock: Clock, name: str) -> None:
    """Make the scheduler check its clock and start the collectors that are due, by adding a new one."""
    newest = Counting(name)
    _add(scheduler, name, newest, 1e6)
    clock.now += 1  # jobs do not all start at the same time
    until(lambda: newest.runs == 1)


def _add(
    scheduler: Scheduler, name: str, collector: Counting | Hanging, interval: float = 0.1, target: str = ""
) -> None:
    named = NamedCollector(name, collector, target)
    scheduler.add(
        name + target,
        [named],
        SeriesBudget(100),
        interval,
        exporter=name,
        on_end=lambda: setattr(collector, "closed", True),
    )


def _text(board: Board) -> str:
    return board.render(Selection(), openmetrics=False, compress=False).decode()


def test_a_collector_runs_immediately_and_then_at_its_interval(still: Scheduler, clock: Clock) -> None:
    counting, began = Counting("a"), clock.now
    _add(still, "a", counting, interval=100)
    (job,) = still.jobs()

    until(lambda: counting.runs == 1)
    for run in range(1, 4):
        until(lambda run=run: job.next_run == began + 100 * run)  # type: ignore[misc]
        clock.now = began + 100 * run - 2
        _let_look(still, clock, f"early {run}")
        assert counting.runs == run
        clock.now = began + 100 * run
        _let_look(still, clock, f"due {run}")
        until(lambda run=run: counting.runs == run + 1)  # type: ignore[misc]


def test_a_clock_that_is_set_back_does_not_stop_collection(still: Scheduler, clock: Clock) -> None:
    counting = Counting("a")
    _add(still, "a", counting, interval=100)
    (job,) = still.jobs()
    until(lambda: counting.runs == 1)

    clock.now -= 3600

    until(lambda: counting.runs == 2)  # the scheduler checks its clock every few seconds
    assert job.next_run == clock.now + 100
    clock.now += 100
    until(lambda: counting.runs == 3)
    until(lambda: job.next_run == clock.now + 100)


def test_a_hung_collector_is_never_started_twice_and_the_others_continue(scheduler: Scheduler, board: Board) -> None:
    hanging, counting = Hanging(), Counting("a")
    _add(scheduler, "hanging", hanging)
    _add(scheduler, "a", counting)

    until(lambda: counting.runs >= 10)
    until(lambda: 'deckwatch_collector_success{collector="hanging"} 0' in _text(board))

    assert hanging.started == 1
    until(lambda: 'deckwatch_collector_success{collector="a"} 1' in _text(board))  # it may be late on a busy machine
    hanging.release.set()


def test_a_hung_collector_that_recovers_is_served_again(scheduler: Scheduler, board: Board) -> None:
    hanging = Hanging()
    _add(scheduler, "hanging", hanging)
    until(lambda: 'deckwatch_collector_success{collector="hanging"} 0' in _text(board))

    hanging.release.set()

    until(lambda: 'runs{who="hanging"} 0' in _text(board))


def test_fifty_hung_collectors_do_not_block_the_next(scheduler: Scheduler) -> None:
    hung = [Hanging() for _ in range(50)]
    for number, hanging in enumerate(hung):
        _add(scheduler, f"hung{number}", hanging)
    until(lambda: all(hanging.started for hanging in hung))
    counting = Counting("late")
    _add(scheduler, "late", counting)

    until(lambda: counting.runs >= 3)

    for hanging in hung:
        hanging.release.set()


def test_runs_that_are_not_stuck_use_a_bounded_number_of_threads(board: Board) -> None:
    scheduler = Scheduler(board, stuck_after=3600)
    scheduler.start()
    busy = [Hanging() for _ in range(3 * MAX_RUNS)]
    for number, one in enumerate(busy):
        _add(scheduler, f"busy{number}", one, 3600)

    def started() -> int:
        return sum(one.started for one in busy)

    for released, one in enumerate(busy[:MAX_RUNS]):
        until(lambda released=released: started() == MAX_RUNS + released, what="the next run")  # type: ignore[misc]
        one.release.set()
    for one in busy:
        one.release.set()

    until(lambda: started() == len(busy), what="all runs")
    scheduler.stop()


def test_threads_that_hung_collectors_needed_end_afterwards(board: Board) -> None:
    def threads() -> int:
        return len({it for it in threading.enumerate() if it.name == "deckwatch-collect"} - before)

    before = set(threading.enumerate())
    scheduler = Scheduler(board)
    scheduler.start()
    hung = [Hanging() for _ in range(20)]
    for number, hanging in enumerate(hung):
        _add(scheduler, f"hung{number}", hanging, 3600)
    until(lambda: all(hanging.started for hanging in hung))
    assert threads() >= 20

    for hanging in hung:
        hanging.release.set()

    until(lambda: threads() == 2, what="the threads ending except for two that wait")
    scheduler.stop()
    until(lambda: threads() == 0, what="the threads ending")


def test_a_state_change_is_logged_once(scheduler: Scheduler, caplog: pytest.LogCaptureFixture) -> None:
    counting = Counting("a")
    with caplog.at_level("INFO", logger="deckwatch.collector"):
        counting.fail = True
        _add(scheduler, "a", counting, interval=0.05)
        until(lambda: counting.runs >= 4)
        counting.fail = False
        until(lambda: any("works again" in record.getMessage() for record in caplog.records))

    assert [record.getMessage() for record in caplog.records] == [
        "a failed: OSError: deliberate failure",
        "a works again",
    ]


def test_a_removed_collector_is_closed_and_never_runs_again(still: Scheduler, board: Board, clock: Clock) -> None:
    counting = Counting("a")
    _add(still, "a", counting, interval=100)
    until(lambda: counting.runs == 1)

    still.remove("a")

    until(lambda: getattr(counting, "closed", False))
    assert "runs{" not in _text(board)
    clock.now += 1000
    _let_look(still, clock, "other")
    assert counting.runs == 1


def test_a_collector_removed_while_it_hangs_is_closed_when_it_recovers(scheduler: Scheduler) -> None:
    hanging = Hanging()
    _add(scheduler, "hanging", hanging)
    until(lambda: hanging.started == 1)
    scheduler.remove("hanging")
    assert not hasattr(hanging, "closed")

    hanging.release.set()

    until(lambda: hasattr(hanging, "closed"))


def test_a_run_that_ends_after_its_job_was_replaced_does_not_change_the_new_one(
    scheduler: Scheduler, board: Board
) -> None:
    hanging = Hanging()
    _add(scheduler, "same", hanging)
    until(lambda: hanging.started == 1)
    scheduler.remove("same")
    _add(scheduler, "same", Counting("new"), interval=3600)
    until(lambda: 'runs{who="new"} 1' in _text(board))

    hanging.release.set()

    until(lambda: hasattr(hanging, "closed"))
    assert 'runs{who="hanging"}' not in _text(board)
    assert 'runs{who="new"} 1' in _text(board)


def test_stopping_ends_every_job(scheduler: Scheduler) -> None:
    idle, hanging = Counting("idle"), Hanging()
    _add(scheduler, "idle", idle)
    _add(scheduler, "hanging", hanging)
    until(lambda: idle.runs and hanging.started)

    scheduler.stop()

    until(lambda: hasattr(idle, "closed"))
    assert not hasattr(hanging, "closed")
    hanging.release.set()
    until(lambda: hasattr(hanging, "closed"))


def test_scrapes_of_one_target_affect_only_the_collection_of_that_target(scheduler: Scheduler) -> None:
    _add(scheduler, "redis", Counting("cache"), 600, "cache")
    _add(scheduler, "redis", Counting("sessions"), 600, "sessions")

    cache, sessions = scheduler.jobs()
    for number in range(5):
        scheduler._period("cache").arrival("prometheus", time.time() - 5 * (4 - number))

    assert cache.run_times.gap(time.time()) == pytest.approx(5, abs=0.1)
    assert sessions.run_times.gap(time.time()) == 600


class Target:
    """Collectors of one connection that record the order of their runs.

    The target goes down at any time, or with `between_runs` only before the first collector of a run.
    """

    def __init__(self, *, between_runs: bool = False) -> None:
        self.down = False
        self.between_runs = between_runs
        self.refuses = False
        self.members = 0
        self.runs: list[str] = []
        self.overlaps = 0
        self._busy = threading.Lock()

    def collector(self, name: str) -> Member:
        self.members += 1
        return Member(self, name, leads=self.members == 1)

    def enter(self, name: str) -> None:
        if not self._busy.acquire(blocking=False):
            self.overlaps += 1
            return
        self.runs.append(name)
        time.sleep(0.005)
        self._busy.release()


class Member:
    def __init__(self, target: Target, name: str, leads: bool) -> None:
        self.target, self.name, self.leads = target, name, leads

    def collect(self) -> Iterable[Sample]:
        self.target.enter(self.name)
        if self.leads or not self.target.between_runs:
            self.target.refuses = self.target.down
        if self.target.refuses:
            raise Unreachable("connection refused")
        yield RUNS(len(self.target.runs), who=self.name)


TARGET_UP = Gauge("shop_up", "Whether the shop can be reached.")


def _add_target(scheduler: Scheduler, target: Target, **intervals: float | None) -> None:
    named = [
        NamedCollector(f"shop.{name}", target.collector(name), interval=interval, up=None if number else TARGET_UP)
        for number, (name, interval) in enumerate(intervals.items())
    ]
    scheduler.add("shop", named, SeriesBudget(100), 0.05, exporter="shop")


def test_collectors_of_one_connection_never_overlap_whatever_their_intervals(scheduler: Scheduler) -> None:
    target = Target()
    _add_target(scheduler, target, first=None, second=0.07, third=0.2)

    until(lambda: target.runs.count("third") >= 5)

    assert target.overlaps == 0
    assert target.runs.count("first") >= target.runs.count("second") >= target.runs.count("third")


def test_a_down_target_is_one_failure_and_its_other_collectors_are_not_run(
    scheduler: Scheduler, board: Board, caplog: pytest.LogCaptureFixture
) -> None:
    target = Target(between_runs=True)
    with caplog.at_level("INFO", logger="deckwatch.collector"):
        _add_target(scheduler, target, first=None, second=None, slow=3600.0)
        until(lambda: 'runs{who="slow"}' in _text(board))
        target.down = True
        until(lambda: [slot.named.name for slot in board.slots() if slot.skipped] == ["shop.second", "shop.slow"])
        text = _text(board)
        target.down = False
        until(lambda: "shop_up 1" in _text(board) and 'runs{who="slow"}' in _text(board))

    assert "shop_up 0" in text
    assert "runs{" not in text
    assert 'deckwatch_collector_success{collector="shop.first"} 0' in text
    assert 'deckwatch_collector_success{collector="shop.second"}' not in text
    assert [record.getMessage() for record in caplog.records] == [
        "shop is unreachable: connection refused",
        "shop works again",
    ]


def test_a_target_lost_during_a_run_is_reported_as_down(scheduler: Scheduler, board: Board) -> None:
    class Lost:
        def collect(self) -> Iterable[Sample]:
            raise Unreachable("connection reset")

    named = [
        NamedCollector("shop.first", Counting("first"), up=TARGET_UP),
        NamedCollector("shop.second", Lost()),
        NamedCollector("shop.third", third := Counting("third")),
    ]
    scheduler.add("shop", named, SeriesBudget(100), 0.05, exporter="shop")

    until(lambda: "shop_up 0" in _text(board))

    assert third.runs == 0
    until(lambda: 'runs{who="first"}' in _text(board))


def test_a_target_lost_between_two_runs_of_its_first_collector_is_not_up(scheduler: Scheduler, board: Board) -> None:
    target = Target()
    _add_target(scheduler, target, first=3600.0, second=None)
    until(lambda: "shop_up 1" in _text(board))

    target.down = True

    until(lambda: "shop_up 0" in _text(board))


def test_a_target_whose_first_collector_is_not_due_is_up_again_when_it_is_back(
    scheduler: Scheduler, board: Board
) -> None:
    target = Target()
    _add_target(scheduler, target, first=3600.0, second=None)
    until(lambda: "shop_up 1" in _text(board))
    target.down = True
    until(lambda: "shop_up 0" in _text(board))

    target.down = False

    until(lambda: "shop_up 1" in _text(board))


def test_only_a_target_that_cannot_be_reached_backs_off(scheduler: Scheduler) -> None:
    failing, target = Counting("failing"), Target()
    failing.fail = True
    _add(scheduler, "failing", failing, 0.05)
    target.down = True
    _add_target(scheduler, target, only=None)
    jobs = {job.name: job for job in scheduler.jobs()}
    until(lambda: failing.runs >= 5)

    until(lambda: jobs["shop"].run_times.gap(time.time()) > 0.05)

    assert jobs["failing"].run_times.gap(time.time()) == 0.05
