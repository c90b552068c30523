"""What `deckwatch check` finds: commands that the server's ACL forbids, and the grant that mends each."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from deckwatch.exporter import Finding
from deckwatch_exporters.clients.redis.connection import Connection, ConnectionFailed
from deckwatch_exporters.clients.redis.resp import ReplyError, pack, text_of

from .config import parse_config
from .info import parse_info
from .values import figure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch_exporters.clients.redis.resp import Reply

    from .settings import RedisSettings

#: A name that no key has: what is asked about it tells whether the command is allowed, and nothing else.
_NO_KEY = "deckwatch:no-such-key"


class _Need(NamedTuple):
    command: tuple[str | int, ...]
    grant: str  # as ACL SETUSER takes it
    what: str  # that is missing without it


def check_access(settings: RedisSettings) -> Iterator[Finding]:
    """Nothing where the server does not answer: that it does not, the probes say."""
    connection = Connection(settings)
    try:
        yield from _findings(connection, settings)
    except ConnectionFailed:
        return
    finally:
        connection.close()


def _findings(connection: Connection, settings: RedisSettings) -> Iterator[Finding]:
    (reply,) = connection.exchange([pack("INFO")])
    if isinstance(reply, ReplyError) and reply.is_transient:
        return  # the server answers other commands with the same error
    found = parse_info(text_of(reply))
    user = settings.credentials[0] or "default"
    needs = list(_needs(settings, found.is_sentinel, found.is_cluster, found.version))
    replies = connection.exchange([pack(*need.command) for need in needs])
    denied = [need for need, reply in zip(needs, replies, strict=True) if _is_denied(reply)]
    if denied:
        for need in denied:
            name = " ".join(map(str, need.command[: 2 if "|" in need.grant else 1])).upper()
            yield Finding("missing", f"{user} may not run {name}: no {need.what}", f"ACL SETUSER {user} {need.grant}")
        if len(denied) > 1:
            grants = " ".join(dict.fromkeys(need.grant for need in denied))
            yield Finding("missing", "all of these at once", f"ACL SETUSER {user} {grants}")
    else:
        yield Finding("ok", f"{user} may run all {len(needs)} commands that are needed")
    yield from _keys(connection, settings, user)
    if settings.slowlog.events and not found.is_sentinel and settings.config_command != "off":
        yield from _slowlog(connection, settings.config_command)


def _needs(settings: RedisSettings, is_sentinel: bool, is_cluster: bool, version: tuple[int, ...]) -> Iterator[_Need]:
    yield _Need(("INFO",), "+info", "figures but redis_up")
    if is_sentinel:
        yield _Need(("SENTINEL", "MASTERS"), "+sentinel|masters", "masters")
        for command in ("ckquorum", "sentinels", "slaves"):
            yield _Need(("SENTINEL", command, "deckwatch-no-such-master"), f"+sentinel|{command}", "state of masters")
        return
    if settings.config_command != "off":
        yield _Need((settings.config_command, "GET", "maxclients"), "+config|get", "redis_config_* and empty databases")
    yield _Need(("LATENCY", "LATEST"), "+latency|latest", "redis_latency_spike_*")
    if version >= (7,):
        yield _Need(("LATENCY", "HISTOGRAM", "info"), "+latency|histogram", "redis_commands_latencies_usec")
    yield _Need(("SLOWLOG", "LEN"), "+slowlog|len", "redis_slowlog_length")
    yield _Need(("SLOWLOG", "GET", 1), "+slowlog|get", "slow commands")
    if is_cluster:
        yield _Need(("CLUSTER", "INFO"), "+cluster|info", "redis_cluster_*")
    if settings.client_list:
        yield _Need(("CLIENT", "LIST"), "+client|list", "redis_connected_client_*")
    if settings.watches_keys:
        yield from _key_needs(settings, version)


def _key_needs(settings: RedisSettings, version: tuple[int, ...]) -> Iterator[_Need]:
    yield _Need(("SELECT", 0), "+select", "figures of keys")
    if settings.key_groups or any(one.pattern for one in (*settings.keys, *settings.streams, *settings.count_keys)):
        yield _Need(("SCAN", 0, "COUNT", 1), "+scan", "keys by pattern")
    if settings.key_groups or settings.keys:
        yield _Need(("MEMORY", "USAGE", _NO_KEY), "+memory|usage", "redis_key_memory_usage_bytes")
    if settings.key_groups:
        yield _Need(("DBSIZE",), "+dbsize", "redis_key_group_*")
    if settings.keys:
        expiry = "pexpiretime" if version >= (7,) else "pttl"
        for command in ("type", expiry, "strlen", "llen", "scard", "zcard", "hlen", "xlen", "pfcount"):
            yield _Need((command.upper(), _NO_KEY), f"+{command}", "size, value or expiry of keys")
        yield _Need(("GETRANGE", _NO_KEY, 0, 1), "+getrange", "redis_key_value")
    if settings.streams:
        yield _Need(("XINFO", "STREAM", _NO_KEY), "+xinfo|stream", "redis_stream_*")
        yield _Need(("XINFO", "GROUPS", _NO_KEY), "+xinfo|groups", "redis_stream_group_*")
        yield _Need(("XINFO", "CONSUMERS", _NO_KEY, "none"), "+xinfo|consumers", "redis_stream_group_consumer_*")
        yield _Need(("XPENDING", _NO_KEY, "none"), "+xpending", "age of pending entries")
        yield _Need(("XRANGE", _NO_KEY, "-", "+", "COUNT", 1), "+xrange", "age of undelivered entries")


def _is_denied(reply: Reply) -> bool:
    """Whether the command is forbidden; that a key is, the keys' own check says."""
    return isinstance(reply, ReplyError) and reply.is_denied and " key" not in reply.message


def _keys(connection: Connection, settings: RedisSettings, user: str) -> Iterator[Finding]:
    """Keys that the ACL hides."""
    names = [one.key for one in (*settings.keys, *settings.streams) if one.key]
    patterns = [one.pattern for one in (*settings.keys, *settings.streams) if one.pattern]
    replies = connection.exchange([pack("TYPE", name) for name in names]) if names else []
    hidden = [
        name
        for name, reply in zip(names, replies, strict=True)
        if isinstance(reply, ReplyError) and reply.is_denied and " key" in reply.message
    ]
    if hidden:
        allow = " ".join(f"~{name}" for name in (*hidden, *patterns))
        yield Finding("missing", f"{user} may not read {', '.join(hidden)}", f"ACL SETUSER {user} {allow}")


def _slowlog(connection: Connection, command: str) -> Iterator[Finding]:
    threshold, length = connection.exchange(
        [pack(command, "GET", "slowlog-log-slower-than"), pack(command, "GET", "slowlog-max-len")]
    )
    if isinstance(threshold, ReplyError) or isinstance(length, ReplyError):
        return
    microseconds = figure(parse_config(threshold).get("slowlog-log-slower-than"))
    if microseconds is not None and microseconds < 0:
        yield Finding("missing", "the slow log is off: no slow commands", "CONFIG SET slowlog-log-slower-than 10000")
    if figure(parse_config(length).get("slowlog-max-len")) == 0:
        yield Finding("missing", "the slow log holds no entries: no slow commands", "CONFIG SET slowlog-max-len 128")
