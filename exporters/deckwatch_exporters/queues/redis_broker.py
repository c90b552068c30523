"""Queues that live in a Redis: commands in one database, names found with SCAN, and what an ACL forbids."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field

from deckwatch.exporter import Finding, Malformed, Missing, Refresh
from deckwatch_exporters.clients.redis.connection import Connection, ConnectionFailed
from deckwatch_exporters.clients.redis.resp import Reply, ReplyError, number_of, pack, text_of
from deckwatch_exporters.clients.redis.settings import ConnectionSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

#: Commands sent in one go: the server answers nobody else in the meantime.
BATCH = 5000
_NO_KEY = "deckwatch:no-such-key"
_SHOWN = 20  # queues that `check` lists by name


class RedisQueuesSettings(ConnectionSettings):
    """A Redis server, and the names of queues that are reported even while they do not exist there."""

    queues: tuple[str, ...] = Field(default=(), description="Names of queues, beside those that are found.")


class Need(NamedTuple):
    """A command that a kind of queue needs; `words` are one call of it on a key that does not exist."""

    words: tuple[str | int, ...]
    grant: str  # as ACL SETUSER takes it


def needs(*commands: str) -> tuple[Need, ...]:
    """The needs of commands by their usual arguments."""
    return tuple(_NEEDS[command] for command in commands)


_NEEDS = {
    "EXISTS": Need(("EXISTS", _NO_KEY), "+exists"),
    "HGET": Need(("HGET", _NO_KEY, "none"), "+hget"),
    "HGETALL": Need(("HGETALL", _NO_KEY), "+hgetall"),
    "HVALS": Need(("HVALS", _NO_KEY), "+hvals"),
    "HLEN": Need(("HLEN", _NO_KEY), "+hlen"),
    "GET": Need(("GET", _NO_KEY), "+get"),
    "HMGET": Need(("HMGET", _NO_KEY, "none"), "+hmget"),
    "LINDEX": Need(("LINDEX", _NO_KEY, 0), "+lindex"),
    "LLEN": Need(("LLEN", _NO_KEY), "+llen"),
    "SCAN": Need(("SCAN", 0, "COUNT", 1), "+scan"),
    "SCARD": Need(("SCARD", _NO_KEY), "+scard"),
    "SMEMBERS": Need(("SMEMBERS", _NO_KEY), "+smembers"),
    "XINFO": Need(("XINFO", "GROUPS", _NO_KEY), "+xinfo"),
    "XLEN": Need(("XLEN", _NO_KEY), "+xlen"),
    "XRANGE": Need(("XRANGE", _NO_KEY, "-", "+", "COUNT", 1), "+xrange"),
    "ZCARD": Need(("ZCARD", _NO_KEY), "+zcard"),
    "ZCOUNT": Need(("ZCOUNT", _NO_KEY, 0, 1), "+zcount"),
    "ZRANGE": Need(("ZRANGE", _NO_KEY, 0, 0), "+zrange"),
}


class RedisBroker:
    """One database of one Redis server. All methods raise ConnectionFailed."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self._connection = Connection(settings)
        self._db = settings.address.db
        self.user = settings.credentials[0] or "default"

    @property
    def generation(self) -> int:
        """Counts connections: what was learned from an older one may be wrong."""
        return self._connection.generation

    @property
    def where(self) -> str:
        return f"database {self._db} of {self._connection.address}"

    def ask(self, commands: Sequence[bytes]) -> list[Reply]:
        """The replies to packed commands. Raises Missing where the ACL forbids the command of all of them."""
        replies: list[Reply] = []
        for start in range(0, len(commands), BATCH):
            replies += self._exchange(commands[start : start + BATCH])
        return replies

    def ask_allowed(self, word: str, commands: Sequence[bytes]) -> list[Reply]:
        """Like `ask`, for commands of one kind. Raises Missing where the ACL forbids it."""
        replies = self.ask(commands)
        if replies and forbids_command(replies[0]):
            raise Missing(f"{self.user} may not run {word}", f"ACL SETUSER {self.user} {_NEEDS[word].grant}")
        return replies

    def close(self) -> None:
        self._connection.close()

    def _exchange(self, commands: Sequence[bytes]) -> list[Reply]:
        # The connection may be a new one at any time.
        select = [pack("SELECT", self._db)] if self._db else []
        replies = self._connection.exchange([*select, *commands], leads=True)
        if select:
            selected = replies.pop(0)
            if forbids_command(selected):
                raise Missing(f"{self.user} may not run SELECT", f"ACL SETUSER {self.user} +select")
            if isinstance(selected, ReplyError):
                raise ConnectionFailed(f"{self.where}: {selected.message}. Check the database number in url")
        errors = [reply for reply in replies if isinstance(reply, ReplyError) and reply.is_transient]
        if errors and len(errors) == len(replies):
            raise ConnectionFailed(f"{self._connection.address}: {errors[0].message}")
        return replies

    def check(self, needed: Iterable[Need]) -> Iterator[Finding]:
        """The commands that the ACL forbids."""
        wanted = list(needed)
        replies = self.ask([pack(*need.words) for need in wanted])
        denied = [need for need, reply in zip(wanted, replies, strict=True) if forbids_command(reply)]
        if denied:
            commands = ", ".join(str(need.words[0]) for need in denied)
            grants = " ".join(need.grant for need in denied)
            yield Finding("missing", f"{self.user} may not run {commands}", f"ACL SETUSER {self.user} {grants}")


