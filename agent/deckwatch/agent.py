"""The agent: turns the targets of a config into jobs, answers scrapes from the board, and applies a changed config."""

from __future__ import annotations

import logging
import sys
import threading
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from deckwatch import __version__
from deckwatch.collection.board import NO_TARGET, Board, Selection
from deckwatch.collection.host_summary import HostSummary
from deckwatch.collection.key_figures import INTERVAL, KeyFigures
from deckwatch.collection.own_process import OwnProcess
from deckwatch.collection.run import NamedCollector, SeriesBudget
from deckwatch.collection.scheduler import Scheduler
from deckwatch.collection.status import AgentStatus, CollectorStatus, DestinationStatus, LogJournalStatus
from deckwatch.collection.targets import open_target
from deckwatch.config import ConfigError, changed
from deckwatch.exporter import KeyFigure
from deckwatch.metrics.declaration import Gauge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from deckwatch.collection.board import Slot
    from deckwatch.collection.registry import Registry
    from deckwatch.collection.status import AlertStatus
    from deckwatch.collection.targets import OpenedTarget
    from deckwatch.config import Config, TargetConfig
    from deckwatch.config.log_settings import LogsSettings
    from deckwatch.exporter import Collector
    from deckwatch.logs.service import LogService
    from deckwatch.metrics.declaration import Sample
    from deckwatch.remote_write.service import RemoteWrite

RELOAD_SUCCESSFUL = Gauge(
    "deckwatch_config_last_reload_successful", "Whether the last reload of the config file succeeded."
)
RELOAD_SUCCESS_TIMESTAMP = Gauge(
    "deckwatch_config_last_reload_success_timestamp_seconds",
    "Time of the last successful load of the config file, in Unix seconds.",
)
THRESHOLDS = {
    "cpu_ratio": Gauge("deckwatch_threshold_cpu_ratio", "CPU usage above which alerts fire, as a ratio."),
    "process_memory_bytes": Gauge(
        "deckwatch_threshold_process_memory_bytes", "Resident memory of a process above which alerts fire, in bytes."
    ),
    "slow_query": Gauge(
        "deckwatch_threshold_slow_query_seconds", "Duration above which a database query counts as slow, in seconds."
    ),
    "cache_hit_ratio": Gauge(
        "deckwatch_threshold_cache_hit_ratio", "Cache hit ratio below which alerts fire, as a ratio."
    ),
}

_OWN_FIGURES = (
    KeyFigure("CPU", "process_cpu_seconds_total", unit="ratio", per_second=True),
    KeyFigure("Memory", "process_resident_memory_bytes", unit="bytes"),
)
_LOG_FIGURES = (
    KeyFigure("Lines", "log_messages_total", per_second=True),
    KeyFigure("Warnings", "log_messages_total", per_second=True, where={"level": "warning"}),
    KeyFigure("Errors", "log_messages_total", per_second=True, where={"level": "error"}),
    KeyFigure("Behind", "deckwatch_log_lag_bytes", unit="bytes"),
    KeyFigure("Spool", "deckwatch_log_spool_bytes", unit="bytes"),
    KeyFigure("Dropped", "deckwatch_log_lines_dropped_total", per_second=True),
    KeyFigure("Unusable values", "deckwatch_log_metric_invalid_values_total", per_second=True),
)
_MAX_RATIO = 0.9  # of memory and disk, above which the page warns

#: The agent's own collectors have this in the place of an exporter's name.
OWN = "deckwatch"

#: The key figures of logs have this in the place of an exporter's name.
LOGS = "logs"
_MAX_LOG_METRICS = 20_000  # series of metrics made from log lines

#: The exporter that shows the figures of the host on its card.
HOST = "system"

_MAX_CLOSE = 1.0  # seconds that all targets together may take to close when the agent stops


class AlertSource(Protocol):
    """A collector without samples that keeps the firing alerts; `problem` is why they are unknown."""

    firing: tuple[AlertStatus, ...]
    problem: str

    def collect(self) -> Iterable[Sample]: ...


