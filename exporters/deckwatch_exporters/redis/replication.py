"""Replication: the replicas of a master, and a replica's link to its master (INFO replication)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge, Malformed

from .values import assignments, figure, measured

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deckwatch.exporter import Sample, Samples, Series

_REPLICA = ("slave_ip", "slave_port", "slave_state")
_MASTER = ("master_host", "master_port")

REPLICA_OFFSET = Gauge("redis_connected_slave_offset_bytes", "Replication offset of the replica, in bytes.", _REPLICA)
REPLICA_LAG = Gauge(
    "redis_connected_slave_lag_seconds", "Time since the replica last acknowledged data, in seconds.", _REPLICA
)
REPLICA_INFO = Gauge(
    "redis_slave_info", "Information about the replica and its master.", ["master_host", "master_port", "read_only"]
)
LINK_UP = Gauge("redis_master_link_up", "Whether the replica's link to its master is up (1) or down (0).", _MASTER)
LAST_IO = Gauge(
    "redis_master_last_io_seconds_ago",
    "Time since the last interaction with the master, in seconds; -1 while the link is down.",
    _MASTER,
)
SYNC = Gauge("redis_master_sync_in_progress", "Whether the replica is synchronizing with its master.", _MASTER)
OFFSET = Gauge("redis_slave_repl_offset", "Replication offset of this replica, in bytes.", _MASTER)

_REPLICA_FIELD = re.compile(r"slave[0-9]+")
#: KeyDB's replicas have several masters: `master_1_host` and so on.
_MASTER_FIELD = re.compile(r"master(?:_[0-9]+)?_(host|port|link_status|last_io_seconds_ago|sync_in_progress)")
_LINK_STATES = {"up": 1.0, "down": 0.0}


def replication_samples(fields: Mapping[str, str]) -> Samples:
    """The samples of INFO replication. Labels are those of the last `master_host` and `master_port` before a field."""
    host = port = ""
    # A replica that reconnects is listed twice until its old link times out: the newer link counts.
    replicas: dict[Series, Sample] = {}
    for name, text in fields.items():
        if name.startswith("slave"):
            if _REPLICA_FIELD.fullmatch(name):
                for item in _replica(name, text):
                    if isinstance(item, Malformed):
                        yield item
                    else:
                        replicas[item.series] = item
            elif name == "slave_repl_offset":
                yield from measured(OFFSET, f"INFO: {name}", text, master_host=host, master_port=port)
        elif name.startswith("master") and (match := _MASTER_FIELD.fullmatch(name)):
            labels = {"master_host": host, "master_port": port}
            match match[1]:
                case "host":
                    host = text
                case "port":
                    port = text
                case "link_status":
                    state = _LINK_STATES.get(text)
                    yield Malformed(f"INFO: {name}", text) if state is None else LINK_UP(state, **labels)
                case what:
                    metric = LAST_IO if what == "last_io_seconds_ago" else SYNC
                    yield from measured(metric, f"INFO: {name}", text, **labels)
    yield from replicas.values()
    if fields.get("role") == "slave":
        yield REPLICA_INFO(
            1,
            master_host=fields.get("master_host", ""),
            master_port=fields.get("master_port", ""),
            read_only=fields.get("slave_read_only", ""),
        )


def _replica(name: str, text: str) -> Samples:
    """`ip=10.0.0.1,port=6379,state=online,offset=1751844676,lag=0`."""
    values = assignments(text)
    labels = {f"slave_{name}": values.get(name, "") for name in ("ip", "port", "state")}
    if not values.get("ip") or "offset" not in values:
        yield Malformed(f"INFO: {name}", text)
        return
    yield from measured(REPLICA_OFFSET, f"INFO: {name}: offset", values["offset"], **labels)
    lag = values.get("lag")
    if (seconds := figure(lag)) is None or seconds >= 0:  # -1 until the first acknowledgment
        yield from measured(REPLICA_LAG, f"INFO: {name}: lag", lag, **labels)
