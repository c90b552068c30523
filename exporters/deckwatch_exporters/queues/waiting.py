"""How long messages have waited at least, from counts alone: no message is read."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from .model import NOTHING_WAITS, Age

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

_MARKS = 200  # for each queue; then every second one is forgotten


class Counts(NamedTuple):
    """The counts of a queue at one moment. `delivered` and `enqueued` only grow; None where they are unknown."""

    ready: float
    consumers: float | None = None
    delivered: float | None = None
    enqueued: float | None = None
    #: Whether messages leave the queue without a delivery, because they expire or exceed its length.
    drops: bool = False


@dataclass
class _Queue:
    counts: Counts
    removed: float = 0.0  # messages that have left the queue, at most
    #: A moment, and how many messages had ever been in the queue by then. Those that waited at that moment are all
    #: gone, in whichever order, only after as many have been removed.
    marks: deque[tuple[float, float]] = field(default_factory=deque)


class WaitingAges:
    """Lower bounds of the ages of the oldest messages of queues."""

    def __init__(self, stopwatch: Callable[[], float] = time.monotonic) -> None:
        self._stopwatch = stopwatch
        self._queues: dict[str, _Queue] = {}

    def age(self, name: str, counts: Counts) -> Age:
        now = self._stopwatch()
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = _Queue(counts)
        else:
            queue.removed += _removed(queue.counts, counts)
            queue.counts = counts
        while queue.marks and queue.marks[0][1] <= queue.removed:
            queue.marks.popleft()
        total = queue.removed + counts.ready
        if counts.ready and (not queue.marks or total > queue.marks[-1][1]):
            queue.marks.append((now, total))
            if len(queue.marks) > _MARKS:
                queue.marks = deque(list(queue.marks)[::2])
        return Age(now - queue.marks[0][0], False) if queue.marks else NOTHING_WAITS

    def keep(self, names: Collection[str]) -> None:
        """Forget all other queues."""
        for gone in self._queues.keys() - set(names):
            del self._queues[gone]


def _removed(before: Counts, now: Counts) -> float:
    """How many messages left the queue between two moments, at most."""
    fall = max(0.0, before.ready - now.ready)
    if before.delivered is not None and now.delivered is not None and now.delivered >= before.delivered:
        delivered = now.delivered - before.delivered
        if not now.drops:
            return max(fall, delivered)
        if before.enqueued is not None and now.enqueued is not None and now.enqueued >= before.enqueued:
            return max(fall, delivered, before.ready + now.enqueued - before.enqueued - now.ready)
    elif before.consumers == 0 and now.consumers == 0 and not now.drops:
        return fall
    return before.ready