class Agent:
    """The running agent. `load()` reads the config again for a reload and raises ConfigError.

    `state` is the folder for data that survives a restart. `own` are further collectors of the agent's
    own metrics, by name, which never block. `alerts` reads the alerts that fire, and may block.
    """

    def __init__(
        self,
        config: Config,
        registry: Registry,
        load: Callable[[], Config],
        state: Path,
        own: Mapping[str, Collector] = MappingProxyType({}),
        alerts: AlertSource | None = None,
    ) -> None:
        self._config = config
        self._registry = registry
        self._load = load
        self._log = logging.getLogger("deckwatch.agent")
        self._started = time.time()
        self._reloading = threading.Lock()
        self._loaded = (True, self._started)
        # One mapping for the life of the agent: exporters see changed thresholds without being reopened.
        self._thresholds = dict(config.thresholds)
        self._host = HostSummary()
        self.board = Board()
        self._scheduler = Scheduler(self.board)
        self._figures = KeyFigures(self.board)
        self._alerts = alerts
        self._jobs: dict[tuple[str, str], tuple[str, ...]] = {}
        self._opened: dict[tuple[str, str], OpenedTarget] = {}
        self._state = state
        self._own = own
        self._logs: LogService | None = None
        self._remote_write: RemoteWrite | None = None

    @property
    def config(self) -> Config:
        return self._config

    def start(self) -> None:
        """Start collecting; every target runs once immediately."""
        self._add_own(OWN, {"agent": self, "process": OwnProcess(), **self._own}, 1000)
        # A separate job, since the root file system can hang.
        self._add_own(f"{OWN}.host", {"host": self._host}, 1000)
        self._add_own(f"{OWN}.key_figures", {"key_figures": self._figures}, 1000, INTERVAL)
        self._figures.watch(OWN, "", _OWN_FIGURES)
        if self._alerts is not None:
            self._add_own(f"{OWN}.alerts", {"alerts": self._alerts}, 1000, INTERVAL)
        for target in self._config.targets:
            self._add(target)
        if self._config.logs is not None:
            self._ship(self._config.logs)  # before the first runs, which log the targets that cannot be reached
        self._scheduler.start()
        self._write_remotely()

    def stop(self) -> None:
        """Start no more runs, end log shipping, and close the targets. Does not wait for a target that hangs."""
        if self._remote_write is not None:
            self._remote_write.use((), 0)
        self._scheduler.stop()
        if self._logs is not None:
            self._logs.use(None)
        deadline = time.monotonic() + _MAX_CLOSE
        for opened in self._opened.values():
            opened.closed.wait(max(0.0, deadline - time.monotonic()))

    def _ship(self, settings: LogsSettings | None) -> None:
        if self._logs is None:
            from deckwatch.logs.service import LogService  # loaded only if logs are shipped

            self._logs = LogService(self._state)
            self._add_own(f"{OWN}.logs", {"logs": self._logs}, 5000)
            self._add_own(f"{OWN}.log_metrics", {"log_metrics": self._logs.metrics}, _MAX_LOG_METRICS)
        self._logs.use(settings)
        if settings is None:
            self._figures.forget(LOGS, "")
        else:
            self._figures.watch(LOGS, "", _LOG_FIGURES, source=OWN)

    def _write_remotely(self) -> None:
        settings = self._config.settings
        if self._remote_write is None:
            if not settings.remote_write:
                return
            from deckwatch.remote_write.service import RemoteWrite  # loaded only if there is a receiver

            self._remote_write = RemoteWrite(self._state, self._exposition)
            self._add_own(f"{OWN}.remote_write", {"remote_write": self._remote_write}, 1000)
        self._remote_write.use(settings.remote_write, settings.interval)

    def _exposition(self, client: str) -> bytes:
        """What a scrape reads. Collection follows it, as it follows a scraper."""
        return b"".join(self.scrape(Selection(), openmetrics=False, compress=False, client=client))

    def _add_own(
        self, job: str, collectors: Mapping[str, Collector], max_series: int, interval: float | None = None
    ) -> None:
        named = [NamedCollector(f"{OWN}.{name}", collector) for name, collector in collectors.items()]
        gap = interval or self._config.settings.interval
        self._scheduler.add(job, named, SeriesBudget(max_series), gap, exporter=OWN, fixed=interval is not None)

    def collect(self) -> Iterator[Sample]:
        """Yield the agent's own state: thresholds and the result of the last reload."""
        successful, timestamp = self._loaded
        yield RELOAD_SUCCESSFUL(successful)
        yield RELOAD_SUCCESS_TIMESTAMP(timestamp)
        for name, value in self._thresholds.items():
            yield THRESHOLDS[name](value)

    # For the HTTP server

    def scrape(self, selection: Selection, openmetrics: bool, compress: bool, client: str) -> tuple[bytes, bytes]:
        """The exposition in two parts, gzipped with `compress`. Raises UnknownSelectionError.

        `client` tells scrapers apart: their periods are learned, and collection follows them.
        """
        parts = self.board.parts(selection, openmetrics, compress)
        if not selection.collect:
            self._scheduler.arrival(client, "" if selection.target in (None, NO_TARGET) else str(selection.target))
        return parts

    def ready(self) -> bool:
        return self.board.is_complete()

    def targets(self) -> list[tuple[str, str]]:
        return [(target.exporter, target.name) for target in self._config.targets if target.name]

    def status(self) -> AgentStatus:
        next_runs = {
            (named.name, named.target): job.next_run for job in self._scheduler.jobs() for named in job.collectors
        }
        return AgentStatus(
            version=__version__,
            started=self._started,
            config=str(self._config.path) if self._config.path else None,
            config_loaded=self._loaded[0],
            collectors=tuple(
                _status(slot, next_runs.get((slot.named.name, slot.named.target))) for slot in self.board.slots()
            ),
            host=self._host.status,
            logs=tuple(
                DestinationStatus(name, "ok" if since is None else "failing", since, error or None)
                for name, (since, error) in (self._logs.failing() if self._logs else {}).items()
            ),
            journals=tuple(
                LogJournalStatus(name, "failing" if error else "ok" if is_read else "pending", error or None)
                for name, (is_read, error) in (self._logs.journals() if self._logs else {}).items()
            ),
            remote_write=tuple(
                DestinationStatus(name, "ok" if since is None else "failing", since, error or None)
                for name, (since, error) in (self._remote_write.failing() if self._remote_write else {}).items()
            ),
            problems=(self._alerts.problem,) if self._alerts is not None and self._alerts.problem else (),
            key_figures=self._figures.current(),
            alerts=None if self._alerts is None or self._alerts.problem else self._alerts.firing,
            runbooks={
                name: self._registry.get(name).runbook for name in {target.exporter for target in self._config.targets}
            },
        )

    def history(self, exporter: str, target: str, title: str) -> Sequence[float]:
        return self._figures.history(exporter, target, title)

    def reload(self) -> str | None:
        """Apply the config file as it is now. Returns what is wrong with it; the previous config stays in effect."""
        with self._reloading:
            try:
                new = self._load()
            except ConfigError as wrong:
                self._loaded = (False, self._loaded[1])
                self._log.error(
                    "config not reloaded, the previous config stays in effect: %s",
                    wrong,
                    extra={"event": "config.reload_failed"},
                )
                return str(wrong)
            self._take_over(new)
            self._loaded = (True, time.time())
            self._log.info("config reloaded", extra={"event": "config.reloaded"})
            return None

    def _take_over(self, new: Config) -> None:
        old = self._config
        for key in ("listen", "web_config", "allowed_hosts", "prometheus_url"):
            if getattr(old.settings, key) != getattr(new.settings, key):
                self._log.warning("the change of %r takes effect after a restart", key)
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
            self._scheduler.set_interval(new.settings.interval)
        self._write_remotely()

    def _add(self, target: TargetConfig) -> None:
        exporter = self._registry.get(target.exporter)
        budget = SeriesBudget(target.max_series or exporter.max_series)
        opened = open_target(exporter, target, self._thresholds)
        if target.exporter == HOST:
            self._figures.watch_ratios(HOST, self._host_ratios, self._host_limits)
        else:
            self._figures.watch(target.exporter, target.name, exporter.key_figures)
        names = []
        for group, collectors in opened.groups().items():
            name = "/".join(filter(None, (target.exporter, target.name, group)))
            intervals = [named.interval or target.interval for named in collectors]
            own = [interval for interval in intervals if interval is not None]
            is_fixed = len(own) == len(intervals)
            self._scheduler.add(
                name,
                collectors,
                budget,
                min(own) if is_fixed else min([*own, self._config.settings.interval]),
                exporter=target.exporter,
                scrape_prefix=exporter.scrape_prefix,
                fixed=is_fixed,
                on_end=opened.release,
            )
            names.append(name)
        if not names:
            opened.release()  # all of its collectors are disabled
        self._jobs[target.exporter, target.name] = tuple(names)
        self._opened[target.exporter, target.name] = opened

    def _host_ratios(self) -> dict[str, float | None]:
        host = self._host.status
        return {"CPU": host.cpu_ratio, "Memory": host.memory_ratio, "Disk": host.disk_ratio}

    def _host_limits(self) -> dict[str, float]:
        return {"CPU": self._thresholds["cpu_ratio"], "Memory": _MAX_RATIO, "Disk": _MAX_RATIO}

    def _remove(self, target: TargetConfig) -> None:
        self._opened.pop((target.exporter, target.name))
        self._figures.forget(target.exporter, target.name)
        for name in self._jobs.pop((target.exporter, target.name)):
            self._scheduler.remove(name)


def _status(slot: Slot, next_run: float | None) -> CollectorStatus:
    snapshot = slot.snapshot
    return CollectorStatus(
        name=slot.named.name,
        exporter=slot.exporter,
        target=slot.named.target,
        state=slot.state,
        last_run=snapshot.ended if snapshot else None,
        duration=snapshot.duration if snapshot else None,
        samples=snapshot.series if snapshot and not slot.overdue else None,
        error=(snapshot and snapshot.cause) or None,
        remedy=(snapshot and snapshot.remedy) or None,
        lacks=snapshot.lacks if snapshot and not slot.overdue else (),
        next_run=next_run,
        since=slot.since,
        cpu_seconds=round(slot.cpu, 6),
    )


def quicken_thread_switches() -> None:
    """Make a computing thread give way after 1 ms instead of 5, so that scrapes wait less for collectors."""
    sys.setswitchinterval(0.001)
