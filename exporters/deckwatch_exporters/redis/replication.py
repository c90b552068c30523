"""Replication: the replicas of a master, and a replica's link to its master (INFO replication)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge

from .info import assignments, figure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from deckwatch.exporter import Sample, Series

_REPLICA = ("slave_ip", "slave_port", "slave_state")
_MASTER = ("master_host", "master_port")

REPLICA_OFFSET = Gauge("redis_connected_slave_offset_bytes", "Replication offset of the replica, in bytes.", _REPLICA)
REPLICA_LAG = Gauge("redis_connected_slave_lag_seconds", "Seconds since the replica was last heard of.", _REPLICA)
REPLICA_INFO = Gauge("redis_slave_info", "The master of this replica.", ["master_host", "master_port", "read_only"])
LINK_UP = Gauge("redis_master_link_up", "Whether the link to the master is up.", _MASTER)
LAST_IO = Gauge(
    "redis_master_last_io_seconds_ago", "Seconds since the last exchange with the master; -1 when down.", _MASTER
)
SYNC = Gauge("redis_master_sync_in_progress", "Whether the master is sending all of its data.", _MASTER)
OFFSET = Gauge("redis_slave_repl_offset", "Replication offset of this replica, in bytes.", _MASTER)

_REPLICA_FIELD = re.compile(r"slave[0-9]+")
#: KeyDB's replicas have several masters: `master_1_host` and so on.
_MASTER_FIELD = re.compile(r"master(?:_[0-9]+)?_(host|port|link_status|last_io_seconds_ago|sync_in_progress)")


def replication_samples(fields: Mapping[str, str]) -> Iterator[Sample]:
    host = port = ""
    # A replica that came back before its old link was given up is there twice: its newer link counts.
    replicas: dict[Series, Sample] = {}
    for name, text in fields.items():
        if name.startswith("slave"):
            if _REPLICA_FIELD.fullmatch(name):
                replicas.update((sample.series, sample) for sample in _replica(text))
            elif name == "slave_repl_offset" and (offset := figure(text)) is not None:
                yield OFFSET(offset, master_host=host, master_port=port)
        elif name.startswith("master") and (match := _MASTER_FIELD.fullmatch(name)):
            what = match[1]
            if what == "host":
                host = text
            elif what == "port":
                port = text
            elif what == "link_status":
                yield LINK_UP(float(text == "up"), master_host=host, master_port=port)
            elif (value := figure(text)) is not None:
                yield (LAST_IO if what == "last_io_seconds_ago" else SYNC)(value, master_host=host, master_port=port)
    yield from replicas.values()
    if fields.get("role") == "slave":
        yield REPLICA_INFO(
            1,
            master_host=fields.get("master_host", ""),
            master_port=fields.get("master_port", ""),
            read_only=fields.get("slave_read_only", ""),
        )


def _replica(text: str) -> Iterator[Sample]:
    """`ip=10.0.0.1,port=6379,state=online,offset=1751844676,lag=0`; `lag` is there since Redis 3."""
    values = assignments(text)
    labels = {f"slave_{name}": values.get(name, "") for name in ("ip", "port", "state")}
    if (offset := figure(values.get("offset"))) is None:
        return
    yield REPLICA_OFFSET(offset, **labels)
    if (lag := figure(values.get("lag"))) is not None and lag >= 0:
        yield REPLICA_LAG(lag, **labels)
