"""Metrics that rules use or the catalogue declares and that the live stack does not expose, with the reasons.

`NOT_*` lists metrics that cannot exist here: an entry is stale as soon as the metric exists. `*_ELSEWHERE` lists
metrics that exist on other machines, with other versions of a server or at other moments: an entry is stale when no
rule or metric has that name.
"""

from __future__ import annotations

import fnmatch
import json
import re
from typing import TYPE_CHECKING

from alerts.rule_files import rules
from dashboards.boards import selectors
from deckwatch.exporter import Sample
from deckwatch_exporters.pgbouncer import figures
from services import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from deckwatch.metrics.catalogue import Entry

    Excuses = Mapping[str, Sequence[str]]  # reason -> selectors, or names of metrics (`*` as in a shell)

#: Selectors of rules.
NOT_SELECTED: Excuses = {
    "nothing is archived": (
        "pg_stat_archiver_last_archived_timestamp_seconds",
        "pg_stat_archiver_last_failed_timestamp_seconds",
    ),
    "no standby is connected": ("pg_stat_replication_pg_wal_lsn_diff",),
}
SELECTED_ELSEWHERE: Excuses = {
    "systemd does not run here": ('node_systemd_unit_state{state="failed"}',),
    "there are no text files": ("deckwatch_textfile_error", "node_textfile_mtime_seconds*"),
    "hardware": (
        "node_bonding_active*",
        "node_bonding_slaves*",
        "node_edac_correctable_errors_total*",
        "node_edac_uncorrectable_errors_total*",
        "node_md_degraded*",
    ),
    "a recent kernel": ("node_kernel_hung_tasks_total",),
    "PostgreSQL 17 and later": ("pg_stat_checkpointer_num_requested_total",),
    "PostgreSQL 16 and later": ("pg_settings_reserved_connections",),
    "no rules are loaded": ("ALERTS{*}",),
    "no session waits for an advisory lock": ('pg_stat_activity_count{wait_event_type="Lock"*}',),
    "a cluster with checksums": ("pg_stat_database_checksum_failures*", "pg_stat_database_checksum_last_failure*"),
    "a standby": ("pg_stat_wal_receiver_received_tli*",),
    "Redis 7.2 and later": ("redis_rdb_saves_total",),
    "no Redis Cluster runs": ("redis_cluster_state",),
    "no Sentinel runs": ("redis_sentinel_master_ckquorum_status*", "redis_sentinel_master_status*"),
    "while lines wait for Loki": ("deckwatch_log_spool_oldest_timestamp_seconds",),
    "no receiver of remote write is configured": ("deckwatch_remote_write_*",),
    "Loki accepts all streams": ('deckwatch_log_push_failures_total{reason="new_stream_refused"}',),
}

#: Metrics of the catalogue.
NOT_EMITTED: Excuses = {
    "no Sentinel runs": ("redis_sentinel_*",),
    "Sidekiq, which needs Ruby": ("sidekiq_*",),
    "no Redis Cluster runs": ("redis_cluster_messages_received_total", "redis_cluster_messages_sent_total"),
    "modules of Redis, which `modules` enables": ("redis_bf_*", "redis_json_*", "redis_search_*"),
    "KeyDB": (
        "redis_cached_keys_total",
        "redis_current_client_thread",
        "redis_db_keys_cached",
        "redis_long_lock_waits_total",
        "redis_server_threads_total",
        "redis_storage_provider_read_hits",
        "redis_storage_provider_read_misses",
    ),
    "Azure Cache for Redis": ("redis_memory_max_fragmentation_reservation_*", "redis_memory_max_reservation_*"),
    "before Redis 5": ("redis_client_biggest_input_buf", "redis_client_longest_output_list"),
    "Redis before 7.0 with an append-only file": ("redis_aof_rewrite_buffer_length",),
    "nothing is archived": ("pg_stat_archiver_last_failed_timestamp_seconds",),
    "no `web_config` is set": ("deckwatch_web_*",),
    "no receiver of remote write is configured": ("deckwatch_remote_write_*",),
    "no target is a `singleton`": ("deckwatch_business_singleton_holder",),
    "workers of Celery are not asked": ("celery_active_process_count", "celery_active_worker_count"),
    "only under repmgr": ("pg_stat_wal_receiver_upstream_node",),
    "texts of statements are not enabled": ("pg_stat_statements_query_id",),
}
EMITTED_ELSEWHERE: Excuses = {
    "no worker with Deckwatch's library runs": ("worker_task*",),
    "no application sends messages": ("messaging_*",),
    "the libraries of applications may not be installed": (
        *("cache_*", "circuit_breaker_*", "db_client_*", "http_client_request_*", "retry_*"),
    ),
    "the disk of the application's log has room": ("app_log_lines_dropped_total",),
    "hardware, and what virtual machines show of it": (
        "node_cpu_bug_info",
        "node_cpu_flag_info",
        "node_cpu_frequency_avg_hertz",
        "node_cpu_frequency_hertz",
        "node_cpu_info",
        "node_md_degraded",
        "node_md_raid_disks",
        "node_nvme_namespace_*",
    ),
    "systemd does not run here": ("node_systemd_*",),
    "no RQ worker runs": ("rq_workers*",),
    "no command of the agent is refused": ("redis_command_refused",),
    "Redis 7.2 and later": ("redis_acl_access_denied_*", "redis_active_time_*"),
    "a cluster with checksums": ("pg_stat_database_checksum_failures", "pg_stat_database_checksum_last_failure"),
    "PostgreSQL before 15, or after a reset": ("pg_stat_database_stats_reset",),
    "while autovacuum works": ("pg_autovacuum_workers", "pg_stat_activity_autovacuum_timestamp_seconds"),
    "after autovacuum has worked": (
        "pg_stat_user_tables_last_autoanalyze",
        "pg_stat_user_tables_last_autovacuum",
    ),
    "while lines wait for Loki": (
        "deckwatch_log_push_failures_total",
        "deckwatch_log_spool_oldest_timestamp_seconds",
    ),
}

