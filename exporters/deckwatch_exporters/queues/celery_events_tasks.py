"""What events have said about tasks, by their ids: name, queue and times. Bounded."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

MAX_TASKS = 20_000

_KEPT_FINISHED = 20  # one of so many: the producer's `task-sent` can arrive after the worker's events
_FINAL = frozenset({"succeeded", "failed", "revoked", "rejected"})


@dataclass(slots=True)
class Task:
    name: str = ""
    queue: str = ""
    sent: float | None = None  # Unix seconds, as is the ETA
    eta: float | None = None


class TaskTable:
    """The tasks of the last `limit` ids. Finished tasks are dropped first. `evicted` counts unfinished ones."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept_finished = limit // _KEPT_FINISHED
        self._running: OrderedDict[str, Task] = OrderedDict()
        self._finished: OrderedDict[str, Task] = OrderedDict()
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._running) + len(self._finished)

    def after(self, kind: str, uuid: str) -> Task:
        """The task of an event of that kind. Without an id, nothing is known and kept of it."""
        if not uuid:
            return Task()
        task = self._running.get(uuid)
        if task is not None:
            if kind in _FINAL:
                self._finished[uuid] = self._running.pop(uuid)
            return task
        task = self._finished.get(uuid)
        if task is not None:
            if kind == "received":  # delivered again
                self._running[uuid] = self._finished.pop(uuid)
            return task
        task = Task()
        (self._finished if kind in _FINAL else self._running)[uuid] = task
        if len(self) > self._limit:
            self._drop_one()
        return task

    def _drop_one(self) -> None:
        if not self._running or len(self._finished) > self._kept_finished:
            self._finished.popitem(last=False)
        else:
            self._running.popitem(last=False)
            self.evicted += 1
