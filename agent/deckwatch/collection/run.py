"""One run of a collector: its samples, its series budget, and the one place where its failure is caught."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from deckwatch.exporter import Malformed, Missing, NotAvailable, Unreachable, describe
from deckwatch.metrics.declaration import Sample
from deckwatch.metrics.encoding import Encoder

if TYPE_CHECKING:
    from collections.abc import Callable

    from deckwatch.exporter import Collector, Gauge, Samples
    from deckwatch.metrics.encoding import Family


@dataclass(frozen=True, eq=False)
class NamedCollector:
    """A collector of an opened target, under the name that it has in metrics and on the page.

    `up` is set for the first collector of a target's main connection: its runs carry that metric. `install` is what
    to install when its client library is missing. `group`, `interval` and `max_series` are those of `Scheduled`.
    """

    name: str
    collector: Collector
    target: str = ""
    group: str = ""
    interval: float | None = None
    max_series: int | None = None
    up: Gauge | None = None
    install: str = ""

    @property
    def part(self) -> str:
        """The name without the exporter's."""
        return self.name.partition(".")[2] or self.name


class SeriesBudget:
    """How many series the collectors of one target may hold together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[str, int] = {}
        self._lock = threading.Lock()

    def left_for(self, collector: str) -> int:
        with self._lock:
            return max(0, self._limit - sum(n for name, n in self._held.items() if name != collector))

    def hold(self, collector: str, series: int) -> None:
        with self._lock:
            self._held[collector] = series


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one run of a collector gave.

    A run is all or nothing: a failed one (`error` is set) carries what says so. Of a successful one, values that could
    not be parsed (`malformed`) and series over the limit (max_series) (`dropped`) are missing.
    """

    collector: str
    target: str
    ended: float  # Unix seconds
    duration: float  # seconds
    families: tuple[Family, ...] = ()
    dropped: int = 0
    malformed: tuple[Malformed, ...] = ()
    error: str = ""
    remedy: str = ""
    is_unreachable: bool = False

    @property
    def series(self) -> int:
        return sum(len(family.samples) for family in self.families)


def run_once(
    named: NamedCollector,
    encoder: Encoder,
    budget: SeriesBudget,
    clock: Callable[[], float] = time.time,
    stopwatch: Callable[[], float] = time.perf_counter,
) -> Snapshot:
    """Run a collector and encode what it yields.

    Never raises: this is the only place where a collector's failure is caught.
    """
    began = stopwatch()
    samples: list[Sample] = []
    malformed: list[Malformed] = []
    error, remedy, dropped, is_unreachable = "", "", 0, False
    up = [] if named.up is None else [named.up(1)]
    try:
        limit = budget.left_for(named.name)
        if named.max_series is not None:
            limit = min(limit, named.max_series)
        samples, malformed, dropped = _take(named.collector.collect(), limit)
        families = encoder.families([*samples, *up])
    except NotAvailable:
        families = encoder.families(up)
    except Missing as missing:
        families, error, remedy = encoder.families(up), str(missing), missing.remedy
    except Exception as failure:  # noqa: BLE001  the failure boundary of a run
        error = describe(failure)
        samples = []
        if isinstance(failure, Unreachable):
            samples, is_unreachable = list(failure.samples), True
            error = str(failure)
        elif isinstance(failure, ModuleNotFoundError) and named.install:
            error, is_unreachable = missing_library(failure, named.install), True
        families = encoder.families([*samples, *([] if named.up is None else [named.up(0)])])
    snapshot = Snapshot(
        collector=named.name,
        target=named.target,
        ended=clock(),
        duration=stopwatch() - began,
        families=families,
        dropped=dropped,
        malformed=tuple(malformed),
        error=error,
        remedy=remedy,
        is_unreachable=is_unreachable,
    )
    budget.hold(named.name, snapshot.series)
    return snapshot


def gone(snapshot: Snapshot, up: Gauge) -> Snapshot:
    """The snapshot of the first collector, after a later one on its connection found the target unreachable."""
    down = Encoder(snapshot.target).families([up(0)])
    return replace(snapshot, families=(*(it for it in snapshot.families if it.metric is not up), *down))


def missing_library(failure: ModuleNotFoundError, install: str) -> str:
    return f"the Python package {failure.name} is not installed. Run: pip install '{install}'"


def _take(samples: Samples, limit: int) -> tuple[list[Sample], list[Malformed], int]:
    """The first `limit` samples, what could not be parsed, and how many samples there were over the limit.

    The first sample of a series counts. Others of the same series are malformed.
    """
    rest = iter(samples)
    head = list(islice(rest, limit))
    malformed = [item for item in head if isinstance(item, Malformed)]
    taken = [item for item in head if isinstance(item, Sample)]
    dropped = 0
    for item in rest:
        if isinstance(item, Malformed):
            malformed.append(item)
        elif len(taken) < limit:
            taken.append(item)
        else:
            dropped += 1
    series = {sample[0] for sample in taken}
    if len(series) != len(taken):
        distinct = []
        for sample in taken:
            if sample[0] in series:
                series.discard(sample[0])
                distinct.append(sample)
            else:
                malformed.append(Malformed(f"{sample[0].text.rstrip()}, collected twice", repr(sample[1])))
        taken = distinct
    return taken, malformed, dropped
