"""Replication: the lag of this server, its standbys, and the WAL that replication slots retain.

https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-REPLICATION-VIEW
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge
from deckwatch_exporters.clients.libpq import text
from deckwatch_exporters.clients.samples import samples

from .background import Supported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from deckwatch.exporter import Malformed, Metric, Sample

    from .server import Server

LAG = Gauge("pg_replication_lag_seconds", "Time that this server lags behind its primary, in seconds.", ["server"])
IS_REPLICA = Gauge("pg_replication_is_replica", "Whether this server is a replica (1) or a primary (0).", ["server"])
LAST_REPLAY = Gauge(
    "pg_replication_last_replay_seconds",
    "Time since the last replayed transaction was committed, in seconds.",
    ["server"],
)

SYSTEM_IDENTIFIER = Gauge(
    "pg_system_identifier_info",
    "Identifier of the data, which a primary and its physical standbys share, as a label; the value is always 1.",
    ["server", "system_identifier"],
)

_STANDBY = ("server", "application_name", "client_addr", "slot_name", "state")
_WAL_SENDER = (*_STANDBY, "pid")
CURRENT_LSN = Gauge(
    "pg_stat_replication_pg_current_wal_lsn_bytes", "Current WAL position of this server, in bytes.", _WAL_SENDER
)
LSN_DIFF = Gauge(
    "pg_stat_replication_pg_wal_lsn_diff", "WAL that the standby has not replayed yet, in bytes.", _WAL_SENDER
)
STANDBY_LAG = Gauge(
    "pg_stat_replication_lag_seconds",
    "Delay until the standby confirmed that recent WAL was written, flushed or replayed, in seconds.",
    [*_STANDBY, "stage"],
)

_SLOT = ("server", "slot_name", "database")
_SLOT_TYPE = ("server", "slot_name", "slot_type")
SLOT_ACTIVE = Gauge("pg_replication_slots_active", "Whether the slot is in use (1) or not (0).", _SLOT)
SLOT_RETAINED = Gauge("pg_replication_slots_pg_wal_lsn_diff", "WAL that the slot retains, in bytes.", _SLOT)
#: By prefix: postgres_exporter has `pg_replication_slots_` since 0.20, and `pg_replication_slot_` before.
SLOT_CURRENT = {
    prefix: Gauge(f"{prefix}_slot_current_wal_lsn", "Current WAL position of this server, in bytes.", _SLOT_TYPE)
    for prefix in ("pg_replication_slots", "pg_replication_slot")
}
SLOT_FLUSHED = {
    prefix: Gauge(
        f"{prefix}_slot_confirmed_flush_lsn",
        "WAL position up to which the consumer of the slot has confirmed receipt, in bytes.",
        _SLOT_TYPE,
    )
    for prefix in SLOT_CURRENT
}
SLOT_IS_ACTIVE = {
    prefix: Gauge(f"{prefix}_slot_is_active", "Whether the slot is in use (1) or not (0).", _SLOT_TYPE)
    for prefix in SLOT_CURRENT
}
SLOT_SAFE = {
    prefix: Gauge(
        f"{prefix}_safe_wal_size_bytes",
        "WAL that can be written before the slot is at risk of being lost, in bytes.",
        _SLOT_TYPE,
    )
    for prefix in SLOT_CURRENT
}
SLOT_STATUS = {
    prefix: Gauge(
        f"{prefix}_wal_status", "Availability of the WAL that the slot needs, as a label; the value is always 1.",
        [*_SLOT_TYPE, "wal_status"],
    )
    for prefix in SLOT_CURRENT
}  # fmt: skip

_RECEIVER = ("server", "upstream_host", "slot_name", "status")


def _receiver(kind: Callable[..., Metric], column: str, help: str) -> Metric:
    return kind(f"pg_stat_wal_receiver_{column}", help, _RECEIVER)


#: By column of the query, with the types of postgres_exporter.
RECEIVER: Mapping[str, Metric] = {
    "receive_start_lsn": _receiver(
        Counter, "receive_start_lsn", "WAL position at which the receiver started, in bytes."
    ),
    "flushed_lsn": _receiver(
        Counter, "flushed_lsn", "WAL position that was last received and flushed to disk, in bytes."
    ),
    "receive_start_tli": _receiver(Gauge, "receive_start_tli", "Timeline on which the receiver started."),
    "received_tli": _receiver(
        Gauge, "received_tli", "Timeline of the last WAL position that was received and flushed to disk."
    ),
    "last_msg_send_time": _receiver(
        Counter, "last_msg_send_time", "Time at which the primary sent its last message, in Unix seconds."
    ),
    "last_msg_receipt_time": _receiver(
        Counter, "last_msg_receipt_time", "Time at which the last message was received, in Unix seconds."
    ),
    "latest_end_lsn": _receiver(Counter, "latest_end_lsn", "WAL position last reported to the primary, in bytes."),
    "latest_end_time": _receiver(
        Counter, "latest_end_time", "Time of the last report of a WAL position to the primary, in Unix seconds."
    ),
    "upstream_node": _receiver(
        Gauge, "upstream_node", "ID of the repmgr node that this server follows, from the name of the slot."
    ),
}

_HERE = (
    "CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_receive_lsn()"
    " ELSE pg_catalog.pg_current_wal_lsn() END"
)
# greatest() ignores NULL: the lag of a replica that has not replayed anything yet is unknown, not 0.
_REPLAYED = """CASE WHEN pg_catalog.pg_last_xact_replay_timestamp() IS NOT NULL
    THEN greatest(0, extract(epoch FROM pg_catalog.now() - pg_catalog.pg_last_xact_replay_timestamp())) END"""
_STATUS_PART = f"""SELECT pg_catalog.pg_is_in_recovery() AS is_replica,
    pg_catalog.pg_last_wal_receive_lsn() = pg_catalog.pg_last_wal_replay_lsn() AS is_replayed,
    CASE WHEN pg_catalog.pg_is_in_recovery() THEN {_REPLAYED} END AS last_replay"""
_IDENTIFIER_PART = "SELECT system_identifier FROM pg_catalog.pg_control_system()"
_RECEIVER_PART = """SELECT pid AS receiver_pid,
    trim(both '''' from substring(conninfo from 'host=([^ ]*)')) AS upstream_host, slot_name AS upstream_slot, status,
    pg_catalog.pg_wal_lsn_diff(receive_start_lsn, '0/0') AS receive_start_lsn,
    pg_catalog.pg_wal_lsn_diff(flushed_lsn, '0/0') AS flushed_lsn,
    receive_start_tli, received_tli, extract(epoch FROM last_msg_send_time) AS last_msg_send_time,
    extract(epoch FROM last_msg_receipt_time) AS last_msg_receipt_time,
    pg_catalog.pg_wal_lsn_diff(latest_end_lsn, '0/0') AS latest_end_lsn,
    extract(epoch FROM latest_end_time) AS latest_end_time,
    substring(slot_name from 'repmgr_slot_([0-9]*)') AS upstream_node
FROM pg_catalog.pg_stat_wal_receiver"""
# Each standby with the slot that it uses, and the slots that no standby uses.
_FOLLOWERS_PART = f"""SELECT r.pid, r.application_name, r.client_addr, r.state,
    pg_catalog.pg_wal_lsn_diff({_HERE}, '0/0') AS current_lsn,
    pg_catalog.pg_wal_lsn_diff({_HERE}, r.replay_lsn) AS behind, extract(epoch FROM r.write_lag) AS write_lag,
    extract(epoch FROM r.flush_lag) AS flush_lag, extract(epoch FROM r.replay_lag) AS replay_lag,
    s.slot_name, s.database, s.slot_type, s.active,
    pg_catalog.pg_wal_lsn_diff({_HERE}, s.restart_lsn) AS retained,
    pg_catalog.pg_wal_lsn_diff(s.confirmed_flush_lsn, '0/0') AS confirmed_lsn, s.safe_wal_size, s.wal_status
FROM pg_catalog.pg_stat_replication AS r FULL JOIN pg_catalog.pg_replication_slots AS s ON s.active_pid = r.pid"""


class ReplicationCollector:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._supported = Supported()

    def collect(self) -> Iterator[Sample | Malformed]:
        # The first three parts have at most one row: there is a row for each standby or slot, or one in total.
        parts = _STATUS_PART, _IDENTIFIER_PART, _RECEIVER_PART, _FOLLOWERS_PART
        result = self._supported.query(self._server.session, parts)
        rows = sorted(result.dicts(), key=lambda row: (row.get("slot_name") or b"", row.get("pid") or b""))
        label = self._server.label
        for row in rows[:1]:
            status = ((IS_REPLICA, row.get("is_replica")), (LAG, _lag(row)), (LAST_REPLAY, row.get("last_replay")))
            yield from samples(status, server=label)
            if (identifier := row.get("system_identifier")) is not None:
                yield SYSTEM_IDENTIFIER(1, server=label, system_identifier=text(identifier))
        if self._server.sees_all:  # otherwise all columns but the names are NULL
            yield from _standbys(label, [row for row in rows if row.get("pid") is not None])
            for row in rows[:1]:
                if row.get("receiver_pid") is not None:
                    yield from _receiver_samples(label, row)
        for row in rows:
            if row.get("slot_name") is not None:
                yield from _slot(label, row)


def _lag(row: dict[str, bytes | None]) -> bytes | None:
    """Seconds; None if unknown.

    A replica that has replayed all received WAL is up to date only while its receiver streams: one that is cut off
    from its primary receives nothing. Without pg_monitor the state of the receiver is hidden.
    """
    if row.get("is_replica") == b"f":
        return b"0"
    is_streaming = row.get("receiver_pid") is not None and row["status"] in (None, b"streaming")
    if row.get("is_replayed") == b"t" and (is_streaming or "receiver_pid" not in row):
        return b"0"
    return row.get("last_replay")


def _standbys(label: str, rows: Iterable[dict[str, bytes | None]]) -> Iterator[Sample | Malformed]:
    seen: set[tuple[str, ...]] = set()
    for row in rows:
        names = tuple(text(row[name]) for name in _STANDBY[1:])
        pid = text(row["pid"])
        labels = dict(zip(_STANDBY, (label, *names), strict=True))
        yield from samples(((CURRENT_LSN, row["current_lsn"]), (LSN_DIFF, row["behind"])), **labels, pid=pid)
        if names in seen:  # only the process distinguishes two copies of one base backup
            labels["application_name"] = f"{names[0]} {pid}"
        seen.add(names)
        for stage in ("write", "flush", "replay"):
            yield from samples(((STANDBY_LAG, row[f"{stage}_lag"]),), stage=stage, **labels)


def _receiver_samples(label: str, row: dict[str, bytes | None]) -> Iterator[Sample | Malformed]:
    names = text(row["upstream_host"]), text(row["upstream_slot"]), text(row["status"])
    labels = dict(zip(_RECEIVER, (label, *names), strict=True))
    yield from samples(((metric, row[column]) for column, metric in RECEIVER.items()), **labels)


def _slot(label: str, row: dict[str, bytes | None]) -> Iterator[Sample | Malformed]:
    by_database = {"server": label, "slot_name": text(row["slot_name"]), "database": text(row["database"])}
    yield from samples(((SLOT_ACTIVE, row["active"]), (SLOT_RETAINED, row["retained"])), **by_database)
    by_type = {"server": label, "slot_name": text(row["slot_name"]), "slot_type": text(row["slot_type"])}
    for metrics, column in (
        (SLOT_CURRENT, "current_lsn"),
        (SLOT_FLUSHED, "confirmed_lsn"),
        (SLOT_IS_ACTIVE, "active"),
        (SLOT_SAFE, "safe_wal_size"),
    ):
        yield from samples(((metric, row[column]) for metric in metrics.values()), **by_type)
    if row["wal_status"] is not None:
        for metric in SLOT_STATUS.values():
            yield metric(1, **by_type, wal_status=text(row["wal_status"]))
