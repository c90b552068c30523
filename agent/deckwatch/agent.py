"""The agent: makes a config's targets into jobs on a board, answers for them, and takes over a changed config."""

from __future__ import annotations

import dataclasses
import logging
import sys
import threading
import time
from typing import TYPE_CHECKING

from deckwatch import __version__
from deckwatch.board import NO_TARGET, Board, Selection, UnknownSelectionError
from deckwatch.collector import Context, Probe, SeriesBudget
from deckwatch.config import ConfigError, changed
from deckwatch.host_summary import HostSummary
from deckwatch.metric import gauge
from deckwatch.negotiation import accepts_gzip, choose_format
from deckwatch.schedule import Schedule
from deckwatch.self_process import OwnProcess
from deckwatch.server import Exposition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from deckwatch.board import Slot
    from deckwatch.collector import Exporter
    from deckwatch.config import Config, TargetConfig
    from deckwatch.logs.service import LogService
    from deckwatch.logs.settings import LogsSettings
    from deckwatch.metric import Sample
    from deckwatch.registry import Registry
    from deckwatch.schedule import Job

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

    def scrape(
        self, accept: str, accept_encoding: str, collect: Sequence[str], target: str | None, client: str
    ) -> Exposition:
        chosen = choose_format(accept)
        compress = accepts_gzip(accept_encoding)
        try:
            body = self.board.render(Selection(tuple(collect), target), chosen.is_openmetrics, compress)
        except UnknownSelectionError as unknown:
            return Exposition(400, f"{unknown}\n".encode(), "text/plain; charset=utf-8", "")
        if not collect:
            self._schedule.arrival(client, "" if target is None or target == NO_TARGET else target)
        return Exposition(200, body, chosen.content_type, "gzip" if compress else "")

    def ready(self) -> bool:
        return all(slot.snapshot is not None or slot.overdue for slot in self.board.slots())

    def targets(self) -> list[tuple[str, str]]:
        return [(target.exporter, target.name) for target in self._config.targets if target.name]

    def status(self) -> dict[str, object]:
        jobs = {(probe.name, probe.target): job for job in self._schedule.jobs() for probe in job.probes}
        return {
            "version": __version__,
            "started": self._started,
            "config": str(self._config.path) if self._config.path else None,
            "config_loaded": self._loaded[0],
            "collectors": [
                {
                    "name": slot.probe.name,
                    "exporter": slot.exporter,
                    "target": slot.probe.target,
                    "state": _state(slot),
                    "last_run": slot.snapshot and slot.snapshot.ended,
                    "duration": slot.snapshot and slot.snapshot.duration,
                    "samples": slot.snapshot.series if slot.snapshot and not slot.overdue else None,
                    "error": (slot.snapshot and slot.snapshot.error) or None,
                    "next_run": _next_run(jobs.get((slot.probe.name, slot.probe.target))),
                }
                for slot in self.board.slots()
            ],
            "host": self._host.ratios,
        }

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


def open_target(exporter: Exporter, target: TargetConfig, thresholds: dict[str, float]) -> list[Probe]:
    """The probes of one target, each bearing its name."""
    context = Context(target.name, thresholds, logging.getLogger(f"deckwatch.{target.exporter}"))
    return [dataclasses.replace(probe, target=target.name) for probe in exporter.open(target.settings, context)]


def _state(slot: Slot) -> str:
    if slot.overdue:
        return "hung"
    if slot.snapshot is None:
        return "pending"
    return "failing" if slot.snapshot.error else "ok"


def _next_run(job: Job | None) -> float | None:
    return job.next_run if job is not None else None


def quicken_thread_switches() -> None:
    """Let a thread that computes give way after 1 ms instead of 5: no scrape waits longer for a collector."""
    sys.setswitchinterval(0.001)
