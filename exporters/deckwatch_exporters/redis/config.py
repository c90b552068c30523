"""CONFIG GET: the server's settings. They rarely change and are read once a minute."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge, Malformed
from deckwatch_exporters.clients.redis.resp import mapping_of, text_of

from .values import figure, measured

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deckwatch.exporter import Metric, Samples
    from deckwatch_exporters.clients.redis.resp import Reply

_CLASS = ("class", "limit")

NUMBERS = {
    "io-threads": Gauge("redis_config_io_threads", "Configured number of I/O threads."),
    "maxclients": Gauge("redis_config_maxclients", "Configured maximum number of connected clients."),
    "maxmemory": Gauge("redis_config_maxmemory", "Configured memory limit, in bytes; 0 means unlimited."),
    "repl-backlog-size": Gauge(
        "redis_config_repl_backlog_size", "Configured size of the replication backlog, in bytes."
    ),
    "commandlog-execution-slower-than": Gauge(
        "redis_commandlog_execution_slower_than",
        "Execution time above which a command is logged as slow, in microseconds; -1 means never.",
    ),
    "commandlog-slow-execution-max-len": Gauge(
        "redis_commandlog_slow_execution_max_len", "Maximum number of entries in the log of slow commands."
    ),
    "commandlog-request-larger-than": Gauge(
        "redis_commandlog_request_larger_than",
        "Request size above which a command is logged as a large request, in bytes; -1 means never.",
    ),
    "commandlog-large-request-max-len": Gauge(
        "redis_commandlog_large_request_max_len", "Maximum number of entries in the log of large requests."
    ),
    "commandlog-reply-larger-than": Gauge(
        "redis_commandlog_reply_larger_than",
        "Reply size above which a command is logged as a large reply, in bytes; -1 means never.",
    ),
    "commandlog-large-reply-max-len": Gauge(
        "redis_commandlog_large_reply_max_len", "Maximum number of entries in the log of large replies."
    ),
}
BUFFER_LIMIT = Gauge(
    "redis_config_client_output_buffer_limit_bytes",
    "Configured limit on the output buffer of a client class, in bytes; 0 means unlimited.",
    _CLASS,
)
BUFFER_SECONDS = Gauge(
    "redis_config_client_output_buffer_limit_overcome_seconds",
    "Time for which a client may exceed the soft limit on its output buffer, in seconds.",
    _CLASS,
)
KEY_VALUE = Gauge("redis_config_key_value", "A server setting, its value as a label.", ["key", "value"])
VALUE = Gauge("redis_config_value", "A numeric server setting.", ["key"])

#: The endings of the names of settings that hold a password, in every version.
_SECRET_ENDINGS = ("pass", "auth", "password", "secret")


def parse_config(reply: Reply) -> dict[str, str]:
    return {key: text_of(value) for key, value in mapping_of(reply).items()}


def config_samples(config: Mapping[str, str], with_values: bool) -> Samples:
    """The settings that have metrics; `with_values`: also every setting except passwords."""
    if not config:
        yield Malformed("CONFIG GET", "")
    for key, metric in NUMBERS.items():
        yield from measured(metric, f"CONFIG GET: {key}", config.get(key))
    yield from _buffer_limits(config.get("client-output-buffer-limit", ""))
    if with_values:
        yield from value_samples(config)


def value_samples(config: Mapping[str, str], as_text: Metric = KEY_VALUE, as_number: Metric = VALUE) -> Samples:
    shown = {key: value for key, value in config.items() if not key.lower().endswith(_SECRET_ENDINGS)}
    for key, value in shown.items():
        yield as_text(1, key=key, value=value)
    for key, value in shown.items():
        if value[:1] in "-0123456789" and (number := figure(value)) is not None:
            yield as_number(number, key=key)


def _buffer_limits(text: str) -> Samples:
    """`normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60`: class, hard, soft, seconds."""
    words = text.split()
    what = "CONFIG GET: client-output-buffer-limit"
    for name, *limits in zip(words[::4], words[1::4], words[2::4], words[3::4], strict=False):
        hard, soft, seconds = limits
        yield from measured(BUFFER_LIMIT, what, hard, **{"class": name, "limit": "hard"})
        yield from measured(BUFFER_LIMIT, what, soft, **{"class": name, "limit": "soft"})
        yield from measured(BUFFER_SECONDS, what, seconds, **{"class": name, "limit": "soft"})
    if len(words) % 4:
        yield Malformed(what, text)


def database_count(config: Mapping[str, str]) -> int:
    """The number of databases; 1 if the server does not report it, since the first one always exists."""
    text = config.get("databases", "")
    return int(text) if text.isdecimal() and len(text) < 10 else 1
