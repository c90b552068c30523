"""The period and phase of regular scrapers, learned from the times of their requests."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from typing import NamedTuple

_REMEMBERED = 5  # requests of each client; three regular gaps make a scraper
_CLIENTS = 16
# A period of a second is the shortest that Prometheus users set; half of that leaves room for jitter.
_MIN_PERIOD, _MAX_PERIOD = 0.5, 600.0


class ExpectedScrape(NamedTuple):
    """When the next scrape is expected (Unix seconds), and the period (seconds)."""

    at: float
    period: float


class ScrapePeriod:
    """Learns from requests. A client counts as a scraper after three gaps that differ by at most a tenth.

    With several scrapers, collection follows the most frequent one, or the first one of equal periods. The others get
    snapshots as old as the difference in phase. Requests by hand change nothing.
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

    def next_scrape(self, after: float) -> ExpectedScrape | None:
        """The first scrape that is expected after `after`; None without a regular scraper."""
        with self._lock:
            scrapers = [(period, arrivals[-1]) for arrivals in self._clients.values() if (period := _period(arrivals))]
        live = [(period, last) for period, last in scrapers if last <= after + period and after - last < 2.5 * period]
        if not live:
            return None
        shortest = min(period for period, _ in live)
        period, last = next(scraper for scraper in live if scraper[0] < 1.1 * shortest)
        missed = max(0, int((after - last) // period))
        return ExpectedScrape(last + (missed + 1) * period, period)


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
