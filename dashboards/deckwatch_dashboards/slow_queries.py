"""Which statements take the time, what do they say, and who waits for whom?"""

from __future__ import annotations

from .frame import Dashboard
from .postgres import DATABASE
from .shapes import (
    COUNT,
    OPERATIONS,
    PER_SECOND,
    SECONDS,
    events,
    events_table,
    figure,
    grid,
    lines,
    ratio,
    row,
    top,
    trouble,
)

_DB = '@target, datname=~"$datname", datname!~"template.*"'
_BY = "instance, target, datname, user, queryid"
_NAME = "{{instance}} {{target}} {{datname}}"
_EVENTS = '{job="deckwatch"} |= `postgres.%s` | json | event=`postgres.%s` | target=~`$target` | database=~`$datname`'
_SLOW = _EVENTS % ("slow_query", "slow_query")
_TEXTS = _EVENTS % ("statement", "statement")
_BLOCKED = _EVENTS % ("blocked", "blocked")


def _rate(figure: str) -> str:
    return f"sum by ({_BY}) (rate(pg_stat_statements_{figure}{{{_DB}}}[@rate]))"


def _busiest(figure: str) -> str:
    """Of the 15 statements that take the most time."""
    return f"{_rate(figure)} and topk(15, {_rate('seconds_total')})"


