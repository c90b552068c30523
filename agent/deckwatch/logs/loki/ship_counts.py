"""What a shipper counts."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

#: Upper bounds of the buckets of push durations, in seconds.
DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass
class ShipCounts:
    """The counters of one shipper. Written only by its thread; other threads may read slightly old values."""

    lines: int = 0  # stored by Loki
    bytes: int = 0  # size of their values as JSON
    pushes: int = 0
    retries: int = 0
    failures: Counter[str] = field(default_factory=Counter)  # pushes by reason
    dropped: Counter[str] = field(default_factory=Counter)  # quarantined lines by reason
    oldest: float | None = None  # Unix seconds of the oldest line being sent
    durations: list[int] = field(default_factory=lambda: [0] * (len(DURATION_BUCKETS) + 1))  # pushes by bucket
    duration_sum: float = 0.0  # seconds
    failing_since: float | None = None  # Unix seconds
    failure: str = ""  # the error, while it is failing

    def observe(self, seconds: float) -> None:
        self.pushes += 1
        self.durations[bisect_left(DURATION_BUCKETS, seconds)] += 1
        self.duration_sum += seconds
