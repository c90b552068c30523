"""The catalogue beside each peer's table: every name has the peer's type and labels, or an exception with a reason.

An exception that no longer excuses anything fails.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from deckwatch.cli.catalogue import catalogue
from deckwatch.collection.registry import Registry
from deckwatch.metrics.declaration import MetricPattern
from deckwatch_exporters.postgres.activity import DetailedActivityCollector
from peers.refresh import PEERS, PeerMetric, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.metrics.catalogue import Entry


@dataclass(frozen=True)
class Exceptions:
    """Reasons for differences: by collector or flag of the peer, by metric, and by metric and label."""

    collectors: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    missing_labels: dict[tuple[str, str], str] = field(default_factory=dict)
    further_labels: dict[str, str] = field(default_factory=dict)


_RARE = "hardware, a file system or a service that few hosts have"
_OFF = "off by default in the peer too"
_PER_THREAD = "series for each thread of each group"

EXCEPTIONS = {
    "celery-exporter": Exceptions(),
    "node_exporter": Exceptions(
        collectors=dict.fromkeys(
            ("bcache", "bcachefs", "btrfs", "dmmultipath", "fibrechannel", "infiniband", "ipvs", "nfs", "nfsd",
             "tapestats", "watchdog", "xfs", "zfs"),
            _RARE,
        )
        | dict.fromkeys(
            ("buddyinfo", "cgroups", "cpu_vulnerabilities", "drbd", "drm", "ethtool", "ksmd", "lnstat", "logind",
             "mountstats", "network_route", "ntp", "nvmesubsystem", "pcidevice", "perf", "qdisc", "runit", "slabinfo",
             "supervisord", "swap", "sysctl", "wifi", "xfrm", "zoneinfo"),
            _OFF,
        ),
        missing={
            "node_filesystem_purgeable_bytes": "macOS only",
            "node_network_address_info": "needs a flag in the peer",
            "node_rapl_joules_total": "needs a flag in the peer, which renames the metrics of the zones",
            "node_systemd_service_restart_total": "needs a flag in the peer",
            "node_systemd_unit_start_time_seconds": "needs a flag in the peer",
            "node_systemd_unit_tasks_current": "needs a flag in the peer",
            "node_systemd_unit_tasks_max": "needs a flag in the peer",
        },
        types={"node_systemd_socket_refused_connections_total": "counts up, as its name says"},
    ),
    "redis_exporter": Exceptions(
        collectors={
            "include-rdb-file-size-metric": "a file on the server's host",
            "include-search-indexes-metrics": "a command for each index in each run",
            "is-tile38": "another server with different commands",
            "ping-on-connect": "the connection stays open, so the duration of the run says as much",
            "script": "runs code in the server that is watched",
        },
        missing={
            "redis_exporter_build_info": "about the peer's own program",
            "redis_key_value_as_string": "values of any kind as a label",
        },
        missing_labels={
            ("redis_connected_client_info", "port"): "needs a second flag in the peer: a series for each connection",
            ("redis_instance_info", "valkey_release_stage"): "added where the server is Valkey",
            ("redis_instance_info", "valkey_version"): "added where the server is Valkey",
        },
    ),
    "postgres_exporter": Exceptions(
        collectors={"buffercache_summary": "needs an extension, and reads every buffer"},
        missing={
            "pg_exporter_user_queries_load_error": "about the peer's own configuration file",
            "pg_replication_slots_pg_xlog_location_diff": "of servers before PostgreSQL 10",
            "pg_stat_replication_pg_xlog_location_diff": "of servers before PostgreSQL 10",
            "pg_xlog_location_bytes": "of servers before PostgreSQL 10",
        },
        further_labels={
            "server": "the label of all metrics of the peer up to version 0.11",
            "datname": "one target may be several databases",
        },
    ),
    "pgbouncer_exporter": Exceptions(
        missing={"pgbouncer_stats_totals_queries_total": "a column of PgBouncer before 1.8"},
    ),
    "blackbox_exporter": Exceptions(
        collectors={
            "grpc": "no client of gRPC",
            "icmp": "needs a privilege; a TCP probe shows as much",
            "websocket": "an HTTP probe shows whether the server answers",
        },
        missing={
            "probe_expect_info": "its labels come from the peer's configuration",
            "probe_failed_due_to_bytes": "steps expect lines",
            "probe_failed_due_to_cel": "JSON is checked with JMESPath",
        },
    ),
    "process-exporter": Exceptions(
        collectors={"threads": _PER_THREAD},
        missing=dict.fromkeys(
            ("namedprocess_scrape_errors", "namedprocess_scrape_partial_errors", "namedprocess_scrape_procread_errors"),
            "about the peer's own runs: deckwatch_collector_* tells of ours",
        ),
    ),
}  # fmt: skip

OURS = {entry.name: entry for entry in catalogue(Registry.installed())}
#: With `detailed_activity`; without it, they have the labels of version 0.11.
DETAILED = {it.name: it.labels for it in (DetailedActivityCollector.COUNT, DetailedActivityCollector.MAX_TRANSACTION)}
PATTERNS = [name for name in OURS if "*" in name]


def ours(name: str) -> Entry | None:
    """What we declare under a name or, else, the most specific pattern that it matches."""
    matching = [it for it in PATTERNS if it == name or MetricPattern(it, "gauge", "").matches(name)]
    return OURS.get(name) or OURS.get(max(matching, key=len, default=""))


@dataclass(frozen=True)
class Difference:
    text: str
    #: The keys of the exceptions that would excuse it.
    excuses: tuple[object, ...]


def differences(metrics: list[PeerMetric]) -> Iterator[Difference]:
    variants: dict[str, list[PeerMetric]] = {}
    for metric in metrics:
        variants.setdefault(metric.name, []).append(metric)
    for name, rows in variants.items():
        entry, peer = ours(name), rows[0]
        if entry is None:
            yield Difference(f"missing: {name} ({peer.collector})", (("collector", peer.collector), ("missing", name)))
            continue
        if entry.type != peer.type:
            yield Difference(f"{name} is a {entry.type}, not a {peer.type}", (("type", name),))
        given = set(DETAILED.get(name, entry.labels))
        # One name may have other labels from another collector of the peer: one of the sets is enough.
        wanted = min((set(filter(None, row.labels.split(","))) for row in rows), key=lambda it: len(it ^ given))
        for label in sorted(wanted - given):
            yield Difference(f"{name} lacks the label {label}", (("label", (name, label)),))
        for label in sorted(given - wanted):
            yield Difference(f"{name} has a further label {label}", (("further", label),))


@pytest.mark.parametrize("peer", PEERS)
def test_every_metric_of_the_peer_is_declared_with_its_type_and_labels_or_excepted(peer: str) -> None:
    exceptions = EXCEPTIONS[peer]
    unused = {
        *(("collector", key) for key in exceptions.collectors),
        *(("missing", key) for key in exceptions.missing),
        *(("type", key) for key in exceptions.types),
        *(("label", key) for key in exceptions.missing_labels),
        *(("further", key) for key in exceptions.further_labels),
    }
    excused = set(unused)
    problems = []
    for difference in differences(table(peer)):
        if not excused.intersection(difference.excuses):
            problems.append(difference.text)
        unused.difference_update(difference.excuses)

    assert not problems, "\n".join(problems)
    assert not unused, "exceptions that excuse nothing"


@pytest.mark.parametrize(("peer", "least"), [
    ("node_exporter", 1300), ("redis_exporter", 390), ("postgres_exporter", 140), ("pgbouncer_exporter", 45),
    ("process-exporter", 23), ("blackbox_exporter", 39), ("celery-exporter", 16),
])  # fmt: skip
def test_the_table_of_the_peer_is_whole(peer: str, least: int) -> None:
    metrics = table(peer)

    assert len(metrics) >= least
    assert len({(metric.name, metric.labels) for metric in metrics}) == len(metrics)
    assert {metric.type for metric in metrics} <= {"counter", "gauge", "histogram", "summary", "unknown"}
    assert {metric.default for metric in metrics} <= {"on", "off"}