_EXPORTERS = ROOT / "tests" / "exporters"
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}


def excused(name: str, *excuses: Excuses) -> bool:
    return any(fnmatch.fnmatchcase(name, it) for one in excuses for names in one.values() for it in names)


def stale(excuses: Excuses, names: Iterable[str]) -> list[str]:
    """The excuses that match none of these names."""
    known = list(names)
    return [it for group in excuses.values() for it in group if not fnmatch.filter(known, it)]


def selected() -> list[str]:
    """The selectors of all rules without recorded series: each name with its equality matchers, `up{job="x"}`."""
    recorded = {rule.name for rule in rules() if not rule.is_alert}
    found = set()
    for rule in rules():
        for name, matchers in selectors(re.sub(r"\boffset\s+-?\w+", " ", rule.expr)):
            equal = ", ".join(re.findall(r'\w+\s*=\s*"(?:[^"\\]|\\.)*"', matchers))
            if name not in recorded:
                found.add(f"{name}{{{equal}}}" if equal else name)
    return sorted(found)


def captured() -> set[str]:
    """The names of series in all golden expositions and in the samples of PgBouncer's captured answers."""
    names = set()
    for golden in (_EXPORTERS / "golden").glob("*.txt"):
        names |= series_in(golden.read_text())
    for file in (_EXPORTERS / "pgbouncer" / "fixtures").glob("*.json"):
        answers = json.loads(file.read_text())
        samples = (
            *figures.lists(answers["LISTS"]),
            *figures.config(answers["CONFIG"]),
            *figures.databases(answers["DATABASES"]),
            *figures.pools(answers["POOLS"]),
            *figures.stats_totals(answers["STATS_TOTALS"]),
            *figures.ClientGroups(100).samples(answers["CLIENTS"]),
        )
        names |= {sample.series.name for sample in samples if isinstance(sample, Sample)}
    return names


def series_in(exposition: str) -> set[str]:
    return set(re.findall(r"^([a-zA-Z_:][\w:]*)[{ ]", exposition, re.MULTILINE))


def not_emitted(entries: Sequence[Entry], names: set[str]) -> list[str]:
    """The metrics without series. A metric with a `*` needs a series for which no other metric is declared."""
    declared = {name for entry in entries for name in _series(entry)}
    return [
        entry.name
        for entry in entries
        if not any(fnmatch.filter(names - declared if "*" in name else names & {name}, name) for name in _series(entry))
    ]


def not_declared(entries: Sequence[Entry], names: set[str]) -> list[str]:
    """The series for which no metric is declared."""
    declared = {name for entry in entries for name in _series(entry)}
    patterns = [name for name in declared if "*" in name]
    return [
        name for name in sorted(names - declared) if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    ]


def _series(entry: Entry) -> list[str]:
    return [entry.name + suffix for suffix in _SUFFIXES.get(entry.type, ("",))]