DASHBOARD = Dashboard(
    name="slow-queries",
    title="Slow queries",
    question="Which statements take the time, what do they say, and who waits for whom?",
    subject="pg_up",
    targets="pg_up",
    variables=[DATABASE],
    tags=["postgres"],
    panels=[
        trouble(
            "Running now",
            "Queries that run for longer than the threshold. `pg_cancel_backend(pid)` stops one; the events have the "
            "pid.",
            f"sum(pg_slow_queries_running{{{_DB}}})",
        ),
        figure(
            "Slow queries in the last hour",
            "Those that took longer than the threshold.",
            COUNT,
            {"": f"sum(increase(pg_slow_queries_total{{{_DB}}}[1h]))"},
        ),
        figure(
            "Threshold",
            "From when on a query counts as slow: `thresholds.slow_query`.",
            SECONDS,
            {"": "max(deckwatch_threshold_slow_query_seconds{@host})"},
        ),
        figure(
            "Time in statements",
            "Seconds of execution each second: 1 is one backend at work all the time.",
            COUNT,
            {"": "sum(rate(pg_stat_statements_all_seconds_total{@target}[@rate]))"},
        ),
        trouble(
            "Blocked now",
            "Sessions that wait for a lock of another one.",
            f"sum(pg_blocked_sessions{{{_DB}}})",
        ),
        trouble(
            "Events left out",
            "Slow queries of the last hour that were counted without an event of their own: there were too many at "
            "once.",
            "sum(increase(pg_slow_query_events_dropped_total{@target}[1h]))",
        ),
        row("Top statements: figures on the left, texts on the right; queryid joins them"),
        grid(
            "Top statements by time",
            "Seconds each second, calls, mean time, rows. The first lines are what to optimise; `other` is all that "
            "have no series.",
            {
                "time": (COUNT, f"topk(15, {_rate('seconds_total')})"),
                "calls": (OPERATIONS, _busiest("calls_total")),
                "mean": (SECONDS, f"topk(15, {_rate('seconds_total')}) / ({_rate('calls_total')} > 0)"),
                "rows": (OPERATIONS, _busiest("rows_total")),
            },
            height=12,
        ),
        events_table(
            "Texts of statements",
            "Each is logged once, when the agent first sees it, without its literals; hence the longer time.",
            f"topk(200, max by (queryid, user, database, query) (count_over_time({_TEXTS} [$__auto])))",
            heading="times told",
            since="7d",
            height=12,
        ),
        top(
            "Mean time",
            "Of one execution. Slow and rare is for the night; slow and often is for now.",
            SECONDS,
            "{{datname}} {{user}} {{queryid}}",
            f"{_rate('seconds_total')} / ({_rate('calls_total')} > 0)",
        ),
        top(
            "Calls",
            "Executions each second. Thousands of the same: a loop that could be one query.",
            OPERATIONS,
            "{{datname}} {{user}} {{queryid}}",
            _rate("calls_total"),
        ),
        top(
            "Blocks read",
            "From disk or the kernel's cache, each second. Many for few rows: an index is missing.",
            OPERATIONS,
            "{{datname}} {{user}} {{queryid}}",
            f"{_rate('shared_blocks_read_total')} > 0",
            none="All blocks were found in the cache.",
        ),
        row("Slow ones: figures and events"),
        lines(
            "Slow queries",
            "Each second, by database and user.",
            PER_SECOND,
            {f"{_NAME} {{{{user}}}}": f"rate(pg_slow_queries_total{{{_DB}}}[@rate])"},
            none="No query was slow since the agent was started.",
        ),
        lines(
            "How long they took",
            "Median and 95th percentile of the slow ones, against the threshold.",
            SECONDS,
            {
                name: f"histogram_quantile({value},"
                f" sum by (le) (rate(pg_slow_query_duration_seconds_bucket{{{_DB}}}[@rate])) > 0)"
                for name, value in (("median", 0.5), ("95th percentile", 0.95))
            },
            threshold="slow_query_seconds",
            none="No query was slow in this time.",
        ),
        lines(
            "Oldest query that runs",
            "Since when, against the threshold. A line that rises at 45 degrees is one query that does not end.",
            SECONDS,
            {
                _NAME: f"time() - pg_stat_activity_oldest_query_start_timestamp_seconds{{{_DB}}}",
            },
            threshold="slow_query_seconds",
            none="No query was running.",
        ),
        events_table(
            "Slowest queries",
            "The longest time of each statement among the events. Look at its plan: EXPLAIN (ANALYZE, BUFFERS).",
            f"topk(20, max by (queryid, user, database, query)"
            f" (max_over_time({_SLOW} | unwrap duration_seconds [$__auto]) by (queryid, user, database, query)))",
            heading="longest",
            unit=SECONDS,
        ),
        events(
            "Slow queries, as they came",
            "Once while they run, and once when they have ended; the details have rows, blocks, wait event and plan.",
            f"{_SLOW} | line_format `{{{{.database}}}} {{{{.user}}}} {{{{.state}}}} {{{{.duration_seconds}}}} s"
            "  queryid {{.queryid}}:  {{.query}}`",
            width=12,
        ),
        row("Who waits for whom"),
        lines(
            "Sessions that wait for a lock",
            "And none of them works. Find the session that they wait for in the events.",
            COUNT,
            {_NAME: f"pg_blocked_sessions{{{_DB}}}"},
        ),
        events(
            "Blocked sessions",
            "Those that waited for longer than `blocked_after`; `blocked_by` in the details is the session to end.",
            f"{_BLOCKED} | line_format `{{{{.database}}}}  pid {{{{.pid}}}} of {{{{.user}}}} waits since"
            " {{.waiting_seconds}} s for {{.wait_event}}:  {{.query}}`",
            width=16,
            height=8,
        ),
        row("The statistics themselves"),
        ratio(
            "Time that the top statements cover",
            "Of all statements' time. Low: raise `statements.top`.",
            {
                "{{instance}} {{target}}": "sum by (instance, target)"
                ' (rate(pg_stat_statements_seconds_total{@target, queryid!="other"}[@rate]))'
                " / (sum by (instance, target) (rate(pg_stat_statements_all_seconds_total{@target}[@rate])) > 0)"
            },
        ),
        lines(
            "Entries",
            "Of pg_stat_statements, and those with series of their own, against pg_stat_statements.max.",
            COUNT,
            {
                "{{instance}} {{target}} entries": "pg_stat_statements_entries{@target}",
                "{{instance}} {{target}} with series": "pg_stat_statements_tracked{@target}",
            },
            limit={"most": "max(pg_settings_pg_stat_statements_max{@target})"},
        ),
        lines(
            "Entries evicted",
            "For new ones. Often: raise pg_stat_statements.max, or use parameters instead of literals.",
            PER_SECOND,
            {"{{instance}} {{target}}": "rate(pg_stat_statements_dealloc_total{@target}[@rate])"},
        ),
    ],
)
