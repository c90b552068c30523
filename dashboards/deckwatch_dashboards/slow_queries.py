"""Slow queries: statements by time, slow query events, and blocked sessions."""

from __future__ import annotations

from .dashboard import Dashboard
from .log_panels import events_of, log_lines, log_table
from .panels import (
    COUNT,
    OPERATIONS,
    PER_SECOND,
    SECONDS,
    graph,
    problem_stat,
    ratio_graph,
    row,
    stat,
    top_list,
    value_table,
)
from .postgres_queries import BY_DATABASE, DATABASE_CHOICE, DB, WITH_DATABASE
from .query import BY_TARGET, TARGET, threshold

_BY_STATEMENT = f"{BY_DATABASE}, user, queryid"
_STATEMENT = f"{TARGET} {{{{datname}}}} {{{{user}}}} {{{{queryid}}}}"
_DATABASE = ' | database=~"$datname"'
_SLOW = events_of("postgres.slow_query") + _DATABASE
_TEXTS = events_of("postgres.statement") + _DATABASE
_BLOCKED = events_of("postgres.blocked") + _DATABASE


def _rate(name: str) -> str:
    return f"sum by ({_BY_STATEMENT}) (rate(pg_stat_statements_{name}{{{DB}}}[@rate]))"


_MOST_TIME = f"topk(15, {_rate('seconds_total')})"

