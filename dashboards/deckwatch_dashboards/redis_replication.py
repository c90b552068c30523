"""The Redis dashboard's panels on replication, Sentinel, persistence and streams."""

from __future__ import annotations

from .panels import BYTES, COUNT, SECONDS, graph, row, state_timeline, value_table
from .query import BY_TARGET, TARGET

_REPLICA = f"{TARGET} {{{{slave_ip}}}}:{{{{slave_port}}}}"
_BY_MASTER = f"{BY_TARGET}, master_name"
_BY_GROUP = f"{BY_TARGET}, db, stream, group"

PANELS = (
    row("Replication and Sentinel"),
    graph(
        "Replication lag",
        "Time since the master last heard from each replica. If it rises, check the network and the replica's load.",
        SECONDS,
        {_REPLICA: "redis_connected_slave_lag_seconds{@target}"},
        no_data="No replica is connected.",
    ),
    graph(
        "Replication offset gap",
        "Bytes that the master has written and the replica has not yet acknowledged. If the gap exceeds the backlog, a "
        "replica that reconnects needs a full copy: raise repl-backlog-size.",
        BYTES,
        {
            _REPLICA: "clamp_min(redis_master_repl_offset{@target}"
            f" - on ({BY_TARGET}) group_right () redis_connected_slave_offset_bytes{{@target}}, 0)"
        },
        no_data="No replica is connected.",
    ),
    state_timeline(
        "Lost connections to the master",
        "When replicas had no connection to their master, for the replicas that lost it in the time range. They serve "
        "old data meanwhile.",
        {TARGET: "redis_master_link_up{@target}"},
        width=8,
        no_data="No replica lost the connection to its master.",
    ),
    value_table(
        "Sentinel",
        "Masters that the Sentinels watch. A quorum of 0 means that too few Sentinels are reachable for a failover: "
        "start the missing ones.",
        _BY_MASTER,
        {
            "up": (COUNT, "redis_sentinel_master_status{@target}"),
            "quorum": (COUNT, "redis_sentinel_master_ckquorum_status{@target}"),
            "Sentinels": (COUNT, "redis_sentinel_master_sentinels{@target}"),
            "reachable Sentinels": (COUNT, "redis_sentinel_master_ok_sentinels{@target}"),
            "replicas": (COUNT, "redis_sentinel_master_slaves{@target}"),
            "reachable replicas": (COUNT, "redis_sentinel_master_ok_slaves{@target}"),
        },
        sort="quorum",
        descending=False,
        width=16,
        no_data="No target is a Sentinel.",
    ),
    graph(
        "Changes not saved",
        "Changes since the last snapshot. Without an append-only file, a crash loses them.",
        COUNT,
        {TARGET: "redis_rdb_changes_since_last_save{@target}"},
    ),
    row("Streams"),
    value_table(
        "Consumer groups",
        "Entries that wait for delivery, entries delivered but not acknowledged, and consumers. If entries wait and "
        "there is no consumer, the workers are down.",
        _BY_GROUP,
        {
            "waiting": (COUNT, "redis_stream_group_lag{@target}"),
            "pending": (COUNT, "redis_stream_group_messages_pending{@target}"),
            "consumers": (COUNT, "redis_stream_group_consumers{@target}"),
        },
        sort="waiting",
        no_data="No stream is configured, or the streams have no consumer groups.",
    ),
    graph(
        "Oldest waiting entry",
        "Time that the oldest undelivered entry of each group has waited. If it rises, start more consumers.",
        SECONDS,
        {
            f"{TARGET} {{{{stream}}}} {{{{group}}}}": "time() -"
            " redis_stream_group_oldest_undelivered_timestamp_seconds{@target}"
        },
        width=12,
        no_data="No entry is waiting in a stream.",
    ),
)
