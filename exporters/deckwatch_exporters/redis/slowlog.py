"""The slow log: its new entries as events, and a histogram of them.

Format: https://redis.io/docs/latest/commands/slowlog-get/. IDs count from 0 at the start of the server and continue
after SLOWLOG RESET. The server's `slowlog-log-slower-than` decides what is slow.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_left
from datetime import UTC, datetime
from itertools import accumulate
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.exporter import Counter, Histogram, Malformed, Missing, NotAvailable, Unreachable
from deckwatch_exporters.clients.redis.connection import CLIENT_NAME, ConnectionFailed
from deckwatch_exporters.clients.redis.resp import ReplyError, pack, text_of

from .refusals import REFUSED_FOR, rule_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from deckwatch.exporter import Context, Sample, Samples
    from deckwatch_exporters.clients.redis.connection import Connection
    from deckwatch_exporters.clients.redis.resp import Reply

    from .facts import Facts
    from .settings import RedisSettings

SLOW = Histogram(
    "redis_slow_command_duration_seconds",
    "Duration of the commands that entered the slow log since the agent started, in seconds.",
    ["command"],
)
MISSED = Counter(
    "redis_slow_commands_missed_total", "Number of slow log entries that the server dropped before the agent read them."
)
MERGED = Counter(
    "redis_slow_commands_other_total", "Number of slow commands counted as other because too many names were seen."
)

_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_MAX_COMMANDS = 64
_OTHER = "other"
_LATEST = 253_402_300_799  # the end of 9999, which is the last time that has a date
_SLACK = 8

#: Commands with subcommands: `config|get` identifies what ran, `config` does not.
_CONTAINERS = frozenset(
    re.findall(
        r"\w+",
        """
        acl client cluster command config debug function latency memory module object pubsub script sentinel
        slowlog xgroup xinfo
        """,
    )
)
#: Commands with arguments that can be passwords: never shown.
_WITH_SECRETS = frozenset(("acl", "auth", "config", "hello", "migrate", "sentinel"))
#: Commands with a key as their first argument. A missing name hides a key; a wrong one would show a value.
_KEY_FIRST = frozenset(
    re.findall(
        r"\w+",
        """
        append bitcount bitfield bitfield_ro bitpos blpop brpop decr decrby del dump exists expire expireat
        expiretime geoadd geodist geohash geopos georadius georadius_ro georadiusbymember geosearch get getbit
        getdel getex getrange getset hdel hexists hexpire hget hgetall hgetdel hgetex hincrby hincrbyfloat
        hkeys hlen hmget hmset hpersist hpexpire hrandfield hscan hset hsetex hsetnx hstrlen httl hvals incr
        incrby incrbyfloat lindex linsert llen lpop lpos lpush lpushx lrange lrem lset ltrim mget mset msetnx
        persist pexpire pexpireat pexpiretime pfadd pfcount psetex pttl rename renamenx restore rpop rpush
        rpushx sadd scard sdiff sdiffstore set setbit setex setnx setrange sinter sinterstore sismember
        smembers smismember sort sort_ro spop srandmember srem sscan strlen sunion sunionstore touch ttl type
        unlink watch xack xadd xautoclaim xclaim xdel xlen xpending xrange xrevrange xtrim zadd zcard zcount
        zincrby zlexcount zmscore zpopmax zpopmin zrandmember zrange zrangebylex zrangebyscore zrangestore
        zrank zrem zremrangebylex zremrangebyrank zremrangebyscore zrevrange zrevrangebylex zrevrangebyscore
        zrevrank zscan zscore
        """,
    )
)
_MORE = re.compile(r"\.\.\. \(([0-9]{1,9}) more arguments\)")


class SlowCommand(NamedTuple):
    """An entry of the slow log. `words` is the command as sent, cut by the server to 32 words of 128 bytes."""

    id: int
    timestamp: int  # Unix seconds
    duration: float  # seconds
    words: tuple[str, ...]
    client_address: str
    client_name: str

    @property
    def command(self) -> str:
        """The name in commandstats: `get`, `config|set`."""
        first = self.words[0].lower() if self.words else ""
        if first in _CONTAINERS and len(self.words) > 1:
            return f"{first}|{self.words[1].lower()}"
        return first

    @property
    def argument_count(self) -> int:
        arguments = self.words[1:]
        cut = _MORE.fullmatch(arguments[-1]) if arguments else None
        return len(arguments) - 1 + int(cut[1]) if cut else len(arguments)

    def arguments(self, redact: bool, first_key: bool) -> list[str]:
        """The arguments, `?` for each hidden one."""
        arguments = list(self.words[1:])
        name = self.words[0].lower() if self.words else ""
        if not redact and name not in _WITH_SECRETS:
            return arguments
        shown = 1 if first_key and name in _KEY_FIRST else 0
        cut = arguments[-1:] if arguments and _MORE.fullmatch(arguments[-1]) else []
        hidden = len(arguments) - len(cut) - shown
        return arguments[:shown] + ["?"] * hidden + cut


def parse_slowlog(reply: Reply) -> list[SlowCommand | Malformed]:
    """The entries of a reply to SLOWLOG GET, newest first."""
    if not isinstance(reply, list):
        return [Malformed("SLOWLOG GET", type(reply).__name__)]
    found: list[SlowCommand | Malformed] = []
    for entry in reply:
        match entry:
            case [int(id), int(timestamp), int(microseconds), [*words], *client] if (
                microseconds >= 0 and 0 <= timestamp <= _LATEST
            ):
                address, name = (text_of(client[0]), text_of(client[1])) if len(client) >= 2 else ("", "")
                texts = tuple(text_of(word) for word in words)
                found.append(SlowCommand(id, timestamp, microseconds / 1e6, texts, address, name))
            case _:
                found.append(malformed_entry(entry))
    return found


def malformed_entry(entry: Reply) -> Malformed:
    """An entry without its words, which can be passwords."""
    numbers = [it for it in entry if isinstance(it, int)] if isinstance(entry, list) else []
    return Malformed("SLOWLOG GET", f"{type(entry).__name__} with the numbers {numbers}")


class _Refused(NamedTuple):
    """A refusal, the connection that it belongs to (another one may have other privileges), and its end."""

    reply: ReplyError
    generation: int
    until: float  # by the stopwatch


class SlowLog:
    """Follows the slow log of one server. Entries from before the start of the agent are ignored."""

    def __init__(
        self,
        connection: Connection,
        facts: Facts,
        settings: RedisSettings,
        context: Context,
        clock: Callable[[], float] = time.time,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stopwatch = stopwatch
        self._refused: _Refused | None = None
        self._connection = connection
        self._facts = facts
        self._settings = settings.slowlog
        self._user = settings.credentials[0] or "default"
        self._context = context
        self._clock = clock
        self._run_id: str | None = None
        self._last_id: int | None = None
        self._looked = 0.0  # Unix seconds, by the server's clock: older entries were read or ignored
        self._missed = 0
        self._is_missing = False  # whether the last run missed entries
        self._merged = 0
        self._durations: dict[str, list[float]] = {}  # counts by bucket, then the sum
        self._samples: dict[str, tuple[Sample, ...]] = {}  # of commands that did not change since the last run

    def collect(self) -> Samples:
        for entry in self._new_entries():
            self.count(entry)
            self._log(entry)
        yield from self._malformed
        yield MISSED(self._missed)
        yield MERGED(self._merged)
        for command, (*counts, total) in self._durations.items():
            known = self._samples.get(command)
            if known is None:
                buckets = dict(zip((*_BOUNDS, inf), accumulate(counts), strict=True))
                known = self._samples[command] = tuple(SLOW.cumulative(buckets, total, command=command))
            yield from known

    def _new_entries(self) -> list[SlowCommand]:
        """Oldest first. Raises Unreachable, Missing, and NotAvailable if the server has no slow log."""
        self._malformed: list[Malformed] = []
        facts, newest = self._facts, self._facts.newest_slow_id
        last, looked, is_same = self._last_id, self._looked, self._run_id == facts.run_id
        now = facts.server_time or self._clock()
        if newest is not None and (last is None or newest < 0 or (is_same and newest == last)):
            entries, at = [], newest  # nothing new
        else:
            entries = self._fetch_since(last, newest) if is_same else self._fetch(self._settings.fetch)
            at = entries[0].id if entries else -1
        self._run_id, self._last_id, self._looked = facts.run_id, at, now
        if last is None or not entries:
            return []
        if is_same and at >= last:
            fresh = [entry for entry in entries if entry.id > last]
            self._note_missed(at - last - len(fresh) - len(self._malformed))
        else:
            # Another server, or the same one after a restart: IDs start again, so compare times.
            fresh = [entry for entry in entries if entry.timestamp >= int(looked)]
        return [entry for entry in reversed(fresh) if entry.client_name != CLIENT_NAME]

    def _fetch_since(self, last: int | None, newest: int | None) -> list[SlowCommand]:
        """All new entries, at most `fetch`."""
        limit = self._settings.fetch
        if last is None or newest is None or newest < last:
            return self._fetch(limit)
        count = min(newest - last + _SLACK, limit)
        entries = self._fetch(count)
        # More entries may have arrived since the newest ID was read.
        is_short = len(entries) == count < limit and entries[-1].id > last + 1
        return self._fetch(limit) if is_short else entries

    def _fetch(self, count: int) -> list[SlowCommand]:
        connection = self._connection
        refused = self._refused
        if refused is None or refused.generation != connection.generation or refused.until <= self._stopwatch():
            try:
                (reply,) = connection.exchange([pack("SLOWLOG", "GET", count)])
            except ConnectionFailed as failure:
                raise Unreachable(str(failure)) from None
            if not isinstance(reply, ReplyError):
                self._refused = None
                return self._entries(reply)
            if reply.is_transient:
                raise Unreachable(f"{connection.address}: SLOWLOG GET failed ({reply.message})")
            refused = self._refused = _Refused(reply, connection.generation, self._stopwatch() + REFUSED_FOR)
        if refused.reply.is_unknown:
            raise NotAvailable
        remedy = f"ACL SETUSER {self._user} {rule_for('SLOWLOG GET')}" if refused.reply.is_denied else ""
        raise Missing(f"SLOWLOG GET failed ({refused.reply.message})", remedy)

    def _entries(self, reply: Reply) -> list[SlowCommand]:
        entries = parse_slowlog(reply)
        self._malformed = [entry for entry in entries if isinstance(entry, Malformed)]
        return [entry for entry in entries if isinstance(entry, SlowCommand)]

    def _note_missed(self, count: int) -> None:
        if count > 0 and not self._is_missing:
            self._context.logger.warning(
                'redis "%s": %d entries of the slow log were dropped before the agent read them. '
                "Increase slowlog.fetch and the server's slowlog-max-len, or slowlog-log-slower-than.",
                self._context.target,
                count,
                extra={"event": "redis.slow_commands_missed", "target": self._context.target, "missed": count},
            )
        self._is_missing = count > 0
        self._missed += max(0, count)

    def count(self, entry: SlowCommand) -> None:
        """Add an entry to the histogram, as `other` if there are too many commands."""
        command = entry.command
        if command not in self._durations and len(self._durations) >= _MAX_COMMANDS:
            command = _OTHER
            self._merged += 1
        durations = self._durations.setdefault(command, [0.0] * (len(_BOUNDS) + 2))
        durations[bisect_left(_BOUNDS, entry.duration)] += 1
        durations[-1] += entry.duration
        self._samples.pop(command, None)

    def _log(self, entry: SlowCommand) -> None:
        self._context.event(
            "redis.slow_command",
            f"{entry.command} took {entry.duration:.6f} s",
            command=entry.command,
            duration_seconds=entry.duration,
            arguments=_readable(entry.arguments(self._settings.redact, self._settings.first_key)),
            argument_count=entry.argument_count,
            client_address=entry.client_address,
            client_name=entry.client_name,
            slowlog_id=entry.id,
            server_time=datetime.fromtimestamp(entry.timestamp, UTC).isoformat(),
        )


def _readable(arguments: Sequence[str]) -> list[str]:
    return [argument if argument.isprintable() else repr(argument)[1:-1] for argument in arguments]
