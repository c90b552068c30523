"""Tasks of Celery and RQ, measured in their workers."""

import functools
import time
from datetime import datetime
from typing import Any

from .declared import WORKER_TASK_DURATION, WORKER_TASK_WAIT, WORKER_TASKS_IN_PROGRESS
from .library_metrics import gauge_of, histogram_of

_ENQUEUED = "deckwatch_enqueued_at"  # header of Celery's messages, Unix seconds


class _Run:
    """A task that a worker runs."""

    def __init__(self, task: str, queue: str, due: float | None) -> None:
        self._names = task, queue
        self._started = time.perf_counter()
        gauge_of(WORKER_TASKS_IN_PROGRESS).labels(*self._names).inc()
        if due is not None:
            histogram_of(WORKER_TASK_WAIT).labels(*self._names).observe(max(0.0, time.time() - due))

    def end(self, outcome: str) -> None:
        duration = time.perf_counter() - self._started
        histogram_of(WORKER_TASK_DURATION).labels(*self._names, outcome).observe(duration)
        gauge_of(WORKER_TASKS_IN_PROGRESS).labels(*self._names).dec()


@functools.cache
def instrument_celery() -> None:
    """Measure Celery's tasks: call it in the module of the Celery application. Only the first call has an effect.

    Workers measure durations and outcomes. How long tasks wait is known for those that a process with this call sends.
    """
    from celery import signals  # type: ignore[import-untyped]  # Celery has no types

    runs: dict[str, _Run] = {}

    def sent(headers: dict[str, Any] | None = None, **_: Any) -> None:
        if isinstance(headers, dict):
            headers.setdefault(_ENQUEUED, time.time())

    def started(task_id: str = "", task: Any = None, **_: Any) -> None:
        request = task.request
        queue = (request.delivery_info or {}).get("routing_key") or ""
        runs[task_id] = _Run(task.name, queue, _celery_due(request))

    def ended(task_id: str = "", state: str | None = None, **_: Any) -> None:
        run = runs.pop(task_id, None)
        if run is not None:
            run.end((state or "unknown").lower())

    signals.before_task_publish.connect(sent, weak=False)
    signals.task_prerun.connect(started, weak=False)
    signals.task_postrun.connect(ended, weak=False)


def _celery_due(request: Any) -> float | None:
    """When the task was due (Unix seconds): its ETA, or when it was sent."""
    try:
        sent = float(getattr(request, _ENQUEUED, None) or (request.headers or {})[_ENQUEUED])
        eta = datetime.fromisoformat(request.eta).timestamp() if request.eta else sent
    except (KeyError, TypeError, ValueError):
        return None
    return max(sent, eta)


@functools.cache
def instrument_rq() -> None:
    """Measure RQ's jobs: call it in the settings module of `rq worker -c`. Only the first call has an effect."""
    from rq import Worker

    perform = Worker.perform_job

    @functools.wraps(perform)
    def measured(self: Any, job: Any, queue: Any, *arguments: Any, **options: Any) -> bool:
        from .logs.setup import flush_logs

        due = job.enqueued_at.timestamp() if job.enqueued_at else None
        run = _Run(job.func_name, job.origin, due)
        outcome = "failure"
        try:
            succeeded: bool = perform(self, job, queue, *arguments, **options)
            outcome = "success" if succeeded else "failure"
        finally:
            run.end(outcome)
            flush_logs()  # the process of the job ends by os._exit
        return succeeded

    Worker.perform_job = measured  # type: ignore[method-assign]  # RQ has no hook for it
