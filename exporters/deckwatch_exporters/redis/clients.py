"""CLIENT LIST: each connected client, where the config asks for it (https://redis.io/docs/latest/commands/client-list/)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge
from deckwatch_exporters.clients.redis.connection import CLIENT_NAME

from .info import figure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Sample

_CLIENT = ("id", "name")

INFO = Gauge(
    "redis_connected_client_info", "A connected client.", ["id", "name", "flags", "db", "host", "user", "resp"]
)
CREATED = Gauge("redis_connected_client_created_at_timestamp", "When the client connected, in Unix seconds.", _CLIENT)
IDLE_SINCE = Gauge(
    "redis_connected_client_idle_since_timestamp", "When the client's last command was, in Unix seconds.", _CLIENT
)
#: By field of CLIENT LIST.
FIGURES = {
    "omem": Gauge(
        "redis_connected_client_output_buffer_memory_usage_bytes", "Memory of the client's output, in bytes.", _CLIENT
    ),
    "tot-mem": Gauge(
        "redis_connected_client_total_memory_consumed_bytes",
        "Memory of all the client's buffers, in bytes.",
        _CLIENT,
    ),
    "sub": Gauge("redis_connected_client_channel_subscriptions_count", "Channels that the client listens to.", _CLIENT),
    "psub": Gauge(
        "redis_connected_client_pattern_matching_subscriptions_count", "Patterns that the client listens to.", _CLIENT
    ),
    "qbuf": Gauge("redis_connected_client_query_buffer_length_bytes", "Bytes in the client's query buffer.", _CLIENT),
    "qbuf-free": Gauge(
        "redis_connected_client_query_buffer_free_space_bytes", "Free bytes in the client's query buffer.", _CLIENT
    ),
    "obl": Gauge("redis_connected_client_output_buffer_length_bytes", "Bytes in the client's output buffer.", _CLIENT),
    "oll": Gauge("redis_connected_client_output_list_length", "Replies in the client's output list.", _CLIENT),
    "ssub": Gauge(
        "redis_connected_client_shard_channel_subscriptions_count",
        "Shard channels it listens to.",
        _CLIENT,
    ),
    "watch": Gauge(
        "redis_connected_client_shard_channel_watched_keys", "Keys that the client watches with WATCH.", _CLIENT
    ),
}


def parse_clients(text: str) -> list[dict[str, str]]:
    """The fields of each client, `id=11 addr=127.0.0.1:63508 name= age=6321 ...`; a line without an id is none."""
    clients = []
    for line in text.splitlines():
        fields = dict(word.partition("=")[::2] for word in line.split(" ") if "=" in word)
        if fields.get("id"):
            clients.append(fields)
    return clients


def client_samples(text: str, now: float) -> Iterator[Sample]:
    """Of every client but ourselves."""
    for client in parse_clients(text):
        if client.get("name") == CLIENT_NAME:
            continue
        host, _, _port = client.get("addr", "").rpartition(":")
        labels = {"id": client["id"], "name": client.get("name", "")}
        yield INFO(
            1,
            **labels,
            flags=client.get("flags", ""),
            db=client.get("db", ""),
            host=host,
            user=client.get("user", ""),
            resp=client.get("resp", ""),
        )
        for field, metric in (("age", CREATED), ("idle", IDLE_SINCE)):
            if (seconds := figure(client.get(field))) is not None:
                yield metric(int(now) - seconds, **labels)
        for field, metric in FIGURES.items():
            if (value := figure(client.get(field))) is not None:
                yield metric(value, **labels)
