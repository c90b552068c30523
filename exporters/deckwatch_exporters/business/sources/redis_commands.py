"""Figures in Redis: a query is a command that reads one number, or counts keys."""

from __future__ import annotations

import secrets
import shlex
from typing import TYPE_CHECKING

from deckwatch.exporter import Unreachable
from deckwatch_exporters.business.rows import QueryFailed, Table
from deckwatch_exporters.clients.redis.connection import Connection
from deckwatch_exporters.clients.redis.resp import Reply, ReplyError, pack

if TYPE_CHECKING:
    from deckwatch_exporters.business.settings import RedisSettings

#: The commands that may be used, and their number of arguments.
_COMMANDS = {
    "GET": 1,
    "HGET": 2,
    "HLEN": 1,
    "LLEN": 1,
    "PFCOUNT": 1,
    "SCARD": 1,
    "STRLEN": 1,
    "XLEN": 1,
    "ZCARD": 1,
    "ZCOUNT": 3,
    "ZSCORE": 2,
}
_COLUMN = "value"
#: Sets the key to our token unless it has the token of another agent.
_HOLD = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_SCAN_COUNT = 1000
_MAX_SCANS = 200  # so that a count reads at most about 200 000 keys


class RedisCommands:
    def __init__(self, settings: RedisSettings) -> None:
        self._connection = Connection(settings)
        self._db = settings.address.db
        self._token = secrets.token_hex(16)

    def run(self, query: str, limit: int) -> Table:
        del limit  # there is one row
        words = _words(query)
        if words[0] == "SCAN":
            return Table((_COLUMN,), [(self._count(words[1]),)])
        reply = self._ask(pack(*words))
        if isinstance(reply, ReplyError):
            raise QueryFailed(f"{words[0]} failed: {reply.message}. Check the command and the ACL.")
        return Table((_COLUMN,), [(reply,)])

    def columns(self, query: str) -> tuple[str, ...]:
        return self.run(query, 1).columns

    def hold(self, name: str, seconds: float) -> bool:
        """Take the lock of this name, or keep it, for `seconds`. Raises Unreachable, QueryFailed."""
        key = f"deckwatch:singleton:{name}"
        reply = self._ask(pack("EVAL", _HOLD, 1, key, self._token, round(seconds * 1000)))
        if isinstance(reply, ReplyError):
            needs = "singleton needs +eval +get +set ~deckwatch:* in the ACL of its user"
            raise QueryFailed(f"EVAL failed: {reply.message}. {needs}.")
        return reply == 1

    def close(self) -> None:
        self._connection.close()

    def _ask(self, command: bytes) -> Reply:
        select = [pack("SELECT", self._db)] if self._db else []
        *selected, reply = self._connection.exchange([*select, command], leads=True)
        if selected and isinstance(selected[0], ReplyError):
            raise Unreachable(f"{self._connection.address}: {selected[0].message}. Check the database number in url.")
        if isinstance(reply, ReplyError) and reply.is_transient:
            raise Unreachable(f"{self._connection.address}: {reply.message}")
        return reply

    def _count(self, pattern: str) -> int:
        """The number of keys that match. SCAN may return a key twice."""
        cursor, keys = b"0", set[bytes]()
        for _ in range(_MAX_SCANS):
            reply = self._ask(pack("SCAN", cursor, "MATCH", pattern, "COUNT", _SCAN_COUNT))
            match reply:
                case [bytes(cursor), list(found)]:
                    keys.update(key for key in found if isinstance(key, bytes))
                case ReplyError():
                    raise QueryFailed(f"SCAN failed: {reply.message}. Check the ACL.")
                case _:
                    raise QueryFailed("SCAN returned an unexpected reply.")
            if cursor == b"0":
                return len(keys)
        raise QueryFailed(
            f"the database has more than {_MAX_SCANS * _SCAN_COUNT} keys, too many to count. "
            "Keep the number in a separate key, and read it with GET."
        )


def _words(query: str) -> list[str]:
    """The words of a command. Raises QueryFailed unless it is one of the commands above."""
    try:
        words = shlex.split(query)
    except ValueError as wrong:
        raise QueryFailed(f"cannot parse the command: {wrong}. Check its quotes.") from None
    name = words[0].upper() if words else ""
    expected = 1 if name == "SCAN" else _COMMANDS.get(name)
    if expected is None:
        allowed = ", ".join((*_COMMANDS, "SCAN"))
        raise QueryFailed(f"{name or 'an empty command'} is not allowed. Use one of: {allowed}.")
    if len(words) - 1 != expected:
        raise QueryFailed(f"{name} takes {expected} argument{'s' if expected > 1 else ''}, not {len(words) - 1}.")
    return [name, *words[1:]]