def forbids_command(reply: Reply) -> bool:
    """Whether the ACL forbids the command itself, not only this key or channel."""
    return (
        isinstance(reply, ReplyError)
        and reply.is_denied
        and not reply.is_key_denied
        and " channel" not in reply.message
    )


def refused(command: str, key: str | bytes, reply: Reply) -> Malformed | None:
    """What to report of a reply that is an error."""
    if not isinstance(reply, ReplyError):
        return None
    return Malformed(f"{command} {key if isinstance(key, str) else text_of(key)}", reply.message)


def scores_of(reply: Reply) -> dict[bytes, float] | None:
    """Members and scores: pairs in protocol 3, a flat list in protocol 2."""
    if not isinstance(reply, list):
        return None
    is_paired = any(isinstance(part, list) for part in reply)
    pairs = reply if is_paired else [list(pair) for pair in zip(reply[::2], reply[1::2], strict=False)]
    found: dict[bytes, float] = {}
    for pair in pairs:
        match pair:
            case [bytes(member), score] if (number := number_of(score)) is not None:
                found[member] = number
    return found


def found_queues(names: Sequence[str], kind: str, where: str) -> Finding:
    """The finding that lists the queues of a target."""
    if not names:
        return Finding(
            "missing",
            f"no {kind} queues in {where}",
            "check the database number in url, or list the queues under `queues`",
        )
    shown = ", ".join(sorted(names)[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return Finding("ok", f"{kind} queues: {shown}{more}")


class KeyDiscovery:
    """The keys that match a pattern, found with SCAN in small steps, so that a large database takes several runs.

    A complete scan starts again a minute after the last one ended, and with each new connection.
    """

    _COUNT = 1000
    _STEPS = 20  # of one run

    def __init__(
        self, broker: RedisBroker, pattern: str, interval: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._broker = broker
        self._pattern = pattern
        self._due = Refresh(interval, clock)
        self._cursor = b"0"
        self._walked: set[bytes] = set()
        self._known: set[bytes] = set()
        self._generation = 0

    def found(self) -> set[bytes]:
        """What is known by now. Raises Missing, ConnectionFailed."""
        if self._generation != self._broker.generation:
            self._start_over()
        if self._cursor != b"0" or self._due.is_due:
            self._walk()
        return self._known | self._walked

    def _start_over(self) -> None:
        self._generation = self._broker.generation
        self._cursor, self._walked, self._known = b"0", set(), set()
        self._due.reset()

    def _walk(self) -> None:
        for _ in range(self._STEPS):
            sent = self._cursor
            command = pack("SCAN", sent, "MATCH", self._pattern, "COUNT", self._COUNT)
            (reply,) = self._broker.ask_allowed("SCAN", [command])
            if self._generation != self._broker.generation:
                self._start_over()
                if sent != b"0":
                    continue  # a cursor of another server, or of before its restart
            match reply:
                case [bytes(cursor), list(keys)]:
                    self._cursor = cursor
                    self._walked.update(key for key in keys if isinstance(key, bytes))
                case _:
                    return
            if cursor == b"0":
                self._known, self._walked = self._walked, set()
                self._due.done()
                return
