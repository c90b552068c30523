"""The findings of `deckwatch check`: commands, keys and settings that are missing, each with the fix."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from deckwatch.exporter import Finding
from deckwatch_exporters.clients.redis.connection import Connection, ConnectionFailed
from deckwatch_exporters.clients.redis.patterns import escape_pattern
from deckwatch_exporters.clients.redis.resp import ReplyError, pack, text_of

from .config import parse_config
from .info import parse_info, version_of
from .keyspace import Keyspace
from .refusals import Refusals, command_of, fix_for, rule_for
from .server import COMMANDLOG_SINCE
from .values import figure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch_exporters.clients.redis.resp import Reply

    from .info import Info
    from .settings import RedisSettings

#: A name that no key has: the reply only shows whether the command is allowed.
_NO_KEY = "deckwatch:no-such-key"
_NO_MASTER = "deckwatch-no-such-master"


class _Need(NamedTuple):
    command: tuple[str | int, ...]
    what: str  # that is missing without it


def check_access(settings: RedisSettings) -> Iterator[Finding]:
    """Nothing if the server is unreachable, which the collectors report."""
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
        return  # the server returns the same error for other commands
    found = parse_info(text_of(reply))
    user = settings.credentials[0] or "default"
    needs = list(_needs(settings, found))
    replies = connection.exchange([pack(*need.command) for need in needs])
    rules: dict[str, None] = {}
    is_complete = True
    for need, reply in zip(needs, replies, strict=True):
        if not isinstance(reply, ReplyError) or not (reply.is_denied or reply.is_unknown) or reply.is_key_denied:
            continue
        name = _name(need, settings)
        if reply.is_denied:
            rules[rule_for(name)] = None
            yield Finding(
                "missing", f"{user} may not run {name}: no {need.what}", f"ACL SETUSER {user} {rule_for(name)}"
            )
        elif name == "CONFIG GET":
            is_complete = False
            yield Finding("missing", f"the server does not have {name}: no {need.what}", fix_for(name, reply, user))
        else:
            yield Finding("ok", f"the server does not have {name}: no {need.what}")
    if len(rules) > 1:
        yield Finding("missing", "all of these at once", f"ACL SETUSER {user} {' '.join(rules)}")
    elif not rules and is_complete:
        yield Finding("ok", f"{user} may run all {len(needs)} commands that are needed")
    yield from _keys(connection, settings, user)
    if settings.slowlog.events and not found.is_sentinel and settings.config_command != "off":
        yield from _slowlog(connection, settings.config_command)


def _name(need: _Need, settings: RedisSettings) -> str:
    """The command as ACL rules name it, also if CONFIG was renamed."""
    if need.command[0] == settings.config_command:
        return "CONFIG GET"
    return command_of(pack(*need.command))


def _needs(settings: RedisSettings, found: Info) -> Iterator[_Need]:
    yield _Need(("INFO",), "metrics except redis_up")
    if found.is_sentinel:
        yield _Need(("SENTINEL", "MASTERS"), "redis_sentinel_master_*")
        for command in ("CKQUORUM", "SENTINELS", "SLAVES"):
            yield _Need(("SENTINEL", command, _NO_MASTER), "redis_sentinel_master_ok_* and peers")
        if settings.config_values:
            yield _Need(("SENTINEL", "CONFIG", "GET", "*"), "redis_sentinel_config_*")
        return
    if settings.config_command != "off":
        yield _Need(
            (settings.config_command, "GET", "maxclients"), "redis_config_* and redis_db_keys of empty databases"
        )
    yield _Need(("LATENCY", "LATEST"), "redis_latency_spike_*")
    if found.version >= (7,):
        yield _Need(("LATENCY", "HISTOGRAM", "info"), "redis_commands_latencies_usec")
    yield _Need(("SLOWLOG", "LEN"), "redis_slowlog_length")
    yield _Need(("SLOWLOG", "GET", 1), "redis_slowlog_last_id and slow commands")
    if version_of(found.fields.get("valkey_version", "")) >= COMMANDLOG_SINCE:
        yield _Need(("COMMANDLOG", "LEN", "slow"), "redis_commandlog_*_length")
    if found.is_cluster:
        yield _Need(("CLUSTER", "INFO"), "redis_cluster_*")
    if settings.client_list:
        yield _Need(("CLIENT", "LIST"), "redis_connected_client_*")
    if settings.watches_keys:
        yield from _key_needs(settings, found.version)


def _key_needs(settings: RedisSettings, version: tuple[int, ...]) -> Iterator[_Need]:
    yield _Need(("SELECT", 0), "metrics of keys")
    if settings.key_groups or any(one.pattern for one in (*settings.keys, *settings.streams, *settings.count_keys)):
        yield _Need(("SCAN", 0, "COUNT", 1), "metrics of keys by pattern")
    if settings.key_groups or settings.keys:
        yield _Need(("MEMORY", "USAGE", _NO_KEY), "redis_key_memory_usage_bytes")
    if settings.key_groups:
        yield _Need(("DBSIZE",), "redis_key_group_*")
    if settings.keys:
        for command in ("TYPE", "PEXPIRETIME" if version >= (7,) else "PTTL"):
            yield _Need((command, _NO_KEY), "redis_key_expiry_timestamp_seconds")
        for command in ("STRLEN", "LLEN", "SCARD", "ZCARD", "HLEN", "XLEN", "PFCOUNT"):
            yield _Need((command, _NO_KEY), "redis_key_size of one type")
        yield _Need(("GETRANGE", _NO_KEY, 0, 1), "redis_key_value")
    if settings.streams:
        yield _Need(("XINFO", "STREAM", _NO_KEY), "redis_stream_*")
        yield _Need(("XINFO", "GROUPS", _NO_KEY), "redis_stream_group_*")
        yield _Need(("XINFO", "CONSUMERS", _NO_KEY, "none"), "redis_stream_group_consumer_*")
        yield _Need(("XPENDING", _NO_KEY, "none"), "redis_stream_group_oldest_pending_timestamp_seconds")
        yield _Need(
            ("XRANGE", _NO_KEY, "-", "+", "COUNT", 1), "redis_stream_group_oldest_undelivered_timestamp_seconds"
        )


def _keys(connection: Connection, settings: RedisSettings, user: str) -> Iterator[Finding]:
    """Keys that the ACL denies, and what the limits of scans leave out."""
    names = [one.key for one in (*settings.keys, *settings.streams) if one.key]
    patterns = [one.pattern for one in (*settings.keys, *settings.streams) if one.pattern]
    replies = connection.exchange([pack("TYPE", name) for name in names]) if names else []
    hidden = [name for name, reply in zip(names, replies, strict=True) if _is_key_denied(reply)]
    if hidden:
        allow = " ".join(f"~{it}" for it in (*map(escape_pattern, hidden), *patterns))
        yield Finding("missing", f"{user} may not read {', '.join(hidden)}", f"ACL SETUSER {user} {allow}")
    keyspace = Keyspace(connection, settings.scan, connection.address.db, Refusals(connection, None, user))
    for db, keys in keyspace.expand([one for one in (*settings.keys, *settings.streams) if one.pattern]).items():
        refused = keyspace.ask(db, [pack("TYPE", key) for key in keys[:1]])
        if refused and _is_key_denied(refused[0]):
            allow = " ".join(f"~{pattern}" for pattern in patterns)
            yield Finding("missing", f"{user} may not read {', '.join(patterns)}", f"ACL SETUSER {user} {allow}")
    for one in settings.count_keys:
        keyspace.scan(keyspace.db_of(one), one.scan_pattern)
    for limit in keyspace.limits().values():
        yield Finding("missing", limit)


def _is_key_denied(reply: Reply) -> bool:
    return isinstance(reply, ReplyError) and reply.is_key_denied


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
