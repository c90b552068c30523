"""The agent's log service: a pipeline that is replaced on reload, and a collector for its counters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deckwatch.exporter import Unreachable
from deckwatch.logs.counts import LogCounts
from deckwatch.logs.log_metrics import LogMetrics
from deckwatch.logs.pipeline import Pipeline
from deckwatch.logs.sources.own_log import OwnLog

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deckwatch.config.log_settings import LogsSettings
    from deckwatch.metrics.declaration import Sample


class LogService:
    """Runs the log pipeline. `folder` is the agent's state folder. Counters survive a reload."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "logs"
        self._counts = LogCounts()
        self.metrics = LogMetrics()
        self._own = OwnLog()
        self._pipeline: Pipeline | None = None

    def use(self, settings: LogsSettings | None) -> None:
        """Restart the pipeline with these settings, or stop it if they are None."""
        if settings is None or not settings.own:
            self._own.use(None)
        if self._pipeline is not None:
            self._pipeline.stop()
            self._pipeline = None
        if settings is not None:
            self.metrics.use(settings.metrics)
            if settings.own:
                self._own.use(settings.labels_of_own)
            folder = spool_folder(settings, self._folder)
            self._pipeline = Pipeline(settings, self._folder, folder, self._counts, self._own, self.metrics)
            self._pipeline.start()

    def failing(self) -> dict[str, tuple[float | None, str]]:
        """Return the start of the failure (Unix seconds; None if it works) and the error, by destination."""
        return {} if self._pipeline is None else self._counts.failing()

    def journals(self) -> dict[str, tuple[bool, str]]:
        """Return whether each journal is read, and the error if it cannot be."""
        counts = self._counts
        return (
            {}
            if self._pipeline is None
            else {
                name: (is_read, counts.journal_errors.get(name, "")) for name, is_read in dict(counts.journals).items()
            }
        )

    def collect(self) -> Iterable[Sample]:
        self._counts.own_dropped = self._own.dropped
        samples = list(self._counts.samples())
        if self._pipeline is not None and self._pipeline.error:
            raise Unreachable(self._pipeline.error, samples)
        return samples


def spool_folder(settings: LogsSettings, folder: Path) -> Path:
    """Return the spool's folder: the configured one, or `folder`/spool."""
    return Path(settings.spool.dir) if settings.spool.dir else folder / "spool"
