"""The pace of the scraper: its period and phase, learned from when its requests arrive."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from typing import NamedTuple

_REMEMBERED = 5  # arrivals of each client; three regular gaps are believed
_CLIENTS = 16
# Nobody scrapes more often than once a second on purpose; half of that leaves room for jitter.
_MIN_PERIOD, _MAX_PERIOD = 0.5, 600.0


class Beat(NamedTuple):
    """The next arrival that is expected (Unix seconds), and the period (seconds)."""

    at: float
    period: float


class Pace:
    """Learns from arrivals. A client counts as a scraper after three gaps that differ by a tenth at the most.

    Of several scrapers the one that comes most often sets the pace, at equal periods the one that was there first:
    the others see snapshots as old as their phase differs. Somebody who asks by hand changes nothing.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[str, deque[float]] = {}

    def arrival(self, client: str, at: float) -> None:
        with self._lock:
            arrivals = self._clients.get(client)
            if arrivals is None:
                if len(self._clients) >= _CLIENTS:
                    del self._clients[min(self._clients, key=lambda name: self._clients[name][-1])]
                arrivals = self._clients[client] = deque(maxlen=_REMEMBERED)
            arrivals.append(at)

    def next_beat(self, after: float) -> Beat | None:
        """The first arrival that is to be expected after `after`; None when nobody comes regularly."""
        with self._lock:
            beats = [(period, arrivals[-1]) for arrivals in self._clients.values() if (period := _period(arrivals))]
        live = [(period, last) for period, last in beats if last <= after + period and after - last < 2.5 * period]
        if not live:
            return None
        shortest = min(period for period, _ in live)
        period, last = next(beat for beat in live if beat[0] < 1.1 * shortest)
        missed = max(0, int((after - last) // period))
        return Beat(last + (missed + 1) * period, period)


def _period(arrivals: deque[float]) -> float | None:
    """The mean gap, where there are three at least and none is off by more than a tenth (or 0.2 s)."""
    if len(arrivals) < 4:
        return None
    times = list(arrivals)
    mean = (times[-1] - times[0]) / (len(times) - 1)
    if not _MIN_PERIOD <= mean <= _MAX_PERIOD:
        return None
    slack = max(0.1 * mean, 0.2)
    regular = all(abs(later - earlier - mean) <= slack for earlier, later in itertools.pairwise(times))
    return mean if regular else None
