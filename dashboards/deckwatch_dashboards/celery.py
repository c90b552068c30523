"""Celery: tasks by name, their runtimes and failures, and the workers, from Celery's events."""

from __future__ import annotations

from .dashboard import Dashboard, Variable
from .panels import COUNT, OPERATIONS, SECONDS, graph, problem_stat, rate_graph, ratio_graph, row, stat, value_table
from .query import BY_TARGET, TARGET

_TASK = '{@target, name=~"$name"}'
_BY_TASK = f"{BY_TARGET}, name"
_LABEL = f"{TARGET} {{{{name}}}}"
_BY_WORKER = f"{BY_TARGET}, hostname"
_FAILED = f"celery_task_failed_total{_TASK}"
_SUCCEEDED = f"celery_task_succeeded_total{_TASK}"
_ACTIVE = "celery_worker_tasks_active{@target}"
_LEFT_OUT = tuple(f"celery_events_{it}_total{{@target}}" for it in ("lost", "malformed", "limited"))
_NO_FAILURE = "No task has failed."
_NO_TASK = "No task has ended."


def _failure_ratio(window: str) -> str:
    """Failed tasks as a share of those that ended in the time `window`."""
    failed, succeeded = (f"sum by ({_BY_TASK}) (increase({it}[{window}]))" for it in (_FAILED, _SUCCEEDED))
    return f"{failed} / (({failed} + {succeeded}) > 0)"


def _quantile(quantile: float, metric: str, window: str) -> str:
    buckets = f"sum by ({_BY_TASK}, le) (increase({metric}_bucket{_TASK}[{window}]))"
    return f"histogram_quantile({quantile}, {buckets} > 0)"


DASHBOARD = Dashboard(
    name="celery",
    title="Celery",
    question="Which tasks fail or are slow, how long do they wait, and are the workers alive?",
    instances="celery_events_connected",
    targets="celery_events_connected",
    variables=(
        Variable("name", "Task", "celery_task_received_total{@target}, name", "Tasks of the chosen targets.", ".*"),
    ),
    panels=[
        problem_stat(
            "Brokers without events",
            "Brokers from which the agent cannot receive events. Read the agent's log.",
            "sum(celery_events_connected{@target} == bool 0)",
        ),
        problem_stat(
            "Workers down",
            "Workers that no longer send heartbeats. Those that a deployment has replaced disappear on their own.",
            "sum(celery_worker_up{@target} == bool 0)",
        ),
        stat("Workers up", "Workers that send heartbeats.", COUNT, {"": "sum(celery_worker_up{@target})"}),
        stat("Active tasks", "Tasks that workers execute.", COUNT, {"": f"sum({_ACTIVE})"}),
        problem_stat(
            "Tasks failed",
            "Tasks that failed within the time range. The table below names them, the last row their exceptions.",
            f"round(sum(increase({_FAILED}[$__range])))",
            no_data=_NO_FAILURE,
        ),
        problem_stat(
            "Events left out",
            "Events within the time range that did not arrive or could not be read, or that are counted under `other` "
            "because there are too many names. Counts by task are too low then.",
            " + ".join(f"round(sum(increase({it}[$__range])))" for it in _LEFT_OUT),
        ),
        value_table(
            "Tasks",
            "One row per task: what happened within the time range, the one with most failures first.",
            _BY_TASK,
            {
                "received": (COUNT, f"round(increase(celery_task_received_total{_TASK}[$__range]))"),
                "succeeded": (COUNT, f"round(increase({_SUCCEEDED}[$__range]))"),
                "failed": (COUNT, f"round(increase({_FAILED}[$__range]))"),
                "retried": (COUNT, f"round(increase(celery_task_retried_total{_TASK}[$__range]))"),
                "p50": (SECONDS, _quantile(0.5, "celery_task_runtime", "$__range")),
                "p95": (SECONDS, _quantile(0.95, "celery_task_runtime", "$__range")),
                "p99": (SECONDS, _quantile(0.99, "celery_task_runtime", "$__range")),
            },
            sort="failed",
            width=24,
        ),
        row("Tasks"),
        *(
            rate_graph(title, description, OPERATIONS, {"": counter}, by=_BY_TASK)
            for title, description, counter in (
                (
                    "Received",
                    "Tasks per second that workers took from the broker.",
                    f"celery_task_received_total{_TASK}",
                ),
                ("Succeeded", "Tasks per second that succeeded.", _SUCCEEDED),
                (
                    "Retried",
                    "Tasks per second that are to be tried again. If the rate rises, a service that they use may be "
                    "down.",
                    f"celery_task_retried_total{_TASK}",
                ),
            )
        ),
        row("Speed"),
        *(
            graph(
                title,
                description,
                SECONDS,
                {_LABEL: _quantile(quantile, "celery_task_runtime", "@rate")},
                no_data=_NO_TASK,
            )
            for title, quantile, description in (
                ("Runtime, median", 0.5, "Half of the tasks took no longer than this."),
                ("Runtime, 95th percentile", 0.95, "One task in 20 took longer than this."),
                (
                    "Runtime, 99th percentile",
                    0.99,
                    "One task in 100 took longer than this. Values above 10 s are shown as 10 s.",
                ),
            )
        ),
        graph(
            "Wait in the queue, 95th percentile",
            "Time from sending to start, without the time until a task's ETA. If it rises, start more workers. Needs "
            "`task_send_sent_event` in the Celery application.",
            SECONDS,
            {_LABEL: _quantile(0.95, "celery_task_queue_wait_time", "@rate")},
            width=24,
            no_data="No task was sent with task_send_sent_event.",
        ),
        row("Workers"),
        graph(
            "Workers up",
            "Workers that send heartbeats (1). A worker at 0 was killed, hangs or has lost its broker.",
            COUNT,
            {f"{TARGET} {{{{hostname}}}}": "celery_worker_up{@target}"},
            show_lowest=True,
            width=12,
        ),
        graph(
            "Active tasks by worker",
            "Tasks that each worker executes. If the number does not change while tasks wait, the worker is stuck.",
            COUNT,
            {f"{TARGET} {{{{hostname}}}}": _ACTIVE},
            width=12,
        ),
        row("Failures"),
        ratio_graph(
            "Failed tasks",
            "Failed tasks as a share of those that ended, by task.",
            {_LABEL: _failure_ratio("@rate")},
            width=12,
            no_data=_NO_TASK,
        ),
        rate_graph(
            "Failures by exception",
            "Failed tasks per second, by task and class of the exception.",
            OPERATIONS,
            {"": 'celery_task_failed_total{@target, name=~"$name", exception!=""}'},
            by=f"{_BY_TASK}, exception",
            width=12,
            no_data=_NO_FAILURE,
        ),
    ],
)
