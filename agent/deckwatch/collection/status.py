"""The status of the agent, its targets and its collectors, as the page, the health endpoints and the API show it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from deckwatch.exporter import Incomplete

State = Literal["ok", "pending", "not_run", "failing", "hung"]

_WORST_LAST: tuple[State, ...] = ("ok", "pending", "not_run", "failing", "hung")


@dataclass(frozen=True)
class CollectorStatus:
    """One collector. Times are Unix seconds, `duration` is seconds; what is not known yet is None.

    `since` is when it got into its state, `cpu_seconds` the CPU time of all its runs. `lacks` is what it could not read
    although it works.
    """

    name: str
    exporter: str
    target: str
    state: State
    last_run: float | None = None
    duration: float | None = None
    samples: int | None = None
    error: str | None = None
    remedy: str | None = None
    next_run: float | None = None
    since: float | None = None
    cpu_seconds: float = 0.0
    lacks: tuple[Incomplete, ...] = ()


@dataclass(frozen=True)
class TargetStatus:
    """One target, with the worst state of its collectors and the error of each that fails.

    `lacks` is what those that work could not read. It is `is_down` when no collector works. `since` is when it got into
    its state, in Unix seconds. `remedies` are the statements that provide what is missing.
    """

    exporter: str
    target: str
    state: State
    errors: dict[str, str]
    last_run: float | None
    is_down: bool = False
    since: float | None = None
    remedies: tuple[str, ...] = ()
    runbook: str = ""
    lacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class KeyFigureStatus:
    """A figure of a target. `value` is in `unit` (`bytes`, `ratio`, `seconds` or none), None while it is unknown.

    It `is_high` above its threshold.
    """

    exporter: str
    target: str
    title: str
    unit: str
    value: float | None
    per_second: bool = False
    is_high: bool = False


@dataclass(frozen=True)
class AlertStatus:
    """An alert that fires in Prometheus. `since` is in Unix seconds; texts are empty where the alert lacks them."""

    name: str
    severity: str
    summary: str
    description: str
    runbook_url: str
    since: float | None


@dataclass(frozen=True)
class DestinationStatus:
    """One destination of logs or of metrics. `since` (Unix seconds) and `error` are set while pushes fail."""

    name: str
    state: State
    since: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class LogJournalStatus:
    """A journal of systemd that is read, named after what is selected of it. `error` is set if it cannot be read."""

    name: str
    state: State
    error: str | None = None


@dataclass(frozen=True)
class HostStatus:
    """How busy the host is, as ratios; None until measured."""

    cpu_ratio: float | None = None
    memory_ratio: float | None = None
    disk_ratio: float | None = None


@dataclass(frozen=True)
class AgentStatus:
    """The whole agent. `config` is the path of the config file, None for the defaults.

    `alerts` is None unless they are known. `runbooks` are names by exporter. `problems` are faults of the agent itself,
    each a sentence that says what to do. `rejections` are the requests that the HTTP server rejected, by reason.
    """

    version: str
    started: float
    config: str | None
    config_loaded: bool
    collectors: tuple[CollectorStatus, ...] = ()
    host: HostStatus = field(default_factory=HostStatus)
    logs: tuple[DestinationStatus, ...] = ()
    journals: tuple[LogJournalStatus, ...] = ()
    remote_write: tuple[DestinationStatus, ...] = ()
    problems: tuple[str, ...] = ()
    key_figures: tuple[KeyFigureStatus, ...] = ()
    alerts: tuple[AlertStatus, ...] | None = None
    runbooks: dict[str, str] = field(default_factory=dict)
    rejections: dict[str, int] = field(default_factory=dict)

    def targets(self) -> list[TargetStatus]:
        """The targets in the order of their collectors."""
        members: dict[tuple[str, str], list[CollectorStatus]] = {}
        for collector in self.collectors:
            members.setdefault((collector.exporter, collector.target), []).append(collector)
        return [self._target(exporter, target, found) for (exporter, target), found in members.items()]

    def _target(self, exporter: str, target: str, collectors: list[CollectorStatus]) -> TargetStatus:
        state = max((collector.state for collector in collectors), key=_WORST_LAST.index)
        lacks = [lack for collector in collectors for lack in collector.lacks]
        remedies = [*(collector.remedy for collector in collectors), *(lack.remedy for lack in lacks)]
        return TargetStatus(
            exporter,
            target,
            state,
            {collector.name: collector.error for collector in collectors if collector.error},
            max(collector.last_run or 0 for collector in collectors) or None,
            is_down=all(collector.state in ("failing", "hung", "not_run") for collector in collectors),
            since=_since(state, collectors),
            remedies=tuple(dict.fromkeys(remedy for remedy in remedies if remedy)),
            runbook=self.runbooks.get(exporter, ""),
            lacks=tuple(dict.fromkeys(lack.what for lack in lacks)),
        )


def _since(state: State, collectors: list[CollectorStatus]) -> float | None:
    """When a target got into its state: when the last collector recovered, or when the first one failed."""
    times = [it.since for it in collectors if it.state == state and it.since is not None]
    return (max if state == "ok" else min)(times, default=None)
