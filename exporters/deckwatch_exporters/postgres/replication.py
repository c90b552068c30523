"""Replication: how far this server is behind, who follows it, and what the slots hold back.

https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-REPLICATION-VIEW
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge
from deckwatch_exporters.clients.libpq import number, text

from .background import Supported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from deckwatch.exporter import Metric, Sample

    from .server import Server

LAG = Gauge("pg_replication_lag_seconds", "How far this server is behind its primary, in seconds.", ["server"])
IS_REPLICA = Gauge("pg_replication_is_replica", "Whether this server is a replica.", ["server"])
LAST_REPLAY = Gauge(
    "pg_replication_last_replay_seconds", "Time since a transaction was last replayed, in seconds.", ["server"]
)

_STANDBY = ("server", "application_name", "client_addr", "slot_name", "state")
_WAL_SENDER = (*_STANDBY, "pid")
CURRENT_LSN = Gauge("pg_stat_replication_pg_current_wal_lsn_bytes", "Position of the WAL, in bytes.", _WAL_SENDER)
LSN_DIFF = Gauge(
    "pg_stat_replication_pg_wal_lsn_diff", "WAL that the standby has yet to replay, in bytes.", _WAL_SENDER
)
STANDBY_LAG = Gauge(
    "pg_stat_replication_lag_seconds",
    "How long recent WAL took to be written, flushed and replayed by the standby, in seconds.",
    [*_STANDBY, "stage"],
)

_SLOT = ("server", "slot_name", "database")
_SLOT_TYPE = ("server", "slot_name", "slot_type")
SLOT_ACTIVE = Gauge("pg_replication_slots_active", "Whether somebody uses the slot.", _SLOT)
SLOT_RETAINED = Gauge("pg_replication_slots_pg_wal_lsn_diff", "WAL that the slot holds back, in bytes.", _SLOT)
#: By prefix: `pg_replication_slots_` since version 0.20 of the peer, `pg_replication_slot_` before.
SLOT_CURRENT = {
    prefix: Gauge(f"{prefix}_slot_current_wal_lsn", "Position of the WAL, in bytes.", _SLOT_TYPE)
    for prefix in ("pg_replication_slots", "pg_replication_slot")
}
SLOT_FLUSHED = {
    prefix: Gauge(
        f"{prefix}_slot_confirmed_flush_lsn", "Position that the slot's consumer has confirmed, in bytes.", _SLOT_TYPE
    )
    for prefix in SLOT_CURRENT
}
SLOT_IS_ACTIVE = {
    prefix: Gauge(f"{prefix}_slot_is_active", "Whether somebody uses the slot.", _SLOT_TYPE) for prefix in SLOT_CURRENT
}
SLOT_SAFE = {
    prefix: Gauge(
        f"{prefix}_safe_wal_size_bytes", "WAL that can be written before the slot may be lost, in bytes.", _SLOT_TYPE
    )
    for prefix in SLOT_CURRENT
}
SLOT_STATUS = {
    prefix: Gauge(
        f"{prefix}_wal_status", "Whether the WAL that the slot needs is there; 1 for the status in the label.",
        [*_SLOT_TYPE, "wal_status"],
    )
    for prefix in SLOT_CURRENT
}  # fmt: skip

_RECEIVER = ("server", "upstream_host", "slot_name", "status")


def _receiver(kind: Callable[..., Metric], column: str, help: str) -> Metric:
    return kind(f"pg_stat_wal_receiver_{column}", help, _RECEIVER)


#: By column of the query. The peer's types.
RECEIVER: Mapping[str, Metric] = {
    "receive_start_lsn": _receiver(
        Counter, "receive_start_lsn", "Position at which the receiver was started, in bytes."
    ),
    "flushed_lsn": _receiver(Counter, "flushed_lsn", "Position up to which WAL was received and flushed, in bytes."),
    "receive_start_tli": _receiver(Gauge, "receive_start_tli", "Timeline on which the receiver was started."),
    "received_tli": _receiver(Gauge, "received_tli", "Timeline of the WAL that was received last."),
    "last_msg_send_time": _receiver(
        Counter, "last_msg_send_time", "When the last message was sent by the primary, in Unix seconds."
    ),
    "last_msg_receipt_time": _receiver(
        Counter, "last_msg_receipt_time", "When the last message was received, in Unix seconds."
    ),
    "latest_end_lsn": _receiver(Counter, "latest_end_lsn", "Position that was last reported to the primary, in bytes."),
    "latest_end_time": _receiver(
        Counter, "latest_end_time", "When a position was last reported to the primary, in Unix seconds."
    ),
    "upstream_node": _receiver(
        Gauge, "upstream_node", "Node of repmgr that this one follows, from the name of the slot."
    ),
}

#: By column of the query.
_STATUS_METRICS = {"is_replica": IS_REPLICA, "lag": LAG, "last_replay": LAST_REPLAY}

_HERE = "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END"
# greatest() passes over NULL: a replica that has replayed nothing yet would be 0 seconds behind.
_REPLAYED = """CASE WHEN pg_last_xact_replay_timestamp() IS NOT NULL
    THEN greatest(0, extract(epoch FROM now() - pg_last_xact_replay_timestamp())) END"""
_STATUS_PART = f"""SELECT pg_is_in_recovery() AS is_replica,
    CASE WHEN NOT pg_is_in_recovery() THEN 0
         WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0 ELSE {_REPLAYED} END AS lag,
    CASE WHEN pg_is_in_recovery() THEN {_REPLAYED} END AS last_replay"""
_RECEIVER_PART = """SELECT pid AS receiver_pid,
    trim(both '''' from substring(conninfo from 'host=([^ ]*)')) AS upstream_host, slot_name AS upstream_slot, status,
    pg_wal_lsn_diff(receive_start_lsn, '0/0') AS receive_start_lsn, pg_wal_lsn_diff(flushed_lsn, '0/0') AS flushed_lsn,
    receive_start_tli, received_tli, extract(epoch FROM last_msg_send_time) AS last_msg_send_time,
    extract(epoch FROM last_msg_receipt_time) AS last_msg_receipt_time,
    pg_wal_lsn_diff(latest_end_lsn, '0/0') AS latest_end_lsn, extract(epoch FROM latest_end_time) AS latest_end_time,
    substring(slot_name from 'repmgr_slot_([0-9]*)') AS upstream_node
FROM pg_stat_wal_receiver"""
# Each standby with the slot that it uses, if any, and the slots that no standby uses.
_FOLLOWERS_PART = f"""SELECT r.pid, r.application_name, r.client_addr, r.state,
    pg_wal_lsn_diff({_HERE}, '0/0') AS current_lsn,
    pg_wal_lsn_diff({_HERE}, r.replay_lsn) AS behind, extract(epoch FROM r.write_lag) AS write_lag,
    extract(epoch FROM r.flush_lag) AS flush_lag, extract(epoch FROM r.replay_lag) AS replay_lag,
    s.slot_name, s.database, s.slot_type, s.active, pg_wal_lsn_diff({_HERE}, s.restart_lsn) AS retained,
    pg_wal_lsn_diff(s.confirmed_flush_lsn, '0/0') AS confirmed_lsn, s.safe_wal_size, s.wal_status
FROM pg_stat_replication AS r FULL JOIN pg_replication_slots AS s ON s.active_pid = r.pid"""


class ReplicationCollector:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._supported = Supported()

    def collect(self) -> Iterator[Sample]:
        # Of the first two there is one row at most: as many rows as there are followers, and one where there are none.
        result = self._supported.query(self._server.session, (_STATUS_PART, _RECEIVER_PART, _FOLLOWERS_PART))
        rows = sorted(result.dicts(), key=lambda row: (row.get("slot_name") or b"", row.get("pid") or b""))
        label = self._server.label
        for row in rows[:1]:
            for column, metric in _STATUS_METRICS.items():
                if (figure := number(row.get(column))) is not None:
                    yield metric(figure, server=label)
        if self._server.sees_all:  # else all but the names are NULL
            yield from _standbys(label, [row for row in rows if row.get("pid") is not None])
            for row in rows[:1]:
                if row.get("receiver_pid") is not None:
                    yield from _receiver_samples(label, row)
        for row in rows:
            if row.get("slot_name") is not None:
                yield from _slot(label, row)


def _standbys(label: str, rows: Iterable[dict[str, bytes | None]]) -> Iterator[Sample]:
    seen: set[tuple[str, ...]] = set()
    for row in rows:
        names = tuple(text(row[name]) for name in _STANDBY[1:])
        pid = text(row["pid"])
        labels = dict(zip(_STANDBY, (label, *names), strict=True))
        for metric, value in ((CURRENT_LSN, row["current_lsn"]), (LSN_DIFF, row["behind"])):
            if (figure := number(value)) is not None:
                yield metric(figure, **labels, pid=pid)
        if names in seen:  # two copies of one base backup, which only the process tells apart
            labels["application_name"] = f"{names[0]} {pid}"
        seen.add(names)
        for stage in ("write", "flush", "replay"):
            if (figure := number(row[f"{stage}_lag"])) is not None:
                yield STANDBY_LAG(figure, stage=stage, **labels)


def _receiver_samples(label: str, row: dict[str, bytes | None]) -> Iterator[Sample]:
    names = text(row["upstream_host"]), text(row["upstream_slot"]), text(row["status"])
    labels = dict(zip(_RECEIVER, (label, *names), strict=True))
    for column, metric in RECEIVER.items():
        if (figure := number(row[column])) is not None:
            yield metric(figure, **labels)


def _slot(label: str, row: dict[str, bytes | None]) -> Iterator[Sample]:
    by_database = {"server": label, "slot_name": text(row["slot_name"]), "database": text(row["database"])}
    yield SLOT_ACTIVE(row["active"] == b"t", **by_database)
    if (held := number(row["retained"])) is not None:
        yield SLOT_RETAINED(held, **by_database)
    by_type = {"server": label, "slot_name": text(row["slot_name"]), "slot_type": text(row["slot_type"])}
    for metrics, column in (
        (SLOT_CURRENT, "current_lsn"),
        (SLOT_FLUSHED, "confirmed_lsn"),
        (SLOT_IS_ACTIVE, "active"),
        (SLOT_SAFE, "safe_wal_size"),
    ):
        if (figure := number(row[column])) is not None:
            for metric in metrics.values():
                yield metric(figure, **by_type)
    if row["wal_status"] is not None:
        for metric in SLOT_STATUS.values():
            yield metric(1, **by_type, wal_status=text(row["wal_status"]))
