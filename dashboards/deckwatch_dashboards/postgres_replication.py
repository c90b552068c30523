"""The PostgreSQL dashboard's panels on WAL, checkpoints, archiving and replication."""

from __future__ import annotations

from .panels import BYTES, BYTES_PER_SECOND, PER_SECOND, RATIO, SECONDS, YES_NO, graph, rate_graph, row, value_table
from .query import BY_TARGET, TARGET


def _checkpoint_rate(until_16: str, from_17: str) -> str:
    """The rate of a counter that PostgreSQL 17 moved to pg_stat_checkpointer."""
    old = f"rate(pg_stat_bgwriter_{until_16}_total{{@target}}[@rate])"
    new = f"rate(pg_stat_checkpointer_{from_17}_total{{@target}}[@rate])"
    return f"sum by ({BY_TARGET}) ({old} or {new})"


PANELS = (
    row("WAL and checkpoints"),
    rate_graph(
        "WAL written",
        "Bytes per second. Replicas and archives have to keep up with it.",
        BYTES_PER_SECOND,
        {"": "pg_wal_position_bytes_total{@target}"},
    ),
    graph(
        "WAL on disk",
        "Size of pg_wal. If it is far above max_wal_size, a replication slot or a failing archive_command keeps old "
        "files.",
        BYTES,
        {TARGET: "pg_wal_size_bytes{@target}"},
    ),
    rate_graph(
        "Archiving",
        "WAL files that were archived, and failed attempts. The server's log has the message of archive_command.",
        PER_SECOND,
        {
            "archived": "pg_stat_archiver_archived_count{@target}",
            "failed": "pg_stat_archiver_failed_count{@target}",
        },
    ),
    graph(
        "Checkpoints",
        "Checkpoints by cause. If most of them are requested rather than timed, raise max_wal_size.",
        PER_SECOND,
        {
            f"{TARGET} timed": _checkpoint_rate("checkpoints_timed", "num_timed"),
            f"{TARGET} requested": _checkpoint_rate("checkpoints_req", "num_requested"),
        },
    ),
    graph(
        "Time spent on checkpoints",
        "Share of time in which checkpoints write and synchronize files. Long synchronization stalls queries: the "
        "disks are too slow.",
        RATIO,
        {
            f"{TARGET} write": f"{_checkpoint_rate('checkpoint_write_time', 'write_time')} / 1000",
            f"{TARGET} sync": f"{_checkpoint_rate('checkpoint_sync_time', 'sync_time')} / 1000",
        },
    ),
    graph(
        "Buffers written by checkpoints",
        "Buffers per second. Compare with the WAL that is written.",
        PER_SECOND,
        {TARGET: _checkpoint_rate("buffers_checkpoint", "buffers_written")},
    ),
    row("Replication"),
    graph(
        "Replication lag",
        "How far each standby is behind, in time, as the standby reports it. If it rises, check the network and long "
        "queries on the standby.",
        SECONDS,
        {TARGET: "pg_replication_lag_seconds{@target}"},
    ),
    graph(
        "WAL to replay",
        "WAL that each standby has not replayed, as the primary reports it.",
        BYTES,
        {
            f"{TARGET} {{{{application_name}}}} {{{{client_addr}}}}": "max by"
            f" ({BY_TARGET}, application_name, client_addr) (pg_stat_replication_pg_wal_lsn_diff{{@target}})"
        },
        no_data="No standby is connected.",
    ),
    graph(
        "Last message from the primary",
        "Time since the WAL receiver of each standby received a message. Above wal_receiver_timeout, the connection to "
        "the primary is lost.",
        SECONDS,
        {
            f"{TARGET} {{{{upstream_host}}}} {{{{status}}}}": "time() -"
            " pg_stat_wal_receiver_last_msg_receipt_time{@target}"
        },
        no_data="No standby is watched, or its WAL receiver does not run.",
    ),
    value_table(
        "Replication slots",
        "An unused slot keeps WAL until the disk is full. If nobody needs it, run `SELECT "
        "pg_drop_replication_slot('NAME')`: its consumer then needs a new copy.",
        f"{BY_TARGET}, slot_name, database",
        {
            "in use": (YES_NO, "pg_replication_slots_active{@target}"),
            "WAL kept": (BYTES, "pg_replication_slots_pg_wal_lsn_diff{@target}"),
        },
        sort="WAL kept",
        width=24,
        height=6,
        no_data="There are no replication slots.",
    ),
)
