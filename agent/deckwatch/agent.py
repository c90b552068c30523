"""The agent: makes a config's targets into jobs on a board, answers for them, and takes over a changed config."""

from __future__ import annotations

import logging
import sys
import threading
import time
from typing import TYPE_CHECKING

from deckwatch import __version__
from deckwatch.collection.board import NO_TARGET, Board, Selection
from deckwatch.collection.host_summary import HostSummary
from deckwatch.collection.own_process import OwnProcess
from deckwatch.collection.run import SeriesBudget
from deckwatch.collection.scheduler import Schedule
from deckwatch.collection.status import AgentStatus, CollectorStatus
from deckwatch.collection.targets import open_target
from deckwatch.config import ConfigError, changed
from deckwatch.exporter import Probe
from deckwatch.metrics.declaration import gauge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from deckwatch.collection.board import Slot
    from deckwatch.collection.registry import Registry
    from deckwatch.collection.scheduler import Job
    from deckwatch.collection.status import State
    from deckwatch.config import Config, TargetConfig
    from deckwatch.config.log_settings import LogsSettings
    from deckwatch.logs.service import LogService
    from deckwatch.metrics.declaration import Sample

RELOAD_SUCCESSFUL = gauge(
    "deckwatch_config_last_reload_successful", "Whether the config file could be loaded when that was last tried."
)
RELOAD_SUCCESS_TIMESTAMP = gauge(
    "deckwatch_config_last_reload_success_timestamp_seconds",
    "When a config was last loaded successfully, in Unix seconds.",
)
THRESHOLDS = {
    "cpu_ratio": gauge("deckwatch_threshold_cpu_ratio", "CPU usage above which alerts fire, as a ratio."),
    "process_memory_bytes": gauge(
        "deckwatch_threshold_process_memory_bytes", "Resident memory of a process above which alerts fire, in bytes."
    ),
    "slow_query": gauge(
        "deckwatch_threshold_slow_query_seconds", "Duration from which a database query counts as slow, in seconds."
    ),
    "cache_hit_ratio": gauge(
        "deckwatch_threshold_cache_hit_ratio", "Cache hit ratio below which alerts fire, as a ratio."
    ),
}

#: The name under which the agent's own collectors stand beside the exporters.
OWN = "deckwatch"


