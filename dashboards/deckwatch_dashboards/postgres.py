"""Is PostgreSQL healthy: sessions, locks, cache, VACUUM, WAL and replication?"""

from __future__ import annotations

from .frame import Dashboard, Variable
from .shapes import (
    BYTES,
    BYTES_PER_SECOND,
    COUNT,
    OPERATIONS,
    PER_SECOND,
    RATIO,
    SECONDS,
    TIME,
    events,
    figure,
    grid,
    lines,
    named,
    rates,
    ratio,
    row,
    top,
    trouble,
    up,
)

_NAME = "{{instance}} {{target}}"
_ONE = f"{_NAME} {{{{datname}}}}"
_BY = "instance, target, datname"
_DB = '@target, datname=~"$datname", datname!~"|template.*"'
_TABLE = "{{datname}} {{schemaname}}.{{relname}}"
_SESSIONS = "sum by (job, instance, target) (pg_stat_activity_count{@target})"


def _rate(name: str) -> str:
    return f"sum by ({_BY}) (rate(pg_stat_database_{name}{{{_DB}}}[@rate]))"


DATABASE = Variable("datname", "Database", "pg_database_size_bytes{@target}, datname", "Which databases.", ".*")

DASHBOARD = Dashboard(
    name="postgres",
    title="PostgreSQL",
    question="Is PostgreSQL healthy: sessions, locks, cache, VACUUM, WAL and replication?",
    subject="pg_up",
    targets="pg_up",
    variables=[DATABASE],
    tags=["postgres"],
    panels=[
        up(
            "PostgreSQL",
            "Whether each server answers. DOWN: is it running, does it take connections (max_connections), does the "
            "role still log in?",
            {_NAME: "pg_up{@target}"},
        ),
        named("Version", "The server's version.", "short_version", "pg_static{@target}"),
        figure(
            "Started",
            "When the server was started. Lately, and nobody did it: the server's log says why.",
            TIME,
            {_NAME: "pg_postmaster_start_time_seconds{@target} * 1000"},
        ),
        trouble(
            "Sessions that wait for a lock",
            "Now. The Slow queries dashboard names who blocks whom; `pg_terminate_backend(pid)` ends the blocker.",
            "sum(pg_blocked_sessions{@target})",
            to="slow-queries",
        ),
        trouble(
            "Deadlocks",
            "In the last hour. Transactions take locks in different orders; the server's log has their statements.",
            f"sum(increase(pg_stat_database_deadlocks{{{_DB}}}[1h]))",
        ),
        trouble(
            "Wraparound",
            "How much of the transaction ids is used up. From 50 % on find what keeps VACUUM from its work: it stops "
            "at 100 %.",
            "max(pg_database_wraparound_ratio{@target})",
            unit=RATIO,
            bad_from=0.5,
        ),
        row("Sessions and locks"),
        ratio(
            "Connections in use",
            "Of max_connections. Over 80 %: pool them (PgBouncer), or find what leaks them.",
            {_NAME: f"{_SESSIONS} / on (job, instance, target) pg_settings_max_connections{{@target}}"},
        ),
        lines(
            "Sessions by state",
            "Idle in transaction holds locks and keeps VACUUM from its work: end transactions sooner, or set "
            "idle_in_transaction_session_timeout.",
            COUNT,
            {"{{state}}": f"sum by (state) (pg_stat_activity_count{{{_DB}}}) > 0"},
            stacked=True,
        ),
        lines(
            "Longest transaction",
            "By state. Over minutes: `SELECT pid, query FROM pg_stat_activity ORDER BY xact_start LIMIT 5`.",
            SECONDS,
            {f"{_ONE} {{{{state}}}}": f"pg_stat_activity_max_tx_duration{{{_DB}}} > 0"},
            none="No transaction is open.",
        ),
        lines(
            "Waiting for a lock",
            "Sessions that wait, and for how long the first has. The events below name who blocks whom.",
            COUNT,
            {_ONE: f"pg_blocked_sessions{{{_DB}}}"},
        ),
        lines(
            "What active sessions wait for",
            "None is work on the CPU. Lock: other sessions; IO: disks; LWLock: contention inside; Client: the "
            "application.",
            COUNT,
            {"{{wait_event_type}}": f"sum by (wait_event_type) (pg_stat_activity_wait_events{{{_DB}}})"},
            stacked=True,
        ),
        lines(
            "Locks",
            "By mode. AccessExclusiveLock keeps everybody out: a migration, VACUUM FULL.",
            COUNT,
            {"{{mode}}": f"sum by (mode) (pg_locks_count{{{_DB}}}) > 0"},
            stacked=True,
        ),
        events(
            "Sessions that were blocked",
            "Each that waited for longer than `slow_queries.blocked_after`; its details have who blocked it.",
            '{job="deckwatch"} |= `postgres.blocked` | json | event=`postgres.blocked` | target=~`$target`'
            " | line_format `{{.target}} {{.database}}  pid {{.pid}} of {{.user}} ({{.application}}) waits since"
            " {{.waiting_seconds}} s for {{.wait_event}}:  {{.query}}`",
            height=7,
        ),
        row("Work"),
        lines(
            "Transactions",
            "Committed and rolled back. Many rolled back: errors in the application.",
            PER_SECOND,
            {f"{_ONE} committed": _rate("xact_commit"), f"{_ONE} rolled back": _rate("xact_rollback")},
        ),
        lines(
            "Rows",
            "Read and changed. Far more returned than fetched: tables are read from end to end.",
            OPERATIONS,
            {
                "returned": f"sum(rate(pg_stat_database_tup_returned{{{_DB}}}[@rate]))",
                "fetched": f"sum(rate(pg_stat_database_tup_fetched{{{_DB}}}[@rate]))",
                "inserted": f"sum(rate(pg_stat_database_tup_inserted{{{_DB}}}[@rate]))",
                "updated": f"sum(rate(pg_stat_database_tup_updated{{{_DB}}}[@rate]))",
                "deleted": f"sum(rate(pg_stat_database_tup_deleted{{{_DB}}}[@rate]))",
            },
        ),
        ratio(
            "Cache hit ratio",
            "Blocks found in shared_buffers, against the config's threshold. Below it: more memory, or fewer scans "
            "from end to end.",
            {_ONE: f"{_rate('blks_hit')} / ({_rate('blks_hit')} + {_rate('blks_read')} > 0)"},
            threshold="cache_hit_ratio",
        ),
        lines(
            "Time waited for reading and writing",
            "Where track_io_timing is on: seconds each second. Rising: the disks, or a cache that is too small.",
            COUNT,
            {
                f"{_ONE} read": f"{_rate('blk_read_time')} / 1000",
                f"{_ONE} write": f"{_rate('blk_write_time')} / 1000",
            },
        ),
        lines(
            "Temporary files",
            "Sorts and hashes that did not fit into work_mem. Large: raise it for that query, or add an index.",
            BYTES_PER_SECOND,
            {_ONE: _rate("temp_bytes")},
        ),
        rates(
            "Deadlocks and conflicts",
            "Transactions that were cancelled: by a deadlock, or on a replica by the recovery.",
            PER_SECOND,
            {
                "deadlocks": f"pg_stat_database_deadlocks{{{_DB}}}",
                "conflicts": f"pg_stat_database_conflicts{{{_DB}}}",
            },
            by=_BY,
        ),
        row("Tables"),
        lines(
            "Size of databases",
            "On disk. A jump: see the largest tables.",
            BYTES,
            {_ONE: f"pg_database_size_bytes{{{_DB}}}"},
        ),
        top(
            "Largest tables",
            "With their indexes and TOAST.",
            BYTES,
            _TABLE,
            f"pg_stat_user_tables_size_bytes{{{_DB}}}",
        ),
        top(
            "Read from end to end",
            "Rows read each second by sequential scans. Large and always there: an index is missing; `deckwatch advise "
            "postgres`.",
            OPERATIONS,
            _TABLE,
            f"rate(pg_stat_user_tables_seq_tup_read{{{_DB}}}[@rate]) > 0",
            none="No table was read from end to end.",
        ),
        top(
            "Dead rows",
            "As a part of what autovacuum waits for: over 100 % it is due, over 300 % it does not keep up.",
            RATIO,
            _TABLE,
            f"pg_stat_user_tables_n_dead_tup{{{_DB}}} / pg_stat_user_tables_autovacuum_threshold{{{_DB}}}",
        ),
        lines(
            "VACUUM at work",
            "How far each one is. One that does not move for long waits for a lock, or is throttled.",
            RATIO,
            {
                _TABLE: f"pg_stat_progress_vacuum_heap_blks_vacuumed{{{_DB}}}"
                f" / (pg_stat_progress_vacuum_heap_blks{{{_DB}}} > 0)"
            },
            none="No VACUUM is running.",
        ),
        top(
            "Sequences near their end",
            "How far each is to its largest number, or its column's. Over 80 %: ALTER the column to bigint in time.",
            RATIO,
            "{{datname}} {{schemaname}}.{{sequencename}}",
            f"pg_sequence_used_ratio{{{_DB}}}",
            highest=1,
        ),
        row("WAL, checkpoints and replication"),
        rates(
            "WAL written",
            "Bytes each second: what replicas and archives have to take.",
            BYTES_PER_SECOND,
            {"": "pg_wal_position_bytes_total{@target}"},
        ),
        rates(
            "Checkpoints",
            "Asked for rather than due: max_wal_size is too small for what is written.",
            PER_SECOND,
            {
                "due": "pg_stat_bgwriter_checkpoints_timed_total{@target}",
                "asked for": "pg_stat_bgwriter_checkpoints_req_total{@target}",
            },
        ),
        lines(
            "WAL on disk",
            "Far over max_wal_size: a slot or a failing archive holds it back.",
            BYTES,
            {_NAME: "pg_wal_size_bytes{@target}"},
        ),
        lines(
            "Replication lag",
            "How far a replica is behind, in time. Rising: the network, or queries on the replica that hold it up.",
            SECONDS,
            {_NAME: "pg_replication_lag_seconds{@target}"},
        ),
        lines(
            "WAL that standbys have yet to replay",
            "As the primary sees it.",
            BYTES,
            {f"{_NAME} {{{{application_name}}}}": "pg_stat_replication_pg_wal_lsn_diff{@target}"},
            none="No standby is connected.",
        ),
        grid(
            "Slots",
            "An unused slot holds WAL back until the disk is full: `SELECT pg_drop_replication_slot('NAME')` if nobody "
            "wants it.",
            {
                "up (used)": (COUNT, "pg_replication_slots_active{@target}"),
                "held back": (BYTES, "pg_replication_slots_pg_wal_lsn_diff{@target}"),
            },
            hide=("__name__", "job", "server"),
            width=8,
            none="There are no replication slots.",
        ),
        rates(
            "Archiving",
            "WAL files archived, and attempts that failed: archive_command's own message is in the server's log.",
            PER_SECOND,
            {
                "archived": "pg_stat_archiver_archived_count{@target}",
                "failed": "pg_stat_archiver_failed_count{@target}",
            },
            width=12,
        ),
        rates(
            "What watching costs",
            "Queries that Deckwatch itself sends.",
            PER_SECOND,
            {"queries": "pg_exporter_queries_total{@target}", "failures": "pg_exporter_query_failures_total{@target}"},
            width=12,
        ),
    ],
)
