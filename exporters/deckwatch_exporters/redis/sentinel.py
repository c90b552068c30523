"""Sentinel as the target: the masters that it monitors, and whether it could fail them over."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge, Malformed
from deckwatch_exporters.clients.redis.resp import ReplyError, mapping_of, pack, text_of

from .values import assignments, measured, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deckwatch.exporter import Samples
    from deckwatch_exporters.clients.redis.resp import Reply

_MASTER = ("master_name", "master_address")

FIELDS = {
    "sentinel_masters": Gauge("redis_sentinel_masters", "Number of masters that the Sentinel monitors."),
    "sentinel_tilt": Gauge(
        "redis_sentinel_tilt", "Whether the Sentinel is in TILT mode (1), in which it does not act."
    ),
    "sentinel_running_scripts": Gauge("redis_sentinel_running_scripts", "Number of running scripts."),
    "sentinel_scripts_queue_length": Gauge(
        "redis_sentinel_scripts_queue_length", "Number of scripts that are waiting to run."
    ),
    "sentinel_simulate_failure_flags": Gauge(
        "redis_sentinel_simulate_failure_flags", "Failures that the Sentinel is configured to simulate, as flags."
    ),
}
STATUS = Gauge(
    "redis_sentinel_master_status",
    "Whether the Sentinel considers the master healthy (1).",
    [*_MASTER, "master_status"],
)
REPLICAS = Gauge("redis_sentinel_master_slaves", "Number of replicas of the master.", _MASTER)
SENTINELS = Gauge("redis_sentinel_master_sentinels", "Number of Sentinels that monitor the master.", _MASTER)
OK_REPLICAS = Gauge("redis_sentinel_master_ok_slaves", "Number of replicas of the master that are up.", _MASTER)
OK_SENTINELS = Gauge("redis_sentinel_master_ok_sentinels", "Number of Sentinels of the master that are up.", _MASTER)
QUORUM = Gauge(
    "redis_sentinel_master_ckquorum_status",
    "Whether enough Sentinels are reachable to fail the master over.",
    ["master_name", "message"],
)
LAST_PING = Gauge(
    "redis_sentinel_master_last_ok_ping_reply_seconds",
    "Time since the master last replied to a PING, in seconds.",
    _MASTER,
)
PEER = Gauge(
    "redis_sentinel_peer_info",
    "Information about another Sentinel of the master.",
    [*_MASTER, "name", "ip", "port", "runid", "flags"],
)
#: By field of SENTINEL MASTERS.
SETTINGS = {
    "quorum": Gauge(
        "redis_sentinel_master_setting_ckquorum",
        "Number of Sentinels that must agree that the master is down.",
        _MASTER,
    ),
    "failover-timeout": Gauge(
        "redis_sentinel_master_setting_failover_timeout", "Failover timeout, in milliseconds.", _MASTER
    ),
    "parallel-syncs": Gauge(
        "redis_sentinel_master_setting_parallel_syncs",
        "Number of replicas that may resynchronize at the same time during a failover.",
        _MASTER,
    ),
    "down-after-milliseconds": Gauge(
        "redis_sentinel_master_setting_down_after_milliseconds",
        "Time without a reply after which the master is considered down, in milliseconds.",
        _MASTER,
    ),
    "config-epoch": Gauge("redis_sentinel_master_config_epoch", "Version of the configuration of the master.", _MASTER),
}
CONFIG_TEXT = Gauge(
    "redis_sentinel_config_key_value", "A global setting of the Sentinel, its value as a label.", ["key", "value"]
)
CONFIG_NUMBER = Gauge("redis_sentinel_config_value", "A numeric global setting of the Sentinel.", ["key"])

MASTERS = pack("SENTINEL", "MASTERS")
CONFIG = pack("SENTINEL", "CONFIG", "GET", "*")

#: About each master.
QUESTIONS = ("SENTINEL CKQUORUM", "SENTINEL SENTINELS", "SENTINEL SLAVES")

_MASTER_FIELD = re.compile(r"master[0-9]+")


def info_samples(fields: Mapping[str, str]) -> Samples:
    """INFO sentinel: `master0:name=user03,status=sdown,address=10.0.0.1:6381,slaves=1,sentinels=5`."""
    for name, text in fields.items():
        if metric := FIELDS.get(name):
            yield from measured(metric, f"INFO: {name}", text)
        elif _MASTER_FIELD.fullmatch(name):
            values = assignments(text)
            if not values.get("name"):
                yield Malformed(f"INFO: {name}", text)
                continue
            labels = {"master_name": values["name"], "master_address": values.get("address", "")}
            if status := values.get("status"):
                yield STATUS(float(status == "ok"), **labels, master_status=status)
            else:
                yield Malformed(f"INFO: {name}: status", text)
            yield from measured(REPLICAS, f"INFO: {name}: slaves", values.get("slaves"), **labels)
            yield from measured(SENTINELS, f"INFO: {name}: sentinels", values.get("sentinels"), **labels)


def parse_masters(reply: Reply) -> list[dict[str, str]]:
    """The fields of each master, Sentinel or replica in a reply; without those that have no name."""
    found = []
    for entry in reply if isinstance(reply, list) else ():
        fields = {name: text_of(value) for name, value in mapping_of(entry).items()}
        if fields.get("name"):
            found.append(fields)
    return found


def questions(masters: Sequence[Mapping[str, str]]) -> list[bytes]:
    """The commands of `QUESTIONS` for each master."""
    return [pack(*question.split(), master["name"]) for master in masters for question in QUESTIONS]


def master_samples(masters: Sequence[Mapping[str, str]], answers: Sequence[Reply]) -> Samples:
    """`answers` are the replies to the `questions()` about the masters."""
    for number, master in enumerate(masters):
        quorum, sentinels, replicas = answers[3 * number : 3 * number + 3]
        name = master["name"]
        what = f"SENTINEL MASTERS: {name}"
        labels = {"master_name": name, "master_address": f"{master.get('ip', '')}:{master.get('port', '')}"}
        if isinstance(quorum, ReplyError):
            if not (quorum.is_denied or quorum.is_unknown):
                yield QUORUM(0, master_name=name, message=quorum.message)
        elif isinstance(quorum, bytes):
            yield QUORUM(1, master_name=name, message=text_of(quorum))
        else:
            yield Malformed(f"SENTINEL CKQUORUM {name}", shown(quorum))
        for field, metric in SETTINGS.items():
            yield from measured(metric, f"{what}: {field}", master.get(field), **labels)
        yield from measured(LAST_PING, f"{what}: last-ok-ping-reply", master.get("last-ok-ping-reply"), 1000, **labels)
        peers, others = parse_masters(sentinels), parse_masters(replicas)
        for question, reply, found in zip(QUESTIONS[1:], (sentinels, replicas), (peers, others), strict=True):
            is_malformed = len(reply) != len(found) if isinstance(reply, list) else reply is not None
            if is_malformed and not isinstance(reply, ReplyError):
                yield Malformed(f"{question} {name}", shown(reply))
        if isinstance(sentinels, list):
            yield OK_SENTINELS(1 + _up(peers), **labels)  # the Sentinel that replies is one of them
            for peer in peers:
                yield PEER(1, **labels, **{field: peer.get(field, "") for field in PEER.labels[2:]})
        if isinstance(replicas, list):
            yield OK_REPLICAS(_up(others), **labels)


def _up(others: Sequence[Mapping[str, str]]) -> int:
    return sum("s_down" not in other.get("flags", "") and "o_down" not in other.get("flags", "") for other in others)
