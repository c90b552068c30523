"""The stable interface for exporter authors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from deckwatch.config.client_tls import client_context as client_context
from deckwatch.config.client_tls import tls_failure as tls_failure

if TYPE_CHECKING:
    from pydantic import BaseModel

    from deckwatch.metrics.declaration import Metric, MetricPattern, Sample


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
