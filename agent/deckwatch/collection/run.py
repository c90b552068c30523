"""One run of a collector: its samples, its series budget, and the one place where its failure is caught."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple, cast

from deckwatch.exporter import Failed, Incomplete, Malformed, Missing, NotAvailable, Unreachable, describe
from deckwatch.metrics.declaration import Sample
from deckwatch.metrics.encoding import Encoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from deckwatch.exporter import Collector, Gauge, Results
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
        self._total = 0
        self._lock = threading.Lock()

    def left_for(self, collector: str) -> int:
        with self._lock:
            return max(0, self._limit - self._total + self._held.get(collector, 0))

    def hold(self, collector: str, series: int) -> None:
        with self._lock:
            self._total += series - self._held.get(collector, 0)
            self._held[collector] = series


_SHOWN_MALFORMED = 3  # the log has more of them


class Snapshot(NamedTuple):
    """What one run of a collector gave.

    A run is all or nothing: a failed one (`error` is set) carries what says so. Of a successful one, values that could
    not be parsed (`malformed`), series over the limit (max_series) (`dropped`) and what the collector could not read
    (`incomplete`) are missing. `failed` is why what it measured counts as failed.
    """

    collector: str
    target: str
    ended: float  # Unix seconds
    duration: float  # seconds
    cpu: float = 0.0  # seconds of CPU time that its thread used
    families: tuple[Family, ...] = ()
    series: int = 0  # in all families
    dropped: int = 0
    malformed: tuple[Malformed, ...] = ()
    incomplete: tuple[Incomplete, ...] = ()
    error: str = ""
    remedy: str = ""
    is_unreachable: bool = False
    failed: str = ""

    @property
    def cause(self) -> str:
        """Why the run, or what it measured, failed."""
        return self.error or self.failed

    @property
    def lacks(self) -> tuple[Incomplete, ...]:
        """What is missing of a successful run."""
        found = list(self.incomplete)
        if self.dropped:
            found.append(Incomplete(f"{self.dropped} series over the limit. Increase max_series"))
        # Without the text, which is foreign and may be anything: the page is often open to more people than the log.
        found += [Incomplete(f"cannot parse {it.what}. See the log") for it in self.malformed[:_SHOWN_MALFORMED]]
        return tuple(found)


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
    began, cpu_began = stopwatch(), time.thread_time()
    try:
        outcome = _outcome(named, budget)
        outcome.samples += _up(named, outcome.is_up)
        families = encoder.families(outcome.samples)
    except KeyboardInterrupt:
        raise
    except BaseException as failure:  # noqa: BLE001  the failure boundary of a run: also sys.exit() of a collector
        outcome, families = _Outcome(error=describe(failure), is_up=False), _only_up(named, encoder)
    snapshot = Snapshot(
        collector=named.name,
        target=named.target,
        ended=clock(),
        duration=stopwatch() - began,
        cpu=time.thread_time() - cpu_began,
        families=families,
        series=_count(families),
        dropped=outcome.dropped,
        malformed=tuple(outcome.malformed),
        incomplete=tuple(outcome.incomplete),
        error=outcome.error,
        remedy=outcome.remedy,
        is_unreachable=outcome.is_unreachable,
        failed=outcome.failed,
    )
    budget.hold(named.name, snapshot.series)
    return snapshot


@dataclass
class _Outcome:
    """What a collector yielded or reported."""

    samples: list[Sample] = field(default_factory=list)
    malformed: list[Malformed] = field(default_factory=list)
    incomplete: list[Incomplete] = field(default_factory=list)
    dropped: int = 0
    error: str = ""
    remedy: str = ""
    is_unreachable: bool = False
    is_up: bool = True
    failed: str = ""


def _outcome(named: NamedCollector, budget: SeriesBudget) -> _Outcome:
    """Run the collector. Raises what it raises, apart from the exceptions of the contract."""
    limit = budget.left_for(named.name)
    if named.max_series is not None:
        limit = min(limit, named.max_series)
    try:
        outcome = _take(named.collector.collect(), limit)
    except NotAvailable:
        return _Outcome()
    except Missing as missing:
        return _Outcome(error=str(missing).strip() or describe(missing), remedy=missing.remedy)
    except Unreachable as failure:
        samples, error = list(failure.samples), str(failure).strip() or describe(failure)
        return _Outcome(_without_up(samples, named), error=error, is_unreachable=True, is_up=False)
    except ModuleNotFoundError as missing:
        if not named.install:
            raise
        return _Outcome(error=missing_library(missing, named.install), is_unreachable=True, is_up=False)
    outcome.samples = _without_up(outcome.samples, named)
    return outcome


def _up(named: NamedCollector, is_up: bool) -> list[Sample]:
    return [] if named.up is None else [named.up(int(is_up))]


def _only_up(named: NamedCollector, encoder: Encoder) -> tuple[Family, ...]:
    try:
        return encoder.families(_up(named, False))
    except TypeError:  # an `up` with labels
        return ()


def _without_up(samples: list[Sample], named: NamedCollector) -> list[Sample]:
    """The samples without those of `up`, which is added here."""
    if named.up is None:
        return samples
    name = named.up.name
    return [sample for sample in samples if sample[0].metric.name != name]


def gone(snapshot: Snapshot, up: Gauge) -> Snapshot:
    """The snapshot of the first collector, after a later one on its connection found the target unreachable."""
    down = Encoder().families([up(0)])
    families = (*(it for it in snapshot.families if it.metric is not up), *down)
    return snapshot._replace(families=families, series=_count(families))


def _count(families: Iterable[Family]) -> int:
    return sum(len(family.series) for family in families)


def missing_library(failure: ModuleNotFoundError, install: str) -> str:
    return f"the Python package {failure.name} is not installed. Run: pip install '{install}'"


_ONLY_SAMPLES = {Sample}


def _take(samples: Results, limit: int) -> _Outcome:
    """The first `limit` samples, and what else the collector yielded.

    The first sample of a series counts. Others of the same series are malformed.
    """
    outcome = _Outcome()
    taken, malformed = outcome.samples, outcome.malformed
    dropped = 0
    items = iter(samples)
    first = list(islice(items, limit))
    if set(map(type, first)) <= _ONLY_SAMPLES:  # as in most runs
        taken += cast("list[Sample]", first)
        first = []
    for item in chain(first, items):
        if type(item) is Sample:
            if len(taken) < limit:
                taken.append(item)
            else:
                dropped += 1
        elif isinstance(item, Malformed):
            malformed.append(Malformed(str(item.what), str(item.text)))
        elif isinstance(item, Incomplete):
            outcome.incomplete.append(Incomplete(str(item.what), str(item.remedy)))
        elif isinstance(item, Failed):
            outcome.failed = outcome.failed or item.reason
        else:
            hint = "; use `yield from` for several samples" if isinstance(item, Iterator) else ""
            raise TypeError(f"collect() yielded a {type(item).__name__}, not a sample{hint}")
    series = {sample[0] for sample in taken}
    if len(series) != len(taken):
        distinct = []
        for sample in taken:
            if sample[0] in series:
                series.discard(sample[0])
                distinct.append(sample)
            else:
                malformed.append(Malformed(f"{sample[0].text.rstrip()}, collected twice", repr(sample[1])))
        outcome.samples = distinct
    outcome.dropped = dropped
    return outcome
