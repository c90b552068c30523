"""PostgreSQL: sessions, locks, throughput, tables, VACUUM, WAL and replication."""

from __future__ import annotations

from .dashboard import Dashboard
from .log_panels import events_of, log_lines
from .panels import (
    BYTES,
    BYTES_PER_SECOND,
    COUNT,
    OPERATIONS,
    PER_SECOND,
    RATIO,
    SECONDS,
    TIME,
    YES_NO,
    graph,
    problem_stat,
    rate_graph,
    ratio_graph,
    row,
    value_table,
)
from .postgres_queries import BY_DATABASE, DATABASE_CHOICE, DB, WITH_DATABASE, activity
from .postgres_replication import PANELS as REPLICATION
from .postgres_tables import PANELS as TABLES
from .query import BY_TARGET, TARGET

# The division matches on all remaining labels, so that two agents that watch one server do not collide.
_SESSIONS = (
    "sum without (datname, state, usename, application_name, backend_type, wait_event_type, wait_event)"
    f" ({activity('pg_stat_activity_count', '@target')})"
)
_NAMED = f'{DB}, usename!=""'
_CONNECTIONS_USED = f"{_SESSIONS} / pg_settings_max_connections{{@target}}"


def _rate(name: str) -> str:
    return f"sum by ({BY_DATABASE}) (rate(pg_stat_database_{name}{{{DB}}}[@rate]))"


