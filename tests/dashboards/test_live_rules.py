"""Every rule and the whole catalogue, beside what a live agent exports under a small load."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from alerts.rule_files import rules
from dashboards.live import Live, live
from deckwatch.cli.catalogue import catalogue
from deckwatch.collection.registry import Registry
from deckwatch.metrics.catalogue import Entry
from deckwatch.pack.promql import names_in
from services import ROOT, fetch, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(900)

#: Metrics of rules that are not there as long as nothing is wrong, or that this stack does not have, and why.
NOT_IN_RULES = {
    "deckwatch_log_spool_oldest_timestamp_seconds": "all is sent",
    "deckwatch_textfile_error": "no text file is there",
    "node_bonding_active": "no interface is bonded",
    "node_bonding_slaves": "no interface is bonded",
    "node_edac_correctable_errors_total": "the memory controller reports no errors",
    "node_edac_uncorrectable_errors_total": "the memory controller reports no errors",
    "node_kernel_hung_tasks_total": "a recent kernel",
    "node_md_degraded": "no RAID",
    "node_systemd_unit_state": "systemd does not run here",
    "node_textfile_mtime_seconds": "no text file is there",
    "pg_stat_archiver_last_archived_timestamp_seconds": "nothing is archived",
    "pg_stat_archiver_last_failed_timestamp_seconds": "nothing is archived",
    "pg_stat_checkpointer_num_requested_total": "PostgreSQL 17 and later",
    "pg_settings_reserved_connections": "PostgreSQL 16 and later",
    "pg_stat_database_checksum_failures": "no checksums",
    "pg_stat_database_checksum_last_failure": "no page is damaged",
    "pg_stat_replication_pg_wal_lsn_diff": "no standby is connected",
    "pg_stat_wal_receiver_received_tli": "it is no standby",
    "pgbouncer_config_max_client_connections": "no PgBouncer runs",
    "pgbouncer_pools_client_maxwait_seconds": "no PgBouncer runs",
    "pgbouncer_up": "no PgBouncer runs",
    "pgbouncer_used_clients": "no PgBouncer runs",
    "redis_cluster_state": "it is no cluster",
    "redis_rdb_saves_total": "Redis 7.2 and later",
    "redis_sentinel_master_ckquorum_status": "no Sentinel runs",
    "redis_sentinel_master_status": "no Sentinel runs",
}
#: What of the catalogue neither this stack nor a golden exposition has, and where it comes from.
NOT_EMITTED = {
    r"pgbouncer_\w+": "no PgBouncer runs here; its own tests have all of them",
    r"redis_(sentinel|cluster_messages)_\w+": "Sentinels and clusters, which have tests of their own",
    r"redis_(search|bf|json)_\w+": "modules",
    r"redis_(config_(key_)?value|connected_client_\w+|keys?_\w+|number_of_distinct_key_groups|stream_\w+)": "settings",
    r"redis_(storage_provider|memory_max|cached_keys|db_keys_cached|long_lock_waits)\w*": "KeyDB",
    r"redis_(server_threads|current_client_thread)\w*": "KeyDB",
    r"redis_(acl_access_denied|active_time|aof_rewrite_buffer|client_biggest|client_longest)\w*": "other versions",
    r"pg_(autovacuum_workers|stat_activity_autovacuum\w+|stat_user_tables_last_auto\w+)": "while autovacuum works",
    r"pg_(database_tables_read|duplicate_index_size_bytes|stat_statements_query_id)": "settings and schemas",
    r"pg_stat_(archiver_last_failed|database_checksum|database_stats_reset|wal_receiver)\w*": "what seldom happens",
    r"node_(cpu_(bug|flag|frequency|info)|md|systemd)_?\w*": "hardware and systemd",
    r"deckwatch_(log_push_failures_total|log_spool_oldest_timestamp_seconds)": "while Loki is gone",
    r"deckwatch_web_\w+": "no web config here; its own tests have all of them",
}
_GOLDEN = ROOT / "tests" / "exporters" / "golden"


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[set[str]]:
    """The names that Prometheus has of the agent, once every rule's are among them."""
    with live(tmp_path_factory.mktemp("live")) as stack:
        recorded = {rule.name for rule in rules() if not rule.is_alert}
        wanted = {name for rule in rules() for name in names_in(rule.expr)} - recorded - NOT_IN_RULES.keys()

        def complete() -> set[str]:
            found = _names(stack)
            return found if wanted <= found else set()

        try:
            found = until(complete, 90, "the metrics of every rule")
        except AssertionError:
            found = _names(stack)
        yield found


def _names(stack: Live) -> set[str]:
    return set(json.loads(fetch(f"{stack.prometheus.url}/api/v1/label/__name__/values")[1])["data"])


def _pattern(entry: Entry) -> re.Pattern[str]:
    return re.compile(re.escape(entry.name).replace(r"\*", ".*") + "(_bucket|_sum|_count)?")


def test_every_metric_of_every_rule_is_there(names: set[str]) -> None:
    recorded = {rule.name for rule in rules() if not rule.is_alert}
    used = {name for rule in rules() for name in names_in(rule.expr)}

    assert used - recorded - names - NOT_IN_RULES.keys() == set()
    assert NOT_IN_RULES.keys() - used == set()


def test_every_metric_of_the_catalogue_is_emitted_somewhere(names: set[str]) -> None:
    golden = {
        name
        for path in _GOLDEN.glob("*.txt")
        for name in re.findall(r"^([a-zA-Z_:][\w:]*)[{ ]", path.read_text(), re.MULTILINE)
    }
    missing = [
        entry.name
        for entry in catalogue(Registry.installed())
        if not any(re.fullmatch(pattern, entry.name) for pattern in NOT_EMITTED)
        and not any(_pattern(entry).fullmatch(name) for name in names | golden)
    ]
    assert missing == []


def test_every_metric_of_the_agent_is_in_the_catalogue(names: set[str]) -> None:
    patterns = [_pattern(entry) for entry in catalogue(Registry.installed())]
    own = {name for name in names if name != "up" and not name.startswith("scrape_")}

    assert len(own) > 800
    assert [name for name in sorted(own) if not any(pattern.fullmatch(name) for pattern in patterns)] == []
