"""Jobs: work with a beginning and an end, such as a migration, an import or a cron job."""

import logging
import sys
import threading
import time
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Self

from .declared import (
    JOB_IN_PROGRESS,
    JOB_INTERVAL,
    JOB_ITEMS,
    JOB_ITEMS_DONE,
    JOB_LAST_DURATION,
    JOB_LAST_FAILURE,
    JOB_LAST_PROGRESS,
    JOB_LAST_START,
    JOB_LAST_SUCCESS,
    JOB_RUNS,
    Declared,
)
from .library_metrics import counter_of, gauge_of

if TYPE_CHECKING:
    from rich.progress import Progress

_log = logging.getLogger("deckwatch.jobs")
_log.addHandler(logging.NullHandler())  # without it, failures are printed where logging is not set up


class job:  # noqa: N801 - used like a function, as contextlib.suppress is
    """Measure a run of a job, and show its progress when the program runs in a terminal: a context manager.

    `total` is the number of items. `every` is the longest expected time between two successful runs (seconds or a
    timedelta), after which the alert JobLate fires. A run fails if its block raises an exception.
    """

    def __init__(self, name: str, *, total: int | None = None, every: float | timedelta | None = None) -> None:
        self.name = name
        self.total = total
        self.done = 0
        self.failed = 0
        self._every = every.total_seconds() if isinstance(every, timedelta) else every
        self._failure = ""
        self._started = 0.0
        self._lock = threading.Lock()
        self._progress: Progress | None = None

    def advance(self, ok: int | None = None, failed: int = 0) -> None:
        """Count processed items: `advance()` is one item that succeeded. Threads may share a job."""
        succeeded = (0 if failed else 1) if ok is None else ok
        if succeeded:
            counter_of(JOB_ITEMS_DONE).labels(self.name, "ok").inc(succeeded)
        if failed:
            counter_of(JOB_ITEMS_DONE).labels(self.name, "failed").inc(failed)
        self._set(JOB_LAST_PROGRESS, time.time())
        with self._lock:
            self.done += succeeded
            self.failed += failed
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], completed=self.done + self.failed)

    def fail(self, reason: str) -> None:
        """Let the run fail although its block raises nothing."""
        self._failure = reason

    def __enter__(self) -> Self:
        self._started = time.perf_counter()
        # Created at 0, so that increase() sees the first run and the first item.
        for outcome in ("success", "failure"):
            counter_of(JOB_RUNS).labels(self.name, outcome)
        for outcome in ("ok", "failed"):
            counter_of(JOB_ITEMS_DONE).labels(self.name, outcome)
        gauge_of(JOB_IN_PROGRESS).labels(self.name).inc()
        self._set(JOB_LAST_START, time.time())
        self._set(JOB_LAST_PROGRESS, time.time())
        if self.total is not None:
            self._set(JOB_ITEMS, self.total)
        if self._every is not None:
            self._set(JOB_INTERVAL, self._every)
        self._log(logging.INFO, "job.started", f"job {self.name} started", total=self.total)
        self._progress = _progress_bar(self.name, self.total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
        duration = time.perf_counter() - self._started
        if error is not None and not (isinstance(error, SystemExit) and error.code in (None, 0)):
            self._failure = f"{type(error).__name__}: {error}"
        # The outcome is set before the run ends: a run that ends without an outcome counts as killed.
        self._set(JOB_LAST_DURATION, duration)
        self._set(JOB_LAST_FAILURE if self._failure else JOB_LAST_SUCCESS, time.time())
        counter_of(JOB_RUNS).labels(self.name, "failure" if self._failure else "success").inc()
        gauge_of(JOB_IN_PROGRESS).labels(self.name).dec()
        figures = {"duration_seconds": round(duration, 3), "done": self.done, "failed": self.failed}
        if self._failure:
            text = f"job {self.name} failed after {duration:.1f} s: {self._failure}"
            self._log(logging.ERROR, "job.failed", text, error=self._failure, **figures)
        else:
            self._log(logging.INFO, "job.succeeded", f"job {self.name} succeeded in {duration:.1f} s", **figures)

    def _set(self, metric: Declared, value: float) -> None:
        gauge_of(metric).labels(self.name).set(value)

    def _log(self, level: int, event: str, text: str, **fields: object) -> None:
        known = {name: value for name, value in fields.items() if value is not None}
        _log.log(level, "%s", text, extra={"event": event, "job_name": self.name, **known})


def forget(name: str) -> None:
    """End the alerts of a job that no longer exists."""
    for metric in (JOB_INTERVAL, JOB_LAST_FAILURE, JOB_LAST_START):
        gauge_of(metric).labels(name).set(0)


def _progress_bar(name: str, total: int | None) -> "Progress | None":
    """A progress bar that has been started, if standard error is a terminal and rich is installed."""
    if not (sys.stderr and sys.stderr.isatty()):
        return None
    try:
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        return None
    bar = Progress(
        *Progress.get_default_columns()[:2],
        MofNCompleteColumn(),
        TextColumn("items"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    bar.add_task(name, total=total)
    bar.start()
    return bar
