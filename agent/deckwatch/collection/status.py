"""The status of the agent, its targets and its collectors, as the page, the health endpoints and the API show it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

State = Literal["ok", "pending", "not_run", "failing", "hung"]

_WORST_LAST: tuple[State, ...] = ("ok", "pending", "not_run", "failing", "hung")


@dataclass(frozen=True)
class CollectorStatus:
    """One collector. Times are Unix seconds, `duration` is seconds; what is not known yet is None."""

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


@dataclass(frozen=True)
class TargetStatus:
    """One target, with the worst state of its collectors and the error of each that fails."""

    exporter: str
    target: str
    state: State
    errors: dict[str, str]
    last_run: float | None


@dataclass(frozen=True)
class LogDestinationStatus:
    """One destination of logs. `since` (Unix seconds) and `error` are set while pushes fail."""

    name: str
    state: State
    since: float | None = None
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

    `problems` are faults of the agent itself, each a sentence that says what to do.
    """

    version: str
    started: float
    config: str | None
    config_loaded: bool
    collectors: tuple[CollectorStatus, ...] = ()
    host: HostStatus = field(default_factory=HostStatus)
    logs: tuple[LogDestinationStatus, ...] = ()
    problems: tuple[str, ...] = ()

    def targets(self) -> list[TargetStatus]:
        """The targets in the order of their collectors."""
        members: dict[tuple[str, str], list[CollectorStatus]] = {}
        for collector in self.collectors:
            members.setdefault((collector.exporter, collector.target), []).append(collector)
        return [
            TargetStatus(
                exporter,
                target,
                max((collector.state for collector in found), key=_WORST_LAST.index),
                {collector.name: collector.error for collector in found if collector.error},
                max(collector.last_run or 0 for collector in found) or None,
            )
            for (exporter, target), found in members.items()
        ]
