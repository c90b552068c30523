"""Replication: how far this server is behind, who follows it, and what the slots hold back.

https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-REPLICATION-VIEW
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.metric import counter, gauge

from .background import Supported
from .session import MARK, number, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from deckwatch.metric import Metric, Sample

    from .server import Server
    from .session import Row

LAG = gauge("pg_replication_lag_seconds", "How far this server is behind its primary, in seconds.", ["server"])
IS_REPLICA = gauge("pg_replication_is_replica", "Whether this server is a replica.", ["server"])
LAST_REPLAY = gauge(
    "pg_replication_last_replay_seconds", "Time since a transaction was last replayed, in seconds.", ["server"]
)

_STANDBY = ("server", "application_name", "client_addr", "slot_name", "state")
CURRENT_LSN = gauge("pg_stat_replication_pg_current_wal_lsn_bytes", "Position of the WAL, in bytes.", _STANDBY)
LSN_DIFF = gauge("pg_stat_replication_pg_wal_lsn_diff", "WAL that the standby has yet to replay, in bytes.", _STANDBY)
STANDBY_LAG = gauge(
    "pg_stat_replication_lag_seconds",
    "How long recent WAL took to be written, flushed and replayed by the standby, in seconds.",
    [*_STANDBY, "stage"],
)

_SLOT = ("server", "slot_name", "database")
_SLOT_TYPE = ("server", "slot_name", "slot_type")
SLOT_ACTIVE = gauge("pg_replication_slots_active", "Whether somebody uses the slot.", _SLOT)
SLOT_RETAINED = gauge("pg_replication_slots_pg_wal_lsn_diff", "WAL that the slot holds back, in bytes.", _SLOT)
#: By prefix: `pg_replication_slots_` since version 0.20 of the peer, `pg_replication_slot_` before.
SLOT_CURRENT = {
    prefix: gauge(f"{prefix}_slot_current_wal_lsn", "Position of the WAL, in bytes.", _SLOT_TYPE)
    for prefix in ("pg_replication_slots", "pg_replication_slot")
}
SLOT_FLUSHED = {
    prefix: gauge(
        f"{prefix}_slot_confirmed_flush_lsn", "Position that the slot's consumer has confirmed, in bytes.", _SLOT_TYPE
    )
    for prefix in SLOT_CURRENT
}
SLOT_IS_ACTIVE = {
    prefix: gauge(f"{prefix}_slot_is_active", "Whether somebody uses the slot.", _SLOT_TYPE) for prefix in SLOT_CURRENT
}
SLOT_SAFE = {
    prefix: gauge(
        f"{prefix}_safe_wal_size_bytes", "WAL that can be written before the slot may be lost, in bytes.", _SLOT_TYPE
    )
    for prefix in SLOT_CURRENT
}
SLOT_STATUS = {
    prefix: gauge(
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
        counter, "receive_start_lsn", "Position at which the receiver was started, in bytes."
    ),
    "flushed_lsn": _receiver(counter, "flushed_lsn", "Position up to which WAL was received and flushed, in bytes."),
    "receive_start_tli": _receiver(gauge, "receive_start_tli", "Timeline on which the receiver was started."),
    "received_tli": _receiver(gauge, "received_tli", "Timeline of the WAL that was received last."),
    "last_msg_send_time": _receiver(
        counter, "last_msg_send_time", "When the last message was sent by the primary, in Unix seconds."
    ),
    "last_msg_receipt_time": _receiver(
        counter, "last_msg_receipt_time", "When the last message was received, in Unix seconds."
    ),
    "latest_end_lsn": _receiver(counter, "latest_end_lsn", "Position that was last reported to the primary, in bytes."),
    "latest_end_time": _receiver(
        counter, "latest_end_time", "When a position was last reported to the primary, in Unix seconds."
    ),
    "upstream_node": _receiver(
        gauge, "upstream_node", "Node of repmgr that this one follows, from the name of the slot."
    ),
}

_HERE = "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END"
_REPLICA_QUERY = f"SELECT {MARK} pg_is_in_recovery()"
# greatest() passes over NULL: a replica that has replayed nothing yet would be 0 seconds behind.
_REPLAYED = """CASE WHEN pg_last_xact_replay_timestamp() IS NOT NULL
    THEN greatest(0, extract(epoch FROM now() - pg_last_xact_replay_timestamp())) END"""
_LAG_QUERY = f"""SELECT {MARK}
    CASE WHEN NOT pg_is_in_recovery() THEN 0
         WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0 ELSE {_REPLAYED} END,
    CASE WHEN pg_is_in_recovery() THEN {_REPLAYED} END"""
_STANDBYS_QUERY = f"""SELECT {MARK}
    r.application_name, r.client_addr, s.slot_name, r.state, pg_wal_lsn_diff({_HERE}, '0/0'),
    pg_wal_lsn_diff({_HERE}, r.replay_lsn), extract(epoch FROM r.write_lag), extract(epoch FROM r.flush_lag),
    extract(epoch FROM r.replay_lag), r.pid
