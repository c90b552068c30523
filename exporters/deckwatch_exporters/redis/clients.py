"""CLIENT LIST: each connected client, if `client_list` is set (https://redis.io/docs/latest/commands/client-list/)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge, Malformed
from deckwatch_exporters.clients.redis.connection import CLIENT_NAME

from .values import figure, measured

if TYPE_CHECKING:
    from deckwatch.exporter import Samples

_CLIENT = ("id", "name")

INFO = Gauge(
    "redis_connected_client_info",
    "Information about a connected client.",
    ["id", "name", "flags", "db", "host", "user", "resp"],
)
CREATED = Gauge(
    "redis_connected_client_created_at_timestamp", "Time at which the client connected, in Unix seconds.", _CLIENT
)
IDLE_SINCE = Gauge(
    "redis_connected_client_idle_since_timestamp", "Time of the client's last command, in Unix seconds.", _CLIENT
)
#: By field of CLIENT LIST.
FIGURES = {
    "omem": Gauge(
        "redis_connected_client_output_buffer_memory_usage_bytes",
        "Memory used by the client's output buffer, in bytes.",
        _CLIENT,
    ),
    "tot-mem": Gauge(
        "redis_connected_client_total_memory_consumed_bytes",
        "Memory used by all buffers of the client, in bytes.",
        _CLIENT,
    ),
    "sub": Gauge(
        "redis_connected_client_channel_subscriptions_count", "Number of the client's channel subscriptions.", _CLIENT
    ),
    "psub": Gauge(
        "redis_connected_client_pattern_matching_subscriptions_count",
        "Number of the client's pattern subscriptions.",
        _CLIENT,
    ),
    "qbuf": Gauge(
        "redis_connected_client_query_buffer_length_bytes", "Length of the client's query buffer, in bytes.", _CLIENT
    ),
    "qbuf-free": Gauge(
        "redis_connected_client_query_buffer_free_space_bytes",
        "Free space in the client's query buffer, in bytes.",
        _CLIENT,
    ),
    "obl": Gauge(
        "redis_connected_client_output_buffer_length_bytes", "Length of the client's output buffer, in bytes.", _CLIENT
    ),
    "oll": Gauge(
        "redis_connected_client_output_list_length", "Number of replies in the client's output list.", _CLIENT
    ),
    "ssub": Gauge(
        "redis_connected_client_shard_channel_subscriptions_count",
        "Number of the client's shard channel subscriptions.",
        _CLIENT,
    ),
    "watch": Gauge(
        "redis_connected_client_shard_channel_watched_keys",
        "Number of keys that the client watches with WATCH.",
        _CLIENT,
    ),
}


def client_samples(text: str, now: float) -> Samples:
    """The samples of every client except the agent's own connections.

    A line is `id=11 addr=127.0.0.1:63508 name= age=6321 ...`.
    """
    for line in text.splitlines():
        client = dict(word.partition("=")[::2] for word in line.split(" ") if "=" in word)
        id, name = client.get("id"), client.get("name", "")
        if name == CLIENT_NAME:
            continue
        if not id:
            if line:
                yield Malformed("CLIENT LIST", line)
            continue
        labels = {"id": id, "name": name}
        host, _, _port = client.get("addr", "").rpartition(":")
        info = {field: client.get(field, "") for field in ("flags", "db", "user", "resp")}
        yield INFO(1, **labels, host=host, **info)
        for field, metric in (("age", CREATED), ("idle", IDLE_SINCE)):
            seconds = figure(client.get(field))
            if seconds is not None and seconds >= 0:
                yield metric(int(now) - seconds, **labels)
            elif field in client:
                yield Malformed(f"CLIENT LIST: {id}: {field}", client[field])
        for field, metric in FIGURES.items():
            yield from measured(metric, f"CLIENT LIST: {id}: {field}", client.get(field), **labels)
