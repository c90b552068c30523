"""Jobs of applications and of cron: whether they run, succeed and finish in time."""

from __future__ import annotations

from .dashboard import Dashboard, Variable
from .panels import COUNT, OPERATIONS, SECONDS, graph, problem_stat, rate_graph, row, stat, state_timeline, value_table
from .query import BY_HOST, HOST

_JOB = '{@host, service=~"$service", job_name=~"$job_name"}'
_BY_JOB = f"{BY_HOST}, service, job_name"
_LABEL = f"{HOST} {{{{service}}}} {{{{job_name}}}}"
_SUCCESS = f"job_last_success_timestamp_seconds{_JOB}"
_FAILURE = f"job_last_failure_timestamp_seconds{_JOB}"
_INTERVAL = f"(job_expected_interval_seconds{_JOB} > 0)"
_HAS_FAILED = f"{_FAILURE} > bool ({_SUCCESS} or 0 * {_FAILURE})"
_NO_FAILURE = "No job has failed."
_NO_ITEMS = "No job counts items: job.advance()."

DASHBOARD = Dashboard(
    name="jobs",
    title="Jobs",
    question="Do jobs run as often as expected, do they succeed, and how far are those in progress?",
    instances="job_last_start_timestamp_seconds",
    variables=(
        Variable("service", "Service", "job_last_start_timestamp_seconds{@host}, service", "Services.", ".+"),
        Variable(
            "job_name",
            "Job name",
            'job_last_start_timestamp_seconds{@host, service=~"$service"}, job_name',
            "Jobs of the chosen services.",
            ".*",
        ),
    ),
    panels=[
        problem_stat(
            "Jobs failing",
            "Jobs of which the last run failed. Read the job's log: the table below names the job.",
            f"sum({_HAS_FAILED})",
            width=6,
            no_data=_NO_FAILURE,
        ),
        problem_stat(
            "Jobs late",
            "Jobs without a successful run for longer than expected (`every`). Check that the scheduler starts them.",
            f"sum(time() - {_SUCCESS} > bool {_INTERVAL})",
            width=6,
            no_data="No job has an expected interval: every=86400, --every 1d.",
        ),
        stat("In progress", "Runs that are in progress.", COUNT, {"": f"sum(job_in_progress{_JOB})"}, width=6),
        problem_stat(
            "Items failed",
            "Items that jobs could not process within the time range.",
            'round(sum(increase(job_items_done_total{@host, service=~"$service", job_name=~"$job_name", '
            'outcome="failed"}[$__range])))',
            width=6,
            no_data=_NO_ITEMS,
        ),
        value_table(
            "Jobs",
            "One row per job, those without success for longest first. A job is late if its last success is longer ago "
            "than the expected interval.",
            _BY_JOB,
            {
                "last success": (SECONDS, f"time() - {_SUCCESS}"),
                "last failure": (SECONDS, f"time() - ({_FAILURE} > 0)"),
                "expected every": (SECONDS, _INTERVAL),
                "last duration": (SECONDS, f"job_last_duration_seconds{_JOB}"),
                "in progress": (COUNT, f"job_in_progress{_JOB}"),
                "last progress": (SECONDS, f"time() - job_last_progress_timestamp_seconds{_JOB}"),
                "items": (COUNT, f"job_items{_JOB}"),
            },
            sort="last success",
        ),
        state_timeline(
            "Failing",
            "Periods in which the last run of a job had failed, for the jobs with failures in the time range.",
            {_LABEL: f"1 - ({_HAS_FAILED})"},
        ),
        graph(
            "In progress",
            "Runs that are in progress. A line that never ends is a job that is stuck.",
            COUNT,
            {_LABEL: f"job_in_progress{_JOB}"},
            width=24,
        ),
        row("Speed"),
        graph(
            "Duration",
            "Duration of the last run that has ended. If it grows, the job will exceed its interval at some point.",
            SECONDS,
            {_LABEL: f"job_last_duration_seconds{_JOB}"},
            width=12,
        ),
        rate_graph(
            "Items per second",
            "Items that jobs have processed per second, by outcome.",
            OPERATIONS,
            {"": f"job_items_done_total{_JOB}"},
            by=f"{_BY_JOB}, outcome",
            width=12,
            no_data=_NO_ITEMS,
        ),
    ],
)
