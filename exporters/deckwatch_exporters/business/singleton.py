"""`singleton`: of several agents with the same target, one reads the figures.

The holder of a lock at the source reports. The lock ends about two runs after its holder has last asked for it, so that
an agent that is frozen loses it, and finds out before it reports again.
"""

from __future__ import annotations

import time
from collections import deque
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .sources import LockingSource

_SHORTEST = 2.0  # seconds
_LONGEST = 600.0
_FIRST = 15.0  # between the first two runs, the default of the agent


class Singleton:
    """Asks for the lock of a target at each run."""

    def __init__(self, name: str, source: LockingSource, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._source = source
        self._clock = clock
        self._gaps: deque[float] = deque(maxlen=5)
        self._last: float | None = None

    def is_held(self) -> bool:
        """Whether this agent reports. Raises Unreachable, QueryFailed."""
        now = self._clock()
        if self._last is not None:
            self._gaps.append(now - self._last)
        self._last = now
        # The median, because a pause of this process is no usual time between runs.
        gap = median(self._gaps) if self._gaps else _FIRST
        # In whole seconds, so that it rarely changes.
        return self._source.hold(self._name, round(min(max(2 * gap, _SHORTEST), _LONGEST)))
