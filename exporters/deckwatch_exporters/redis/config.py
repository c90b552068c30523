"""CONFIG GET: the settings of the server. They change seldom, so that they are asked for once a minute."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge
from deckwatch_exporters.clients.redis.resp import mapping_of, text_of

from .info import figure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from deckwatch.exporter import Metric, Sample
    from deckwatch_exporters.clients.redis.resp import Reply

_CLASS = ("class", "limit")

NUMBERS = {
    "io-threads": Gauge("redis_config_io_threads", "Threads for I/O that are set."),
    "maxclients": Gauge("redis_config_maxclients", "Limit on clients that is set."),
    "maxmemory": Gauge("redis_config_maxmemory", "Limit on the memory for data that is set, in bytes; 0 is none."),
    "repl-backlog-size": Gauge("redis_config_repl_backlog_size", "Size of the replication backlog, in bytes."),
    "commandlog-execution-slower-than": Gauge(
        "redis_commandlog_execution_slower_than", "Commands above this many microseconds go to the log of slow ones."
    ),
    "commandlog-slow-execution-max-len": Gauge(
        "redis_commandlog_slow_execution_max_len", "Limit on entries in the log of slow commands."
    ),
    "commandlog-request-larger-than": Gauge(
        "redis_commandlog_request_larger_than", "Requests above this many bytes go to the log of large ones."
    ),
    "commandlog-large-request-max-len": Gauge(
        "redis_commandlog_large_request_max_len", "Limit on entries in the log of large requests."
    ),
    "commandlog-reply-larger-than": Gauge(
        "redis_commandlog_reply_larger_than", "Replies above this many bytes go to the log of large ones."
    ),
    "commandlog-large-reply-max-len": Gauge(
        "redis_commandlog_large_reply_max_len", "Limit on entries in the log of large replies."
    ),
}
BUFFER_LIMIT = Gauge(
    "redis_config_client_output_buffer_limit_bytes", "Limit on the output buffer by class of client, in bytes.", _CLASS
)
BUFFER_SECONDS = Gauge(
    "redis_config_client_output_buffer_limit_overcome_seconds",
    "Seconds for which the soft limit on the output buffer may be exceeded, by class of client.",
    _CLASS,
)
KEY_VALUE = Gauge("redis_config_key_value", "A setting as text.", ["key", "value"])
VALUE = Gauge("redis_config_value", "A setting that is a number.", ["key"])

#: What ends so is a password, whichever version brought it.
_SECRET_ENDINGS = ("pass", "auth", "password", "secret")


def parse_config(reply: Reply) -> dict[str, str]:
    return {key: text_of(value) for key, value in mapping_of(reply).items()}


def config_samples(config: Mapping[str, str], with_values: bool) -> Iterator[Sample]:
    """`with_values`: every setting, too, but for passwords."""
    for key, metric in NUMBERS.items():
        if (value := figure(config.get(key))) is not None:
            yield metric(value)
    yield from _buffer_limits(config.get("client-output-buffer-limit", ""))
    if with_values:
        yield from value_samples(config)


def value_samples(
    config: Mapping[str, str], as_text: Metric = KEY_VALUE, as_number: Metric = VALUE
) -> Iterator[Sample]:
    shown = {key: value for key, value in config.items() if not key.lower().endswith(_SECRET_ENDINGS)}
    for key, value in shown.items():
        yield as_text(1, key=key, value=value)
    for key, value in shown.items():
        if value[:1] in "-0123456789" and (number := figure(value)) is not None:
            yield as_number(number, key=key)


def _buffer_limits(text: str) -> Iterator[Sample]:
    """`normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60`: class, hard, soft, seconds."""
    words = text.split()
    for name, *limits in zip(words[::4], words[1::4], words[2::4], words[3::4], strict=False):
        hard, soft, seconds = (figure(limit) for limit in limits)
        if hard is not None:
            yield BUFFER_LIMIT(hard, **{"class": name, "limit": "hard"})
        if soft is not None:
            yield BUFFER_LIMIT(soft, **{"class": name, "limit": "soft"})
        if seconds is not None:
            yield BUFFER_SECONDS(seconds, **{"class": name, "limit": "soft"})


def database_count(config: Mapping[str, str]) -> int:
    """How many databases the server has. Where it does not tell, the first one is all that is known to exist."""
    text = config.get("databases", "")
    return int(text) if text.isdecimal() and len(text) < 10 else 1
