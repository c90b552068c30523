"""One run of a collector: its samples, its series budget, and the one place where its failure is caught."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from deckwatch.exporter import NotAvailable, Unreachable

if TYPE_CHECKING:
    from deckwatch.exporter import Probe
    from deckwatch.metrics.declaration import Sample
    from deckwatch.metrics.encoding import Encoder, Family


class SeriesBudget:
    """How many series the probes of one target may hold together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[str, int] = {}
        self._lock = threading.Lock()

    def left_for(self, probe: str) -> int:
        with self._lock:
            return max(0, self._limit - sum(n for name, n in self._held.items() if name != probe))

    def hold(self, probe: str, series: int) -> None:
        with self._lock:
            self._held[probe] = series


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one run of a probe gave. A run is all or nothing: a failed one (`error` is set) carries what says so."""

    probe: str
    target: str
    ended: float  # Unix seconds
    duration: float  # seconds
    families: tuple[Family, ...] = ()
    dropped: int = 0  # series over the budget
    error: str = ""

    @property
    def series(self) -> int:
        return sum(len(family.samples) for family in self.families)


def run_once(
    probe: Probe,
    encoder: Encoder,
    budget: SeriesBudget,
    clock: Callable[[], float] = time.time,
    stopwatch: Callable[[], float] = time.perf_counter,
) -> Snapshot:
    """Run a probe and encode what it yields. Never raises: here, and nowhere else, a collector's failure is caught."""
    began = stopwatch()
    try:
        limit = budget.left_for(probe.name)
        if probe.max_series is not None:
            limit = min(limit, probe.max_series)
        samples, dropped = _take(probe.collector.collect(), limit)
        families = encoder.families(samples)
    except NotAvailable:
        families, dropped = (), 0
    except Unreachable as failure:
        families = encoder.families(failure.samples)
        budget.hold(probe.name, len(failure.samples))
        return Snapshot(probe.name, probe.target, clock(), stopwatch() - began, families, error=describe(failure))
    except Exception as failure:  # noqa: BLE001  the failure boundary: whatever a collector raises ends here
        budget.hold(probe.name, 0)
        return Snapshot(probe.name, probe.target, clock(), stopwatch() - began, error=describe(failure))
    snapshot = Snapshot(probe.name, probe.target, clock(), stopwatch() - began, families, dropped)
    budget.hold(probe.name, snapshot.series)
    return snapshot


def _take(samples: Iterable[Sample], limit: int) -> tuple[list[Sample], int]:
    """The first `limit` samples, and how many more there were. Raises ValueError when a series comes twice."""
    taken = list(islice(iterator := iter(samples), limit))
    seen = {sample[0] for sample in taken}
    if len(seen) != len(taken):
        for sample in taken:
            if sample[0] not in seen:
                raise ValueError(f"collected twice: {sample[0].text.rstrip()}")
            seen.discard(sample[0])
    return taken, sum(1 for _ in iterator)


def describe(failure: BaseException) -> str:
    """One line that says what went wrong, its class first."""
    text = " ".join(str(failure).split())
    name = type(failure).__name__
    return f"{name}: {text[:500]}" if text else name
