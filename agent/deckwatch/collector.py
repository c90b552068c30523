"""The collector contract, and `run_once()`, the one place where a collector's failure is caught."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pydantic import BaseModel

    from deckwatch.metric import Metric, MetricPattern, Sample


@runtime_checkable
class Collector(Protocol):
    """What measures one thing. It may block and may raise; it yields fresh samples on every call."""

    def collect(self) -> Iterable[Sample]: ...


class NotAvailable(Exception):
    """Raised by `collect()` when the machine has nothing of this kind (no such kernel file, no such device).

    The run counts as a success without samples: what is not there is absent, and no fault.
    """


@dataclass(frozen=True)
class Probe:
    """A collector and how it is run.

    `name` is `exporter` or `exporter.part` (`postgres.statements`). `may_block` is False only for what reads nothing
    but kernel files that always answer: such probes of one target share a thread and a job. `interval` (seconds)
    overrides the agent's; `max_series` overrides the exporter's budget. `close()` is called once when the probe goes.
    """

    name: str
    collector: Collector
    target: str = ""
    may_block: bool = True
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
class Exporter:
    """A thing that can be watched: what stands under `exporters.<name>` in the config.

    `settings` is the (frozen) model of one target; with `named` the config holds a list of them, each with a `name`
    of its own, else one mapping. `open()` makes the probes of a target and may not block: connecting belongs into
    `collect()`. `scrape_prefix` is the prefix of the peer's `<prefix>_scrape_collector_success`, where it has one.
    `check()` looks for what a target lacks; that it answers at all is checked without it.
    """

    name: str
    settings: type[BaseModel]
    open: Callable[[Any], Sequence[Probe]]
    metrics: tuple[Metric | MetricPattern, ...]
    named: bool = False
    scrape_prefix: str = ""
    max_series: int = 20_000
    check: Callable[[Any], Iterable[Finding]] = lambda _settings: ()