class Agent:
    """What `deckwatch run` runs. `load()` reads the config again, for a reload; it raises ConfigError.

    `state` is the folder for what has to be known after a restart.
    """

    def __init__(self, config: Config, registry: Registry, load: Callable[[], Config], state: Path) -> None:
        self._config = config
        self._registry = registry
        self._load = load
        self._log = logging.getLogger("deckwatch.agent")
        self._started = time.time()
        self._reloading = threading.Lock()
        self._loaded = (True, self._started)
        # One mapping for the agent's whole life: exporters see a changed threshold without being opened anew.
        self._thresholds = dict(config.thresholds)
        self._host = HostSummary()
        self.board = Board()
        self._schedule = Schedule(self.board)
        self._jobs: dict[tuple[str, str], tuple[str, ...]] = {}
        self._state = state
        self._logs: LogService | None = None

    @property
    def config(self) -> Config:
        return self._config

    def start(self) -> None:
        """Start collecting, every target once at once."""
        own = (
            Probe("deckwatch.agent", self, may_block=False),
            Probe("deckwatch.process", OwnProcess(), may_block=False),
        )
        interval, budget = self._config.settings.interval, SeriesBudget(1000)
        self._schedule.add(OWN, own, budget, interval, exporter=OWN)
        # A job of its own: the root file system may be one that hangs.
        self._schedule.add(f"{OWN}.host", [Probe("deckwatch.host", self._host)], budget, interval, exporter=OWN)
        for target in self._config.targets:
            self._add(target)
        self._schedule.start()
        if self._config.logs is not None:
            self._ship(self._config.logs)

    def stop(self) -> None:
        self._schedule.stop()
        if self._logs is not None:
            self._logs.use(None)

    def _ship(self, settings: LogsSettings | None) -> None:
        if self._logs is None:
            from deckwatch.logs.service import LogService  # an agent that ships no logs does not load it

            self._logs = LogService(self._state)
            probe = Probe(f"{OWN}.logs", self._logs)
            interval = self._config.settings.interval
            self._schedule.add(f"{OWN}.logs", [probe], SeriesBudget(5000), interval, exporter=OWN)
        self._logs.use(settings)

    def collect(self) -> Iterator[Sample]:
        """The agent as a collector of its own state: thresholds, and how the last reload went."""
        successful, timestamp = self._loaded
        yield RELOAD_SUCCESSFUL(successful)
        yield RELOAD_SUCCESS_TIMESTAMP(timestamp)
        for name, value in self._thresholds.items():
            yield THRESHOLDS[name](value)

    # What the server asks for

    def scrape(self, selection: Selection, openmetrics: bool, compress: bool, client: str) -> bytes:
        """The exposition, gzipped with `compress`. Raises UnknownSelectionError.

        `client` tells scrapers apart: their periods are learned, and collection follows them.
        """
        body = self.board.render(selection, openmetrics, compress)
        if not selection.collect:
            self._schedule.arrival(client, "" if selection.target in (None, NO_TARGET) else str(selection.target))
        return body

    def ready(self) -> bool:
        return all(slot.snapshot is not None or slot.overdue for slot in self.board.slots())

    def targets(self) -> list[tuple[str, str]]:
        return [(target.exporter, target.name) for target in self._config.targets if target.name]

    def status(self) -> AgentStatus:
        jobs = {(probe.name, probe.target): job for job in self._schedule.jobs() for probe in job.probes}
        return AgentStatus(
            version=__version__,
            started=self._started,
            config=str(self._config.path) if self._config.path else None,
            config_loaded=self._loaded[0],
            collectors=tuple(
                _status(slot, jobs.get((slot.probe.name, slot.probe.target))) for slot in self.board.slots()
            ),
            host=self._host.status,
        )

    def reload(self) -> str | None:
        """Take over the config file as it is now. Returns what is wrong with it, with which the old one stays."""
        with self._reloading:
            try:
                new = self._load()
            except ConfigError as wrong:
                self._loaded = (False, self._loaded[1])
                self._log.error(
                    "config not reloaded, the old one stays: %s", wrong, extra={"event": "config.reload_failed"}
                )
                return str(wrong)
            self._take_over(new)
            self._loaded = (True, time.time())
            self._log.info("config reloaded", extra={"event": "config.reloaded"})
            return None

    def _take_over(self, new: Config) -> None:
        old = self._config
        for key in ("listen", "web_config"):
            if getattr(old.settings, key) != getattr(new.settings, key):
                self._log.warning("a changed %r takes effect after a restart", key)
        difference = changed(old, new)
        for target in difference.removed:
            self._remove(target)
        self._thresholds.update(new.thresholds)
        self._config = new
        for target in difference.added:
            self._add(target)
        if old.logs != new.logs:
            self._ship(new.logs)
        if old.settings.interval != new.settings.interval:
            self._schedule.set_interval(new.settings.interval)

    def _add(self, target: TargetConfig) -> None:
        exporter = self._registry.get(target.exporter)
        budget = SeriesBudget(target.max_series or exporter.max_series)
        probes = open_target(exporter, target, self._thresholds)
        jobs: dict[tuple[str, float | None], list[Probe]] = {}
        for probe in probes:
            share = probe.group or ("" if not probe.may_block and probe.interval is None else probe.name)
            jobs.setdefault((share, probe.interval), []).append(probe)
        names = []
        for (share, every), members in jobs.items():
            part = f"{share}@{every:g}s" if probes[0].group and every else share
            name = "/".join(filter(None, (target.exporter, target.name, part)))
            interval = target.interval or members[0].interval
            self._schedule.add(
                name,
                members,
                budget,
                interval or self._config.settings.interval,
                exporter=target.exporter,
                scrape_prefix=exporter.scrape_prefix,
                fixed=interval is not None,
            )
            names.append(name)
        self._jobs[target.exporter, target.name] = tuple(names)

    def _remove(self, target: TargetConfig) -> None:
        for name in self._jobs.pop((target.exporter, target.name)):
            self._schedule.remove(name)


def _status(slot: Slot, job: Job | None) -> CollectorStatus:
    snapshot = slot.snapshot
    return CollectorStatus(
        name=slot.probe.name,
        exporter=slot.exporter,
        target=slot.probe.target,
        state=_state(slot),
        last_run=snapshot.ended if snapshot else None,
        duration=snapshot.duration if snapshot else None,
        samples=snapshot.series if snapshot and not slot.overdue else None,
        error=(snapshot and snapshot.error) or None,
        next_run=job.next_run if job is not None else None,
    )


def _state(slot: Slot) -> State:
    if slot.overdue:
        return "hung"
    if slot.snapshot is None:
        return "pending"
    return "failing" if slot.snapshot.error else "ok"


def quicken_thread_switches() -> None:
    """Let a thread that computes give way after 1 ms instead of 5: no scrape waits longer for a collector."""
    sys.setswitchinterval(0.001)
