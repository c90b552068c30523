"""What Celery's events say, and how much of it is kept."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import pytest

from deckwatch.exporter import Context, Malformed, Sample
from deckwatch_exporters.queues.celery_events import CeleryEvents
from deckwatch_exporters.queues.celery_events_source import parse_events
from deckwatch_exporters.queues.celery_events_state import EventState
from services import until

if TYPE_CHECKING:
    from collections.abc import Iterable


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def received(uuid: str, **fields: Any) -> dict[str, Any]:
    return {"type": "task-received", "uuid": uuid, "name": "a", "hostname": "one@shop", **fields}


def heartbeat(name: str) -> dict[str, Any]:
    return {"type": "worker-heartbeat", "hostname": name, "active": 1}


def test_the_table_of_tasks_is_bounded() -> None:
    state = EventState("host", 60, 600, max_tasks=10)
    for n in range(15):
        state.apply({"type": "task-received", "uuid": str(n), "name": "a", "hostname": "x@y"})
    assert state.evicted == 5
    for n in range(5, 15):
        state.apply({"type": "task-succeeded", "uuid": str(n), "hostname": "x@y"})
    for n in range(10):
        state.apply({"type": "task-received", "uuid": f"new{n}", "name": "a", "hostname": "x@y"})
    assert state.evicted == 5, "finished tasks are not missed"


def test_an_event_of_the_producer_may_come_last() -> None:
    state = EventState("host", 60, 600, max_tasks=1)
    for kind in ("received", "started", "succeeded", "sent"):
        state.apply({"type": f"task-{kind}", "uuid": "1", "name": "a", "queue": "q", "hostname": "x@y"})
    state.apply({"type": "task-received", "uuid": "2", "name": "a", "hostname": "x@y"})
    assert (sum(state.counts["sent"].values()), state.evicted) == (1, 0)


def test_a_late_event_of_the_producer_does_not_hide_the_queue_of_a_name_that_uses_one() -> None:
    state = EventState("host", 60, 600)

    def apply(kind: str, uuid: str, **fields: str) -> None:
        state.apply({"type": f"task-{kind}", "uuid": uuid, "name": "a", "hostname": "x@y", **fields})

    apply("sent", "1", queue="mails")
    apply("received", "2")
    apply("sent", "3", queue="films")
    apply("received", "4")
    assert {labels.queue_name: count for labels, count in state.counts["received"].items()} == {"mails": 1, "celery": 1}


def test_unfinished_tasks_stay_while_finished_ones_make_room() -> None:
    state = EventState("host", 60, 600, max_tasks=100)
    state.apply({"type": "task-sent", "uuid": "first", "name": "a", "queue": "mails", "hostname": "x@y"})
    for n in range(1000):
        state.apply(received(str(n)))
        state.apply({"type": "task-succeeded", "uuid": str(n), "hostname": "x@y"})
    state.apply({"type": "task-received", "uuid": "first", "hostname": "x@y"})
    (labels,) = (labels for labels in state.counts["received"] if labels.hostname == "y")
    assert (labels.name, labels.queue_name, state.evicted) == ("a", "mails", 0)


def test_a_task_that_is_delivered_again_is_unfinished_again() -> None:
    state = EventState("host", 60, 600, max_tasks=1)
    for kind in ("received", "rejected", "received"):
        state.apply({"type": f"task-{kind}", "uuid": "1", "name": "a", "hostname": "x@y"})
    state.apply(received("2"))
    assert state.evicted == 1


def test_hosts_that_were_replaced_free_their_places() -> None:
    clock = Clock()
    state = EventState("host", 60, 600, stopwatch=clock)
    for generation in range(5):
        for pod in range(50):
            name = f"celery@pod-{generation}-{pod}"
            state.apply(heartbeat(name))
            state.apply(received(f"{generation}-{pod}", hostname=name))
        state.workers()
        shown = {labels.hostname for labels in state.counts["received"]}
        assert f"pod-{generation}-49" in shown
        assert "other" not in shown
        clock.now += 601
    assert not state.workers()
    assert not [labels for counts in state.counts.values() for labels in counts], "purged workers have no series"
    assert not state.failures
    assert not any(state.limited.values())


def test_a_host_that_still_publishes_keeps_its_counts() -> None:
    clock = Clock()
    state = EventState("host", 60, 600, stopwatch=clock)
    state.apply(heartbeat("celery@web"))
    clock.now += 500
    state.apply({"type": "task-sent", "uuid": "1", "name": "a", "queue": "q", "hostname": "gen7@web"})
    clock.now += 200
    assert not state.workers()
    assert sum(state.counts["sent"].values()) == 1
    clock.now += 600
    state.workers()
    assert not state.counts["sent"]


def test_idle_task_names_make_room_when_their_places_are_needed() -> None:
    clock = Clock()
    state = EventState("none", 60, 600, stopwatch=clock)
    for number in range(200):
        state.apply(received(str(number), name=f"old{number}"))
    state.apply(received("x", name="new"))
    assert state.limited["name"] == 1
    clock.now += 599
    state.apply(received("y", name="old0"))
    clock.now += 1
    state.apply(received("z", name="new"))
    shown = {labels.name for labels in state.counts["received"]}
    assert {"old0", "new", "other"} < shown
    assert "old1" not in shown, "the name that was unused for longest"
    assert len(shown) == 201


def test_idle_exceptions_make_room() -> None:
    clock = Clock()
    state = EventState("none", 60, 600, stopwatch=clock)
    for number in range(51):
        state.apply({"type": "task-failed", "uuid": str(number), "name": "a", "exception": f"E{number}()"})
    assert state.limited["exception"] == 1
    clock.now += 600
    state.apply({"type": "task-failed", "uuid": "x", "name": "a", "exception": "New()"})
    shown = {failure.exception for failure in state.failures}
    assert "New" in shown
    assert "E0" not in shown
    assert len(shown) == 52, "with the one for 0 failures, and other"


def test_a_connection_that_was_lost_for_long_costs_no_counts() -> None:
    clock = Clock()
    state = EventState("host", 60, 600, stopwatch=clock)
    state.apply(heartbeat("one@shop"))
    state.apply(received("1"))
    clock.now += 10_000
    state.connected()
    clock.now += 599
    state.workers()
    assert sum(state.counts["received"].values()) == 1


class Script:
    """A source of events that yields prepared messages, or raises."""

    def __init__(self, *steps: list[bytes] | Exception) -> None:
        self.steps = list(steps)
        self.connections = 0

    def connect(self) -> Script:
        self.connections += 1
        return self

    def receive(self, seconds: float) -> Iterable[bytes]:
        if not self.steps:
            time.sleep(min(seconds, 0.01))
            return ()
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    def events_of(self, message: bytes) -> list[dict[str, Any]]:
        return parse_events(message)

    def close(self) -> None:
        pass


def collected(events: CeleryEvents) -> tuple[dict[str, float], list[Malformed]]:
    values: dict[str, float] = {}
    problems = []
    for item in events.collect():
        if isinstance(item, Malformed):
            problems.append(item)
        else:
            assert isinstance(item, Sample)
            labels = dict(item.series.labels)
            values[f"{item.series.name}{labels.get('limit', '')}"] = item.value
    return values, problems


def test_an_unexpected_error_is_logged_and_shown_and_the_thread_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    one = b'{"type": "task-received", "uuid": "1", "name": "a"}'
    script = Script([one], RuntimeError("a bug"), [one])
    events = CeleryEvents(script, EventState("host", 60, 600), Context("tasks", logger=logging.getLogger("deckwatch")))
    shown: list[str] = []
    try:

        def recovered() -> bool:
            values, problems = collected(events)
            shown.extend(problem.text for problem in problems)
            return values.get("celery_task_received_total") == 2 and values["celery_events_connected"] == 1

        until(recovered, what="events after the error")
        values, problems = collected(events)
    finally:
        events.close()
    assert "unexpected error: RuntimeError: a bug" in shown
    assert not problems
    assert values["celery_events_disconnects_total"] == 1
    assert "tasks: receiving the events of Celery failed unexpectedly" in caplog.text
    assert "RuntimeError: a bug" in caplog.text


def test_workers_beyond_the_limit_are_counted_and_reported() -> None:
    beats = [f'{{"type": "worker-heartbeat", "hostname": "w@pod{number}"}}'.encode() for number in range(1003)]
    events = CeleryEvents(Script(beats), EventState("host", 60, 600), Context("tasks"))
    shown: list[str] = []
    try:

        def counted() -> bool:
            values, problems = collected(events)
            shown.extend(problem.text for problem in problems)
            return values["celery_events_limited_totalworker"] == 3

        until(counted, what="all heartbeats")
    finally:
        events.close()
    assert set(shown) == {"more than 1000: further workers are ignored"}


def _beat(state: EventState, processed: float, worker: str = "one@shop", pid: int = 7) -> None:
    state.apply({"type": "worker-heartbeat", "hostname": worker, "pid": pid, "processed": processed})


def _start(state: EventState, number: int, worker: str = "one@shop") -> None:
    for _ in range(number):
        state.apply({"type": "task-started", "uuid": "1", "hostname": worker})


def test_starts_that_a_worker_counted_and_no_event_reported_are_lost() -> None:
    state = EventState("host", 60, 600)
    _start(state, 1)
    _beat(state, 100)
    _start(state, 5)
    _beat(state, 107)
    assert state.lost == 0, "events may follow the heartbeat"
    _start(state, 2)
    _beat(state, 107)
    assert state.lost == 0
    _beat(state, 110)
    _beat(state, 110)
    assert state.lost == 3
    _beat(state, 110)
    _start(state, 4)
    _beat(state, 114)
    _beat(state, 114)
    assert state.lost == 3, "a loss is counted once"


def test_a_worker_without_events_of_tasks_and_a_restarted_one_lose_nothing() -> None:
    state = EventState("host", 60, 600)
    for processed in (0, 50, 100):
        _beat(state, processed)
    assert state.lost == 0
    _start(state, 1, "two@shop")
    for processed, pid in ((10, 1), (10, 1), (4, 2), (4, 2), (300, 3), (300, 3)):
        _beat(state, processed, "two@shop", pid)
    assert state.lost == 0


def test_losses_of_several_workers_add_up_and_events_elsewhere_do_not_hide_them() -> None:
    state = EventState("host", 60, 600)
    for worker in ("one@shop", "two@shop"):
        _start(state, 1, worker)
        _beat(state, 0, worker)
    _start(state, 50, "two@shop")
    for worker in ("one@shop", "two@shop"):
        for _ in range(2):
            _beat(state, 50, worker)
    assert state.lost == 50
