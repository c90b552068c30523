"""The catalogue beside that of redis_exporter's main branch, read from its source: names, types and labels."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from deckwatch_exporters.redis import EXPORTER

from .support import FIXTURES


class PeerMetric(NamedTuple):
    flag: str  # `on`, or what switches it on
    name: str
    type: str
    labels: str


PEER = [PeerMetric(*line.split("\t")) for line in (FIXTURES / "redis_exporter.tsv").read_text().splitlines()[1:]]

#: Emitted by default there, and not declared here.
NOT_HERE = {"redis_exporter_build_info": "about the peer's own program"}
#: Flags whose metrics are not declared here.
NOT_HERE_BY_FLAG = {
    "include-rdb-file-size-metric": "a file of the server's host",
    "include-search-indexes-metrics": "a command for each index on each run",
    "is-tile38": "another server, with commands of its own",
    "ping-on-connect": "the connection is kept, so that the time of the run says as much",
    "script": "runs code in the server that is watched",
}
NOT_HERE |= {it.name: NOT_HERE_BY_FLAG[it.flag] for it in PEER if it.flag in NOT_HERE_BY_FLAG}
NOT_HERE["redis_key_value_as_string"] = "values that are anything at all, as a label"
#: Counters of the main branch that we declare as gauges.
GAUGES = {"redis_expired_time_cap_reached_total": "a gauge in the release of the peer that distributions carry"}
#: Labels that the peer's metric has and ours has not.
WITHOUT = {"redis_instance_info": {"master_replid"}}  # changes in every failover: redis_replication_id_info has it

OURS = {it.name: it for it in EXPORTER.metrics}
COMPARED = [it for it in PEER if it.name not in NOT_HERE]


@pytest.mark.parametrize("peer", COMPARED, ids=lambda it: it.name)
def test_what_redis_exporter_emits_is_declared_under_its_name_with_its_type_and_labels(peer: PeerMetric) -> None:
    ours = OURS.get(peer.name)
    assert ours is not None
    assert ours.type == ("gauge" if peer.name in GAUGES else peer.type)
    labels = set(filter(None, peer.labels.split(",")))
    assert labels - set(ours.labels) == WITHOUT.get(peer.name, set())
    assert set(ours.labels) <= labels


def test_what_is_left_out_is_not_declared_and_the_exceptions_are_ones() -> None:
    assert not NOT_HERE.keys() & OURS.keys()
    by_name = {it.name: it for it in PEER}
    assert NOT_HERE.keys() | GAUGES.keys() | WITHOUT.keys() <= by_name.keys()
    assert {by_name[name].type for name in GAUGES} == {"counter"}
    assert {it.flag for it in PEER} >= NOT_HERE_BY_FLAG.keys()


def test_the_total_of_what_is_left_out_of_the_peers_defaults_is_its_build_info() -> None:
    assert [it.name for it in PEER if it.flag == "on" and it.name in NOT_HERE] == ["redis_exporter_build_info"]


def test_the_table_of_the_peers_metrics_is_whole() -> None:
    assert len(PEER) == 399
    assert sum(it.flag == "on" for it in PEER) == 238
    assert len({it.name for it in PEER}) == len(PEER)
    assert {it.flag for it in PEER} == {
        "check-key-groups", "check-keys", "check-streams", "count-keys", "export-client-list",
        "include-config-metrics", "include-modules-metrics", "include-rdb-file-size-metric",
        "include-search-indexes-metrics", "include-sentinel-peer-info", "include-system-metrics", "is-tile38", "on",
        "ping-on-connect", "script",
    }  # fmt: skip
