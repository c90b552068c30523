"""Commands that the server refuses to run: logged once with the fix, exported, and not sent again for a while."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge, Incomplete
from deckwatch_exporters.clients.redis.patterns import escape_pattern
from deckwatch_exporters.clients.redis.resp import ReplyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from deckwatch.exporter import Context, Results
    from deckwatch_exporters.clients.redis.connection import Connection
    from deckwatch_exporters.clients.redis.resp import Reply

REFUSED = Gauge(
    "redis_command_refused",
    "Whether the server refuses to run this command for the agent (1); the metrics that it provides are missing.",
    ["command"],
)
KEYS_REFUSED = Gauge("redis_keys_refused", "Number of selected keys that the server does not allow the agent to read.")

#: Keys that the remedy names.
_NAMED_KEYS = 10

#: Time in seconds for which a refused command is not sent: each refusal is an entry in the server's ACL log.
REFUSED_FOR = 300.0

_CONTAINERS = frozenset(
    {"CLIENT", "CLUSTER", "COMMANDLOG", "CONFIG", "LATENCY", "MEMORY", "SENTINEL", "SLOWLOG", "XINFO"}
)


def rule_for(command: str) -> str:
    """The ACL rule that allows a command, `+config|get` for `CONFIG GET`."""
    words = command.lower().split()
    return f"+{'|'.join(words[: 2 if words[0].upper() in _CONTAINERS else 1])}"


def command_of(packed: bytes) -> str:
    """The command of a packed one, with its subcommand if it has one: `XINFO STREAM`."""
    words = packed.split(b"\r\n", 5)[2::2]
    name = words[0].decode().upper()
    return f"{name} {words[1].decode().upper()}" if name in _CONTAINERS else name


class Refusals:
    """What one collector knows of the commands and keys that the server refuses.

    A new connection starts over: its user may have other privileges. Without a `context` nothing is logged.
    """

    def __init__(
        self,
        connection: Connection,
        context: Context | None,
        user: str,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._context = context
        self._user = user
        self._stopwatch = stopwatch
        self._generation = 0
        self._until: dict[str, float] = {}  # by command, by the stopwatch
        self._lacks: dict[str, Incomplete] = {}  # by command
        self._logged: set[str] = set()
        self._keys: set[bytes] = set()

    def holds(self, command: str) -> bool:
        """Whether the command was refused recently."""
        self._start_afresh()
        return self._until.get(command, 0.0) > self._stopwatch()

    def add(self, command: str, error: ReplyError) -> None:
        """Record that the server refused the command for good."""
        self._start_afresh()
        self._until[command] = self._stopwatch() + REFUSED_FOR
        self._lacks[command] = _lack(command, error, self._user)
        self._log(command, error, fix_for(command, error, self._user))

    def note(self, packed: bytes, reply: Reply) -> None:
        """Record whether the server refused this command about a key, or the key."""
        if not isinstance(reply, ReplyError):
            if self._until:
                self.remove(command_of(packed))
        elif reply.is_key_denied:
            key = packed.split(b"\r\n")[4 if command_of(packed).count(" ") == 0 else 6]
            self._keys.add(key)
            self._log(
                "keys", reply, f"Run: ACL SETUSER {self._user} {_rule(key)} (and the same for other refused keys)"
            )
        elif reply.is_denied or reply.is_unknown:
            self.add(command_of(packed), reply)

    def remove(self, command: str) -> None:
        """Record that the server ran the command."""
        if command in self._until:
            del self._until[command], self._lacks[command]
            self._logged.discard(command)

    def samples(self) -> Results:
        for command in self._until:
            yield REFUSED(1, command=command)
        yield from self._lacks.values()

    def key_samples(self) -> Results:
        """Like `samples()`, with the keys that were refused since the last call."""
        yield from self.samples()
        yield KEYS_REFUSED(len(self._keys))
        if self._keys:
            names = " ".join(sorted(map(_rule, self._keys))[:_NAMED_KEYS])
            yield Incomplete(
                f"the server hides {len(self._keys)} selected keys from the user", f"ACL SETUSER {self._user} {names}"
            )
        else:
            self._logged.discard("keys")
        self._keys.clear()

    def _start_afresh(self) -> None:
        if self._generation != self._connection.generation:
            self._generation = self._connection.generation
            self._until.clear()
            self._lacks.clear()

    def _log(self, what: str, error: ReplyError, fix: str) -> None:
        if what in self._logged or self._context is None:
            return
        self._logged.add(what)
        self._context.logger.warning(
            'redis "%s": the server refuses %s (%s). %s.',
            self._context.target,
            what,
            error.message[:200],
            fix,
            extra={"event": "redis.command_refused", "target": self._context.target, "command": what},
        )


def _lack(command: str, error: ReplyError, user: str) -> Incomplete:
    if error.is_denied:
        return Incomplete(f"the server refuses {command}", f"ACL SETUSER {user} {rule_for(command)}")
    return Incomplete(f"the server refuses {command}. {fix_for(command, error, user)}")


def fix_for(command: str, error: ReplyError, user: str) -> str:
    """What to do about a refused command."""
    if error.is_denied:
        return f"Run: ACL SETUSER {user} {rule_for(command)}"
    if command == "CONFIG GET":
        return "If CONFIG was renamed, set config_command to its name, otherwise set it to off"
    return "It was renamed or disabled, and the metrics that it provides are missing"


def _rule(key: bytes) -> str:
    """The rule of an ACL that allows this key."""
    return f"~{escape_pattern(key.decode('utf-8', 'backslashreplace'))}"
