"""Queues: what waits, for how long, and whether anything consumes it, for every kind of broker."""

from __future__ import annotations

from .dashboard import Dashboard, Variable
from .panels import (
    COUNT,
    OPERATIONS,
    RATIO,
    SECONDS,
    graph,
    problem_stat,
    row,
    stat,
    value_table,
)
from .query import BY_TARGET, TARGET

_QUEUE = '{@target, queue=~"$queue"}'
_BY_QUEUE = f"{BY_TARGET}, queue, kind"
_LABEL = f"{TARGET} {{{{queue}}}}"
_LENGTH = f"queue_length{_QUEUE}"
_AGE = f"queue_oldest_message_age_seconds{_QUEUE}"
_ADDED = f"sum by ({_BY_QUEUE}) (rate(queue_enqueued_total{_QUEUE}[@rate]))"
_PROCESSED = f"sum by ({_BY_QUEUE}) (rate(queue_processed_total{_QUEUE}[@rate]))"
_NO_RATE = "No queue of a kind that counts messages, such as redis_stream."

DASHBOARD = Dashboard(
    name="queues",
    title="Queues",
    question="What is piling up, for how long has it waited, and does anything consume it?",
    instances="queue_up",
    targets="queue_up",
    variables=(Variable("queue", "Queue", "queue_length{@target}, queue", "Queues of the chosen targets.", ".*"),),
    panels=[
        problem_stat(
            "Brokers down",
            "Brokers that the agent cannot read. Nothing is known about their queues: check that each one runs, and "
            "read the agent's log.",
            "sum(queue_up{@target} == bool 0)",
        ),
        problem_stat(
            "Queues without consumers",
            "Queues in which messages wait and that nothing consumes. Start their workers. Brokers that do not count "
            "consumers are not included.",
            f"sum(({_LENGTH} > bool 0) * on ({_BY_QUEUE}) (queue_consumers{_QUEUE} == bool 0))",
        ),
        problem_stat(
            "Oldest message",
            "Age of the message that has waited for longest. If it rises, the workers are stopped, stuck or too few: "
            "the table below names the queue.",
            f"max({_AGE})",
            unit=SECONDS,
            bad_from=600,
        ),
        problem_stat(
            "Dead messages added",
            "Failed messages that were added within the time range. Look at their errors before you requeue them.",
            f"round(sum(clamp_min(delta(queue_dead{_QUEUE}[$__range]), 0)))",
        ),
        stat(
            "Waiting",
            "Messages that wait in the chosen queues together.",
            COUNT,
            {"": f"sum({_LENGTH})"},
        ),
        stat(
            "In flight",
            "Messages that consumers hold and have not acknowledged yet.",
            COUNT,
            {"": f"sum(queue_in_flight{_QUEUE})"},
        ),
        value_table(
            "Queues",
            "One row per queue, the one with the oldest message first. Cells stay empty for what the broker does not "
            "report. An age that is not exact is a lower bound.",
            _BY_QUEUE,
            {
                "waiting": (COUNT, _LENGTH),
                "oldest": (SECONDS, _AGE),
                "exact": (COUNT, f"queue_oldest_message_age_exact{_QUEUE}"),
                "in flight": (COUNT, f"queue_in_flight{_QUEUE}"),
                "delayed": (COUNT, f"queue_delayed{_QUEUE}"),
                "dead": (COUNT, f"queue_dead{_QUEUE}"),
                "consumers": (COUNT, f"queue_consumers{_QUEUE}"),
            },
            sort="oldest",
            width=24,
        ),
        row("Backlog"),
        graph(
            "Waiting messages",
            "Messages that wait in each queue. A length that only rises means that too few workers run, or that one "
            "message blocks them.",
            COUNT,
            {_LABEL: _LENGTH},
        ),
        graph(
            "Age of the oldest message",
            "Time that the oldest message of each queue has waited: what a new message has to expect. If it rises by "
            "one second per second, nothing is consumed.",
            SECONDS,
            {_LABEL: _AGE},
        ),
        graph(
            "Time to drain",
            "Time until each queue is empty at the rate at which its length fell over the last five minutes. Queues "
            "that are not shrinking are not shown.",
            SECONDS,
            {_LABEL: f"{_LENGTH} / (-deriv(queue_length{_QUEUE}[5m]) > 0)"},
            no_data="No queue is shrinking.",
        ),
        row("Work"),
        graph(
            "Consumers",
            "Consumers of each queue, as the broker counts them. If the number falls, workers have stopped or lost "
            "their connection.",
            COUNT,
            {_LABEL: f"queue_consumers{_QUEUE}"},
            show_lowest=True,
        ),
        graph(
            "Messages in flight",
            "Messages that consumers hold. If the number does not change while messages wait, the workers hang.",
            COUNT,
            {_LABEL: f"queue_in_flight{_QUEUE}"},
        ),
        graph(
            "Longest time in flight",
            "Time since the delivery of the message that has been in flight for longest. Far above the usual duration "
            "of a task, its worker hangs or was killed.",
            SECONDS,
            {_LABEL: f"queue_oldest_in_flight_age_seconds{_QUEUE}"},
            no_data="No queue of a kind that reports delivery times, such as celery.",
        ),
        graph(
            "Messages added and processed",
            "Per second. While more are added than processed, the queue grows: start workers.",
            OPERATIONS,
            {f"{_LABEL} added": _ADDED, f"{_LABEL} processed": _PROCESSED},
            no_data=_NO_RATE,
        ),
        graph(
            "Processed per message added",
            "Messages processed as a share of those added. Below 100 % for long, the workers do not keep up.",
            RATIO,
            {_LABEL: f"{_PROCESSED} / ({_ADDED} > 0)"},
            no_data=_NO_RATE,
        ),
        graph(
            "Delayed messages",
            "Messages that are scheduled for later. If the number only rises, the scheduler that enqueues them may "
            "not be running.",
            COUNT,
            {_LABEL: f"queue_delayed{_QUEUE}"},
        ),
        row("Failures"),
        graph(
            "Dead messages",
            "Messages that failed and are kept. If the number rises, read their errors, fix the cause and then requeue "
            "them.",
            COUNT,
            {_LABEL: f"queue_dead{_QUEUE}"},
            width=24,
        ),
    ],
)
