"""What an exporter is: its collectors, how they run, and how they report what they could not measure."""

from __future__ import annotations

import importlib
import logging
import pkgutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

from deckwatch.metrics.declaration import Gauge, Metric, MetricPattern, Sample, declared_in

if TYPE_CHECKING:
    from types import ModuleType

    from pydantic import BaseModel

S = TypeVar("S", bound="BaseModel")


class Malformed(NamedTuple):
    """A value that cannot be parsed. A collector yields it in the place of the sample.

    The other samples of the run are served. It is counted in `deckwatch_collector_parse_errors` and logged once.
    `what` names the value (`/proc/meminfo: MemFree`), `text` is what was found.
    """

    what: str
    text: str


@dataclass(frozen=True, slots=True)
class Incomplete:
    """Something that a collector could not read, although the rest works. It yields it beside its samples.

    It is on the page, in `/health/detailed` and in `check`. `what` is a clause that names it, `remedy` the statement or
    command that provides it.
    """

    what: str
    remedy: str = ""


class Failed(NamedTuple):
    """Why what was measured counts as failed. A collector yields it beside its samples, which are served.

    The run itself succeeds. The reason is on the page, in the health endpoints, in `check` and in one log line.
    """

    reason: str


#: Names that a field of an event cannot have.
_RECORD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}

#: What a collector yields.
Samples: TypeAlias = Iterable[Sample | Malformed]

#: Like `Samples`, with what could not be read, and for a measurement that can itself fail, such as a probe.
Results: TypeAlias = Iterable[Sample | Malformed | Incomplete | Failed]


@runtime_checkable
class Collector(Protocol):
    """What measures one thing. `collect()` may block and may raise; it yields fresh samples on every call."""

    def collect(self) -> Results: ...


class NotAvailable(Exception):
    """Raised by `collect()` when the target has nothing to measure here, such as a missing kernel file or device.

    The run succeeds without samples.
    """


class Unreachable(Exception):
    """Raised by `collect()` when the connection to the target fails.

    The run fails and the collectors that follow on the same connection are not run. `samples` are exposed.
    """

    def __init__(self, message: str, samples: Iterable[Sample] = ()) -> None:
        super().__init__(message)
        self.samples = (samples,) if isinstance(samples, Sample) else tuple(samples)


class Missing(Exception):
    """Raised by `collect()` when a privilege, an extension or a setting is missing; `remedy` is the statement that
    provides it."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what}; {remedy}" if remedy else what)
        self.what = what
        self.remedy = remedy


@dataclass(frozen=True)
class Scheduled:
    """A collector with options.

    `interval` (seconds) overrides the agent's. `max_series` limits the collector's series, below the limit of its
    target. Collectors of one `group` run one after another, in the order given; those of different groups run in
    parallel. Without a group a collector runs on the target's main connection.
    """

    collector: Collector
    interval: float | None = None
    max_series: int | None = None
    group: str = ""


@dataclass(frozen=True)
class Target:
    """An opened target: its collectors by name, in the order in which they run, and how it is closed.

    `close()` is called once, when no collector is running any more.
    """

    collectors: Mapping[str, Collector | Scheduled]
    close: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Finding:
    """A result of `deckwatch check`; `remedy` is the exact statement that provides what is missing."""

    state: Literal["ok", "missing", "failed"]
    what: str
    remedy: str = ""


@dataclass(frozen=True)
class Advice:
    """Something that costs a target time or space, the figure that shows it, and the statement that improves it."""

    kind: str  # unused index, setting ...
    subject: str
    figure: str
    remedy: str


@dataclass(frozen=True)
class Context:
    """What an exporter gets from the agent that opens one of its targets."""

    target: str = ""
    thresholds: Mapping[str, float] = field(default_factory=dict)  # by the name they have in the config, in base units
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("deckwatch.exporter"))

    def event(self, name: str, message: str, **fields: object) -> None:
        """Log an event at the target (`redis.slow_command`) with fields to search for."""
        # A log record has attributes of these names.
        renamed = {f"{key}_" if key in _RECORD else key: value for key, value in fields.items()}
        self.logger.info(message, extra={"event": name, "target": self.target, **renamed})


@dataclass(frozen=True)
class FromEnvironment:
    """The environment variable that adds a target where there is no config file; its value becomes the setting `key`.

    Where there are `schemes`, only a value that begins with one of them: the variable may mean another product.
    """

    variable: str
    key: str = "url"
    settings: Mapping[str, object] = field(default_factory=dict)  # what else the target needs
    schemes: tuple[str, ...] = ()


@dataclass(frozen=True)
class KeyFigure:
    """A figure on a target's card of the status page: the sum of a metric's series, or with `use="max"` the largest.

    Only series with the labels `where` count. With `per_second`, the metric is a counter and the figure its rate.
    """

    title: str
    metric: str
    unit: Literal["", "bytes", "ratio", "seconds"] = ""
    per_second: bool = False
    use: Literal["sum", "max"] = "sum"
    where: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Exporter(Generic[S]):
    """One kind of target: the key `exporters.<name>` of the config.

    `settings` is the frozen model of one target. With `named` the config holds a list of targets, each with a `name`,
    otherwise one mapping. `open()` may not block: connecting belongs in `collect()`.

    `collectors` lists the names that `open()` may return, where there are several; `disable` takes these.
    `up` is 1 while the target's main connection works and 0 while it does not.
    `extra` is the extra of the `deckwatch` distribution with the client library, or any other pip requirement.
    `scrape_prefix` is the prefix of the peer's `<prefix>_scrape_collector_success`, where it has one.
    `key_figures` are for the status page, and so is `runbook`, the name of the runbook for a target that is down.
    `check()` looks for what a target lacks. `advise()` looks for improvements, however long that takes.

    The metrics are all those at the top level of the package (or module) that defines `open`.
    """

    name: str
    settings: type[S]
    open: Callable[[S, Context], Target]
    collectors: Sequence[str] = ()
    named: bool = False
    up: Gauge | None = None
    extra: str = ""
    scrape_prefix: str = ""
    max_series: int = 20_000
    from_environment: FromEnvironment | None = None
    key_figures: Sequence[KeyFigure] = ()
    runbook: str = ""
    check: Callable[[S], Iterable[Finding]] = lambda _settings: ()
    advise: Callable[[S], Iterable[Advice]] | None = None

    @cached_property
    def metrics(self) -> tuple[Metric | MetricPattern, ...]:
        """Every metric that the exporter declares, by name."""
        return declared_in(*_modules(sys.modules[self.open.__module__]))


def _modules(module: ModuleType) -> list[ModuleType]:
    """The module, and all modules below it when it is a package."""
    found = [module]
    for entry in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{module.__name__}."):
        if not entry.name.endswith(".__main__"):
            found += _modules(importlib.import_module(entry.name))
    return found


def describe(failure: BaseException) -> str:
    """One line that says what went wrong, its class first."""
    text = " ".join(str(failure).split())
    name = type(failure).__name__
    return f"{name}: {text[:500]}" if text else name
