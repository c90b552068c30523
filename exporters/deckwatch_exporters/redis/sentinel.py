"""A Sentinel as the target: the masters that it watches, and whether it could fail them over."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge
from deckwatch_exporters.clients.redis.resp import ReplyError, mapping_of, pack, text_of

from .info import assignments, figure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from deckwatch.exporter import Sample
    from deckwatch_exporters.clients.redis.resp import Reply

_MASTER = ("master_name", "master_address")

FIELDS = {
    "sentinel_masters": Gauge("redis_sentinel_masters", "Masters that the Sentinel watches."),
    "sentinel_tilt": Gauge("redis_sentinel_tilt", "Whether the Sentinel is in TILT mode, in which it does not act."),
    "sentinel_running_scripts": Gauge("redis_sentinel_running_scripts", "Scripts that are running."),
    "sentinel_scripts_queue_length": Gauge("redis_sentinel_scripts_queue_length", "Scripts that wait to be run."),
    "sentinel_simulate_failure_flags": Gauge(
        "redis_sentinel_simulate_failure_flags", "Failures that the Sentinel is told to simulate, as flags."
    ),
}
STATUS = Gauge(
    "redis_sentinel_master_status", "Whether the Sentinel thinks that the master works.", [*_MASTER, "master_status"]
)
REPLICAS = Gauge("redis_sentinel_master_slaves", "Replicas of the master.", _MASTER)
SENTINELS = Gauge("redis_sentinel_master_sentinels", "Sentinels that watch the master.", _MASTER)
OK_REPLICAS = Gauge("redis_sentinel_master_ok_slaves", "Replicas of the master that are not down.", _MASTER)
OK_SENTINELS = Gauge("redis_sentinel_master_ok_sentinels", "Sentinels of the master that are not down.", _MASTER)
QUORUM = Gauge(
    "redis_sentinel_master_ckquorum_status",
    "Whether enough Sentinels answer to fail the master over.",
    ["master_name", "message"],
)
LAST_PING = Gauge(
    "redis_sentinel_master_last_ok_ping_reply_seconds", "Seconds since the master last answered a ping.", _MASTER
)
PEER = Gauge(
    "redis_sentinel_peer_info",
    "Another Sentinel of the master.",
    [*_MASTER, "name", "ip", "port", "runid", "flags"],
)
#: By field of SENTINEL MASTERS.
SETTINGS = {
    "quorum": Gauge(
        "redis_sentinel_master_setting_ckquorum", "Sentinels that must agree that the master is down.", _MASTER
    ),
    "failover-timeout": Gauge(
        "redis_sentinel_master_setting_failover_timeout", "Time that a failover may take, in milliseconds.", _MASTER
    ),
    "parallel-syncs": Gauge(
        "redis_sentinel_master_setting_parallel_syncs", "Replicas that are set up anew at once in a failover.", _MASTER
    ),
    "down-after-milliseconds": Gauge(
        "redis_sentinel_master_setting_down_after_milliseconds",
        "Time without an answer after which the master counts as down, in milliseconds.",
        _MASTER,
    ),
    "config-epoch": Gauge("redis_sentinel_master_config_epoch", "Version of the master's configuration.", _MASTER),
}
CONFIG_TEXT = Gauge("redis_sentinel_config_key_value", "A global setting of the Sentinel as text.", ["key", "value"])
CONFIG_NUMBER = Gauge("redis_sentinel_config_value", "A global setting of the Sentinel that is a number.", ["key"])

MASTERS = pack("SENTINEL", "MASTERS")
CONFIG = pack("SENTINEL", "CONFIG", "GET", "*")

_MASTER_FIELD = re.compile(r"master[0-9]+")


def info_samples(fields: Mapping[str, str]) -> Iterator[Sample]:
    """The section of INFO: `master0:name=user03,status=sdown,address=10.0.0.1:6381,slaves=1,sentinels=5`."""
    for name, text in fields.items():
        if metric := FIELDS.get(name):
            if (value := figure(text)) is not None:
                yield metric(value)
        elif _MASTER_FIELD.fullmatch(name):
            values = assignments(text)
            replicas, sentinels = figure(values.get("slaves")), figure(values.get("sentinels"))
            if replicas is None or sentinels is None:
                continue
            labels = {"master_name": values.get("name", ""), "master_address": values.get("address", "")}
            status = values.get("status", "")
            yield STATUS(float(status == "ok"), **labels, master_status=status)
            yield REPLICAS(replicas, **labels)
            yield SENTINELS(sentinels, **labels)


def parse_masters(reply: Reply) -> list[dict[str, str]]:
    """The fields of each master (or Sentinel, or replica) in a reply; what has no name is left out."""
    found = []
    for entry in reply if isinstance(reply, list) else ():
        fields = {name: text_of(value) for name, value in mapping_of(entry).items()}
        if fields.get("name"):
            found.append(fields)
    return found


def questions(masters: Sequence[Mapping[str, str]]) -> list[bytes]:
    """Three for each master: its quorum, its other Sentinels, its replicas."""
    return [
        pack("SENTINEL", what, master["name"]) for master in masters for what in ("CKQUORUM", "SENTINELS", "SLAVES")
    ]


def master_samples(masters: Sequence[Mapping[str, str]], answers: Sequence[Reply]) -> Iterator[Sample]:
    """`answers` to the `questions()` about the masters."""
    for number, master in enumerate(masters):
        quorum, sentinels, replicas = answers[3 * number : 3 * number + 3]
        name = master["name"]
        labels = {"master_name": name, "master_address": f"{master.get('ip', '')}:{master.get('port', '')}"}
        if isinstance(quorum, ReplyError):
            if not (quorum.is_denied or quorum.is_unknown):
                yield QUORUM(0, master_name=name, message=quorum.message)
        else:
            yield QUORUM(1, master_name=name, message=text_of(quorum))
        for field, metric in SETTINGS.items():
            if (value := figure(master.get(field))) is not None:
                yield metric(value, **labels)
        if (milliseconds := figure(master.get("last-ok-ping-reply"))) is not None:
            yield LAST_PING(milliseconds / 1000, **labels)
        if isinstance(sentinels, list):
            peers = parse_masters(sentinels)
            yield OK_SENTINELS(1 + _up(peers), **labels)  # the one that is asked is one of them
            for peer in peers:
                yield PEER(1, **labels, **{field: peer.get(field, "") for field in PEER.labels[2:]})
        if isinstance(replicas, list):
            yield OK_REPLICAS(_up(parse_masters(replicas)), **labels)


def _up(others: Sequence[Mapping[str, str]]) -> int:
    return sum("s_down" not in other.get("flags", "") and "o_down" not in other.get("flags", "") for other in others)