DASHBOARD = Dashboard(
    name="slow-queries",
    title="Slow queries",
    question="Which statements take the most time, what are their texts, and which sessions block others?",
    instances="pg_up",
    targets="pg_up",
    variables=[DATABASE_CHOICE],
    tags=["postgres"],
    panels=[
        problem_stat(
            "Slow queries running",
            "Queries that have been running for longer than the threshold. `SELECT pg_cancel_backend(PID)` cancels "
            "one; the events below have the PID.",
            f"sum(pg_slow_queries_running{{{DB}}})",
        ),
        stat(
            "Slow queries in the last hour",
            "Queries that took longer than the threshold.",
            COUNT,
            {"": f"sum(increase(pg_slow_queries_total{{{DB}}}[1h]))"},
        ),
        stat(
            "Threshold",
            "Queries that take longer count as slow: `thresholds.slow_query` in deckwatch.yml.",
            SECONDS,
            {"": threshold("slow_query_seconds")},
        ),
        stat(
            "Time in statements",
            "Seconds per second that all statements take together. 1 means that one session is busy all the time.",
            COUNT,
            {"": "sum(rate(pg_stat_statements_all_seconds_total{@target}[@rate]))"},
        ),
        problem_stat(
            "Blocked sessions",
            "Sessions that wait for a lock of another session. The events below show which session blocks them.",
            f"sum(pg_blocked_sessions{{{DB}}})",
        ),
        problem_stat(
            "Events left out",
            "Slow queries of the last hour that were counted but not logged, because there were too many at once.",
            "sum(increase(pg_slow_query_events_dropped_total{@target}[1h]))",
        ),
        row("Top statements: figures on the left, texts on the right, joined by queryid"),
        value_table(
            "Top statements by time",
            "Seconds per second, calls, mean duration and rows of the statements that take the most time. Optimize the "
            "first ones. `other` stands for all statements without separate series.",
            _BY_STATEMENT,
            {
                "time": (COUNT, _MOST_TIME),
                "calls": (OPERATIONS, f"{_rate('calls_total')} and {_MOST_TIME}"),
                "mean": (SECONDS, f"{_MOST_TIME} / ({_rate('calls_total')} > 0)"),
                "rows": (OPERATIONS, f"{_rate('rows_total')} and {_MOST_TIME}"),
            },
            sort="time",
            height=12,
        ),
        log_table(
            "Statement texts",
            "The text of each statement without its literals. The agent logs it once, so this table covers seven days.",
            f"topk(200, max by (queryid, user, database, query) (count_over_time({_TEXTS} [$__auto])))",
            heading="times logged",
            time_range="7d",
            height=12,
        ),
        top_list(
            "Longest mean duration",
            "Mean duration of an execution. Start with the statements that also have many calls.",
            SECONDS,
            _STATEMENT,
            f"{_rate('seconds_total')} / ({_rate('calls_total')} > 0)",
        ),
        top_list(
            "Most calls",
            "Executions per second. Thousands of calls of one statement often come from a loop that one query could "
            "replace.",
            OPERATIONS,
            _STATEMENT,
            _rate("calls_total"),
        ),
        top_list(
            "Most blocks read",
            "Blocks per second read from disk or from the kernel's cache. Many blocks for few rows mean that an index "
            "is missing.",
            OPERATIONS,
            _STATEMENT,
            f"{_rate('shared_blocks_read_total')} > 0",
            no_data="All blocks were found in shared_buffers.",
        ),
        row("Slow queries"),
        graph(
            "Slow queries",
            "Slow queries per second, by database and user. A sudden rise often follows a deployment or a lost index.",
            PER_SECOND,
            {
                f"{WITH_DATABASE} {{{{user}}}}": f"sum by ({BY_DATABASE}, user)"
                f" (rate(pg_slow_queries_total{{{DB}}}[@rate]))"
            },
            no_data="No query was slow since the agent was started.",
        ),
        graph(
            "Duration of slow queries",
            "Median and 95th percentile of the slow queries.",
            SECONDS,
            {
                name: f"histogram_quantile({quantile},"
                f" sum by (le) (rate(pg_slow_query_duration_seconds_bucket{{{DB}}}[@rate])) > 0)"
                for name, quantile in (("median", 0.5), ("95th percentile", 0.95))
            },
            threshold_name="slow_query_seconds",
            no_data="No query was slow in this time range.",
        ),
        graph(
            "Oldest running query",
            "Time since the oldest active query of each database was started. A line that rises steadily is one query "
            "that does not end.",
            SECONDS,
            {WITH_DATABASE: f"time() - pg_stat_activity_oldest_query_start_timestamp_seconds{{{DB}}}"},
            threshold_name="slow_query_seconds",
            no_data="No query was running, or `detailed_activity` is set.",
        ),
        log_table(
            "Slowest queries",
            "The longest duration of each statement in the events. Look at its plan: EXPLAIN (ANALYZE, BUFFERS).",
            f"topk(20, max by (queryid, user, database, query)"
            f" (max_over_time({_SLOW} | unwrap duration_seconds [$__auto]) by (queryid, user, database, query)))",
            heading="longest",
            unit=SECONDS,
        ),
        log_lines(
            "Slow query events",
            "One line while a slow query runs and one when it has ended. The details have rows, blocks, wait event and "
            "plan.",
            f"{_SLOW} | line_format `{{{{.database}}}} {{{{.user}}}} {{{{.state}}}} {{{{.duration_seconds}}}} s"
            "  queryid {{.queryid}}:  {{.query}}`",
            width=12,
        ),
        row("Blocked sessions"),
        graph(
            "Sessions waiting for a lock",
            "Sessions that wait for a lock of another session. The events show which session to end.",
            COUNT,
            {WITH_DATABASE: f"pg_blocked_sessions{{{DB}}}"},
        ),
        log_lines(
            "Blocked session events",
            "Sessions that waited for longer than `blocked_after`. `blocked_by` in the details is the session to end.",
            f"{_BLOCKED} | line_format `{{{{.database}}}}  pid {{{{.pid}}}} of {{{{.user}}}} waits since"
            " {{.waiting_seconds}} s for {{.wait_event}}:  {{.query}}`",
            width=16,
            height=8,
        ),
        row("pg_stat_statements"),
        ratio_graph(
            "Time covered by the top statements",
            "Share of the time of all statements taken by those with separate series. If it is low, raise "
            "`statements.top`.",
            {
                TARGET: f"sum by ({BY_TARGET})"
                ' (rate(pg_stat_statements_seconds_total{@target, queryid!="other"}[@rate]))'
                f" / (sum by ({BY_TARGET}) (rate(pg_stat_statements_all_seconds_total{{@target}}[@rate])) > 0)"
            },
            show_lowest=True,
        ),
        ratio_graph(
            "Entries",
            "Entries of pg_stat_statements as a share of pg_stat_statements.max. At 100 %, PostgreSQL evicts the "
            "statements with the fewest calls.",
            {TARGET: "pg_stat_statements_entries{@target} / pg_settings_pg_stat_statements_max{@target}"},
        ),
        graph(
            "Evicted entries",
            "Evictions per second. If they are frequent, raise pg_stat_statements.max, or use parameters instead of "
            "literals.",
            PER_SECOND,
            {TARGET: "rate(pg_stat_statements_dealloc_total{@target}[@rate])"},
        ),
    ],
)
