"""Events of Celery that were sent and did not arrive, found by the heartbeats of workers.

The clock in an event cannot show it: it is a Lamport clock, which also moves with every message that a worker receives.
A heartbeat has `processed`, the number of tasks that the worker has started: celery/worker/heartbeat.py.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from .celery_events_workers import MAX_WORKERS


@dataclass(slots=True)
class _Progress:
    """What a worker has done since its first heartbeat after its first event of a task."""

    pid: float | None = None
    first: float | None = None  # `processed` in that heartbeat
    previous: float = 0.0  # `processed` in the last heartbeat
    started: int = 0  # events that arrived
    lost: float = 0.0  # events that did not


class Losses:
    """`lost` counts the `task-started` events that did not arrive. Bounded."""

    def __init__(self) -> None:
        self._workers: OrderedDict[str, _Progress] = OrderedDict()  # by name, the last heard last
        self.lost = 0.0

    def started(self, worker: str) -> None:
        """Count an event `task-started` of a worker."""
        self._of(worker).started += 1

    def heartbeat(self, worker: str, pid: float | None, processed: float) -> None:
        """Compare with what the worker had started at its heartbeat before: its events may be sent in groups."""
        if worker not in self._workers:
            return  # it may send no events of tasks
        progress = self._of(worker)
        if progress.first is None or pid != progress.pid or processed < progress.previous:
            self._workers[worker] = _Progress(pid, first=processed, previous=processed)
            return
        missing = progress.previous - progress.first - progress.started
        if missing > progress.lost:
            self.lost += missing - progress.lost
            progress.lost = missing
        progress.previous = processed

    def _of(self, worker: str) -> _Progress:
        progress = self._workers.get(worker)
        if progress is None:
            progress = self._workers[worker] = _Progress()
            if len(self._workers) > MAX_WORKERS:
                self._workers.popitem(last=False)
        self._workers.move_to_end(worker)
        return progress