DASHBOARD = Dashboard(
    name="postgres",
    title="PostgreSQL",
    question="Is PostgreSQL healthy: sessions, locks, cache, VACUUM, WAL and replication?",
    instances="pg_up",
    targets="pg_up",
    variables=[DATABASE_CHOICE],
    tags=["postgres"],
    panels=[
        problem_stat(
            "Servers down",
            "Servers that the agent cannot reach. Check that PostgreSQL runs, that it accepts connections "
            "(max_connections) and that the agent's role can log in.",
            "sum(pg_up{@target} == bool 0)",
        ),
        problem_stat(
            "Connections in use",
            "Share of max_connections that is used, on the fullest server. Above 80 %, use PgBouncer, or find the "
            "application that leaks connections.",
            f"max({_CONNECTIONS_USED})",
            unit=RATIO,
            bad_from=0.8,
        ),
        problem_stat(
            "Sessions waiting for a lock",
            "The Slow queries dashboard shows which session blocks them. `SELECT pg_terminate_backend(PID)` ends it "
            "and rolls back its transaction.",
            "sum(pg_blocked_sessions{@target})",
            link_to="slow-queries",
        ),
        problem_stat(
            "Deadlocks",
            "Deadlocks in the last hour. Transactions take the same locks in different orders; the server's log has "
            "their statements.",
            f"sum(increase(pg_stat_database_deadlocks{{{DB}}}[1h]))",
        ),
        problem_stat(
            "Transaction IDs used",
            "Share of transaction IDs used up before wraparound. Above 50 %, find what stops VACUUM: old transactions, "
            "unused slots. At 100 %, the server refuses writes.",
            "max(pg_database_wraparound_ratio{@target})",
            unit=RATIO,
            bad_from=0.5,
        ),
        problem_stat(
            "Unused replication slots",
            "Slots that nobody reads. They keep WAL until the disk is full: drop them if nobody needs them.",
            "sum(pg_replication_slots_active{@target} == bool 0)",
            no_data="There are no replication slots.",
        ),
        value_table(
            "Servers",
            "One row per server, servers that are down first. If a server was started recently and nobody restarted "
            "it, its log says why.",
            BY_TARGET,
            {
                "up": (COUNT, "pg_up{@target}"),
                "+short_version": ("", "pg_static{@target}"),
                "started": (TIME, "pg_postmaster_start_time_seconds{@target} * 1000"),
                "standby": (YES_NO, "pg_replication_is_replica{@target}"),
                "sessions": (COUNT, _SESSIONS),
                "connections used": (RATIO, _CONNECTIONS_USED),
                "database size": (BYTES, f"sum by ({BY_TARGET}, server) (pg_database_size_bytes{{@target}})"),
            },
            sort="up",
            descending=False,
            width=24,
            height=6,
        ),
        row("Sessions and locks"),
        ratio_graph(
            "Connections used",
            "Share of max_connections. Above 80 %, use PgBouncer, or find the application that leaks connections.",
            {TARGET: _CONNECTIONS_USED},
        ),
        graph(
            "Sessions by state",
            "Sessions of the chosen servers together. Sessions that are idle in transaction hold locks and stop "
            "VACUUM: set idle_in_transaction_session_timeout.",
            COUNT,
            {"{{state}}": f"sum by (state) ({activity('pg_stat_activity_count', DB)}) > 0"},
            all_series=True,
            stacked=True,
        ),
        value_table(
            "Sessions by user and application",
            "The users and applications with the most sessions. An application with more sessions than its pool size "
            "leaks connections.",
            f"{BY_DATABASE}, usename, application_name",
            {
                "sessions": (
                    COUNT,
                    f"topk(30, sum by ({BY_DATABASE}, usename, application_name)"
                    f" ({activity('pg_stat_activity_count', _NAMED)}))",
                )
            },
            sort="sessions",
            width=8,
            no_data="No data. Set `detailed_activity: true` in the PostgreSQL exporter.",
        ),
        graph(
            "Longest transaction",
            "Age of the oldest open transaction by state. It holds locks and stops VACUUM. Find it with `SELECT pid, "
            "query FROM pg_stat_activity ORDER BY xact_start LIMIT 5`.",
            SECONDS,
            {
                f"{WITH_DATABASE} {{{{state}}}}": f"max by ({BY_DATABASE}, state)"
                f" ({activity('pg_stat_activity_max_tx_duration', DB)}) > 0"
            },
            no_data="No transaction is open.",
        ),
        graph(
            "Waiting for a lock",
            "Sessions that wait for a lock of another session. The events below show which session blocks them.",
            COUNT,
            {WITH_DATABASE: f"pg_blocked_sessions{{{DB}}}"},
        ),
        graph(
            "Wait events of active sessions",
            "What active sessions wait for. none: they use a CPU. Lock: another session. IO: a disk. LWLock: internal "
            "contention. Client: the application.",
            COUNT,
            {"{{wait_event_type}}": f"sum by (wait_event_type) (pg_stat_activity_wait_events{{{DB}}})"},
            all_series=True,
            stacked=True,
            no_data="No data. No session was active, or `detailed_activity` is set.",
        ),
        graph(
            "Locks",
            "Locks by mode. AccessExclusiveLock blocks all other sessions; migrations and VACUUM FULL take it.",
            COUNT,
            {"{{mode}}": f"sum by (mode) (pg_locks_count{{{DB}}}) > 0"},
            all_series=True,
            stacked=True,
        ),
        log_lines(
            "Blocked sessions",
            "Sessions that waited for longer than `slow_queries.blocked_after`. The details show which session blocked "
            "them.",
            events_of("postgres.blocked")
            + " | line_format `{{.target}} {{.database}}  pid {{.pid}} of {{.user}} ({{.application}}) waits since"
            " {{.waiting_seconds}} s for {{.wait_event}}:  {{.query}}`",
            width=16,
            height=8,
        ),
        row("Throughput"),
        graph(
            "Transactions",
            "Committed and rolled back transactions. Many rollbacks point to errors in the application.",
            PER_SECOND,
            {
                f"{WITH_DATABASE} committed": _rate("xact_commit"),
                f"{WITH_DATABASE} rolled back": _rate("xact_rollback"),
            },
        ),
        graph(
            "Rows",
            "Rows that queries read and changed, on the chosen servers together. If far more rows are returned than "
            "fetched, queries scan whole tables.",
            OPERATIONS,
            {
                name: f"sum(rate(pg_stat_database_tup_{name}{{{DB}}}[@rate]))"
                for name in ("returned", "fetched", "inserted", "updated", "deleted")
            },
        ),
        ratio_graph(
            "Cache hit ratio",
            "Share of blocks found in shared_buffers, for the databases with the lowest. Below the threshold, add "
            "memory or avoid scans of whole tables.",
            {WITH_DATABASE: f"{_rate('blks_hit')} / ({_rate('blks_hit')} + {_rate('blks_read')} > 0)"},
            threshold_name="cache_hit_ratio",
            show_lowest=True,
        ),
        graph(
            "Time spent on reading and writing",
            "Seconds per second that sessions wait for disks, if track_io_timing is on. If it rises, the disks are "
            "slow or the cache is too small.",
            COUNT,
            {
                f"{WITH_DATABASE} read": f"{_rate('blk_read_time')} / 1000",
                f"{WITH_DATABASE} write": f"{_rate('blk_write_time')} / 1000",
            },
        ),
        graph(
            "Temporary files",
            "Bytes written by sorts and hashes that do not fit into work_mem. If this is much, raise work_mem for the "
            "query, or add an index.",
            BYTES_PER_SECOND,
            {WITH_DATABASE: _rate("temp_bytes")},
        ),
        rate_graph(
            "Deadlocks and conflicts",
            "Transactions that the server canceled: because of a deadlock or, on a standby, because replay needed "
            "their rows.",
            PER_SECOND,
            {
                "deadlocks": f"pg_stat_database_deadlocks{{{DB}}}",
                "conflicts": f"pg_stat_database_conflicts{{{DB}}}",
            },
            by=BY_DATABASE,
        ),
        *TABLES,
        *REPLICATION,
        row("Cost of monitoring"),
        rate_graph(
            "Queries of Deckwatch",
            "Queries that the agent sends, and those that failed. If queries fail, run `deckwatch check`.",
            PER_SECOND,
            {"queries": "pg_exporter_queries_total{@target}", "failures": "pg_exporter_query_failures_total{@target}"},
            width=24,
            height=6,
        ),
    ],
)
