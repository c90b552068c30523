"""The collector contract, and `run_once()`, the one place where a collector's failure is caught."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pydantic import BaseModel

    from deckwatch.exposition import Encoder, Family
    from deckwatch.metric import Metric, MetricPattern, Sample


@runtime_checkable
class Collector(Protocol):
    """What measures one thing. It may block and may raise; it yields fresh samples on every call."""

    def collect(self) -> Iterable[Sample]: ...


class NotAvailable(Exception):
    """Raised by `collect()` when the machine has nothing of this kind (no such kernel file, no such device).

    The run counts as a success without samples: what is not there is absent, and no fault.
    """


class Unreachable(Exception):
    """Raised by `collect()` when the target does not answer. The run fails; `samples` (`redis_up 0`) are exposed."""

    def __init__(self, message: str, samples: Iterable[Sample] = ()) -> None:
        super().__init__(message)
        self.samples = tuple(samples)


@dataclass(frozen=True, eq=False)
class Probe:
    """A collector and how it is run.

    `name` is `exporter` or `exporter.part` (`postgres.statements`). `may_block` is False only for what reads nothing
    but kernel files that always answer: such probes of one target share a thread and a job. So do those of one
    `group`, which share a connection: they run one after the other, in the order in which they were made. `interval`
    (seconds) overrides the agent's; `max_series` overrides the exporter's budget. `close()` is called once when the
    probe goes.
    """

    name: str
    collector: Collector
    target: str = ""
    may_block: bool = True
    group: str = ""
    interval: float | None = None
    max_series: int | None = None
    close: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Finding:
    """What `deckwatch check` says of one thing: fine, or what is missing and the exact statement that mends it."""

    state: Literal["ok", "missing", "failed"]
    what: str
    remedy: str = ""


@dataclass(frozen=True)
class Advice:
    """Something that costs a target time or space: the figure that says so, and the statement that would mend it."""

    kind: str  # unused index, setting ...
    subject: str
    figure: str
    remedy: str


@dataclass(frozen=True)
class Context:
    """What an exporter is told of the agent that it runs in."""

    target: str = ""
    thresholds: Mapping[str, float] = field(default_factory=dict)  # by the name they have in the config, in base units
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("deckwatch.exporter"))

    def event(self, name: str, message: str, **fields: object) -> None:
        """Log what happened at the target (`redis.slow_command`), with fields for whoever searches the log."""
        self.logger.info(message, extra={"event": name, "target": self.target, **fields})


@dataclass(frozen=True)
class FromEnvironment:
    """Without a config file, this variable switches an exporter on: its value becomes the setting `key`.

    Only a value that begins with one of `schemes`, where there are any: the variable may mean another product.
    """

    variable: str
    key: str = "url"
    settings: Mapping[str, object] = field(default_factory=dict)  # what else the target needs
    schemes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exporter:
    """A thing that can be watched: what stands under `exporters.<name>` in the config.

    `settings` is the (frozen) model of one target; with `named` the config holds a list of them, each with a `name`
    of its own, else one mapping. `open()` makes the probes of a target and may not block: connecting belongs into
    `collect()`. `scrape_prefix` is the prefix of the peer's `<prefix>_scrape_collector_success`, where it has one.
    `check()` looks for what a target lacks; that it answers at all is checked without it. `advise()`, where an exporter
    has it, looks for what could be better at the target, however long that takes.
    """

    name: str
    settings: type[BaseModel]
    open: Callable[[Any, Context], Sequence[Probe]]
    metrics: tuple[Metric | MetricPattern, ...]
    named: bool = False
    scrape_prefix: str = ""
    max_series: int = 20_000
    from_environment: FromEnvironment | None = None
    check: Callable[[Any], Iterable[Finding]] = lambda _settings: ()
    advise: Callable[[Any], Iterable[Advice]] | None = None


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
