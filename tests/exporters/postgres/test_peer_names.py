"""The catalogue beside that of postgres_exporter's main branch, read from its source: names, types and labels."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from deckwatch.metrics.declaration import Metric
from deckwatch_exporters.postgres import EXPORTER
from deckwatch_exporters.postgres.activity import DetailedActivityCollector

TABLE = Path(__file__).parent.parent / "fixtures" / "postgres_exporter" / "metrics.tsv"


class PeerMetric(NamedTuple):
    collector: str
    default: str  # on, off
    name: str
    type: str
    labels: str


PEER = [PeerMetric(*line.split("\t")) for line in TABLE.read_text().splitlines()[1:]]
#: What the peer itself emits for servers before 10 only, and an extension that takes a view of its own.
NOT_HERE = {"pg_replication_slots_pg_xlog_location_diff", "pg_stat_replication_pg_xlog_location_diff",
            "pg_xlog_location_bytes"}  # fmt: skip
NOT_HERE |= {it.name for it in PEER if it.collector == "buffercache_summary"}
#: Labels that we have beyond the peer's: `server` is on all of them in its version 0.11, and one target may be several
#: databases.
BEYOND = {"server", "datname"}
#: With `detailed_activity`; without it, they have the labels of 0.11.
DETAILED = {it.name: it for it in (DetailedActivityCollector.COUNT, DetailedActivityCollector.MAX_TRANSACTION)}
#: Told apart by `application_name` where two are alike; the label is in no release of the peer up to 0.20.1.
WITHOUT = {"pg_stat_replication_pg_current_wal_lsn_bytes": {"pid"}, "pg_stat_replication_pg_wal_lsn_diff": {"pid"}}

OURS = {it.name: it for it in EXPORTER.metrics if isinstance(it, Metric)} | DETAILED
COMPARED = [it for it in PEER if it.name not in NOT_HERE]


@pytest.mark.parametrize("peer", COMPARED, ids=lambda it: it.name)
def test_what_postgres_exporter_emits_is_declared_under_its_name_with_its_type_and_labels(peer: PeerMetric) -> None:
    ours = OURS.get(peer.name)
    assert ours is not None
    assert ours.type == peer.type
    labels = set(filter(None, peer.labels.split(",")))
    assert labels - set(ours.labels) == WITHOUT.get(peer.name, set())
    assert set(ours.labels) - labels <= BEYOND


def test_the_table_of_the_peers_metrics_is_whole() -> None:
    assert len(PEER) == 134
    assert {it.collector for it in PEER if it.default == "on"} == {
        "exporter", "database", "locks", "replication", "replication_slots", "roles", "stat_activity", "stat_archiver",
        "stat_bgwriter", "stat_database", "stat_progress_vacuum", "stat_replication", "stat_user_tables",
        "statio_user_tables", "wal",
    }  # fmt: skip