FROM pg_stat_replication AS r LEFT JOIN pg_replication_slots AS s ON s.active_pid = r.pid"""
_SLOTS_QUERY = f"""SELECT {MARK}
    slot_name, database, slot_type, active, pg_wal_lsn_diff({_HERE}, restart_lsn), pg_wal_lsn_diff({_HERE}, '0/0'),
    pg_wal_lsn_diff(confirmed_flush_lsn, '0/0'), safe_wal_size, wal_status
FROM pg_replication_slots"""
_RECEIVER_QUERY = f"""SELECT {MARK}
    trim(both '''' from substring(conninfo from 'host=([^ ]*)')) AS upstream_host, slot_name, status,
    pg_wal_lsn_diff(receive_start_lsn, '0/0') AS receive_start_lsn, pg_wal_lsn_diff(flushed_lsn, '0/0') AS flushed_lsn,
    receive_start_tli, received_tli, extract(epoch FROM last_msg_send_time) AS last_msg_send_time,
    extract(epoch FROM last_msg_receipt_time) AS last_msg_receipt_time,
    pg_wal_lsn_diff(latest_end_lsn, '0/0') AS latest_end_lsn, extract(epoch FROM latest_end_time) AS latest_end_time,
    substring(slot_name from 'repmgr_slot_([0-9]*)') AS upstream_node
FROM pg_stat_wal_receiver"""


class ReplicationCollector:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._supported = Supported()

    def collect(self) -> Iterator[Sample]:
        replica, lag, standbys, slots, receiver = self._supported.queries(
            self._server.session, (_REPLICA_QUERY, _LAG_QUERY, _STANDBYS_QUERY, _SLOTS_QUERY, _RECEIVER_QUERY)
        )
        label = self._server.label
        for result, metrics in ((replica, (IS_REPLICA,)), (lag, (LAG, LAST_REPLAY))):
            for row in result or ():
                for metric, value in zip(metrics, row, strict=True):
                    if (figure := number(value)) is not None:
                        yield metric(figure, server=label)
        if self._server.sees_all:  # else all but the names are NULL
            yield from self._standbys(label, standbys or ())
            for link in receiver.dicts() if receiver is not None else ():
                labels = {name: text(link.pop(name)) for name in _RECEIVER[1:]}
                for column, value in link.items():
                    if (figure := number(value)) is not None:
                        yield RECEIVER[column](figure, server=label, **labels)
        for row in slots or ():
            yield from _slot(label, row)

    def _standbys(self, label: str, rows: Iterable[Row]) -> Iterator[Sample]:
        seen: set[tuple[str, ...]] = set()
        for application, address, slot, state, current, behind, *lags, pid in rows:
            names = (text(application), text(address), text(slot), text(state))
            if names in seen:  # two copies of one base backup: told apart as the peer does it, by the process
                names = (f"{names[0]} {text(pid)}", *names[1:])
            seen.add(names)
            labels = dict(zip(_STANDBY, (label, *names), strict=True))
            for metric, value in ((CURRENT_LSN, current), (LSN_DIFF, behind)):
                if (figure := number(value)) is not None:
                    yield metric(figure, **labels)
            for stage, value in zip(("write", "flush", "replay"), lags, strict=True):
                if (figure := number(value)) is not None:
                    yield STANDBY_LAG(figure, stage=stage, **labels)


def _slot(label: str, row: tuple[bytes | None, ...]) -> Iterator[Sample]:
    name, database, kind, active, retained, current, flushed, safe, status = row
    by_database = {"server": label, "slot_name": text(name), "database": text(database)}
    yield SLOT_ACTIVE(active == b"t", **by_database)
    if (held := number(retained)) is not None:
        yield SLOT_RETAINED(held, **by_database)
    by_type = {"server": label, "slot_name": text(name), "slot_type": text(kind)}
    for metrics, value in (
        (SLOT_CURRENT, current),
        (SLOT_FLUSHED, flushed),
        (SLOT_IS_ACTIVE, active),
        (SLOT_SAFE, safe),
    ):
        if (figure := number(value)) is not None:
            for metric in metrics.values():
                yield metric(figure, **by_type)
    if status is not None:
        for metric in SLOT_STATUS.values():
            yield metric(1, **by_type, wal_status=text(status))
