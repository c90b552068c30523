"""The Redis serialization protocol (RESP), versions 2 and 3: commands to bytes, bytes to replies.

The format: https://redis.io/docs/latest/develop/reference/protocol-spec/. hiredis parses it. Replies are bytes,
numbers, None, lists and dicts.
"""

from __future__ import annotations

import importlib
import re
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeAlias, Union

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Larger than all replies of an exchange, and small enough that a broken server cannot exhaust the memory.
LARGEST_EXCHANGE = 32 * 1024 * 1024
# Headers of arrays, maps, sets and pushes of 100 000 elements or more, and of strings that exceed LARGEST_EXCHANGE.
# hiredis allocates as many elements as a header names, and each garbage collection then walks over all of them.
_OVERSIZED = re.compile(rb"\n([*%~>|][0-9]{6}|[$=][0-9]{9})")
_AGGREGATES = b"*%~>|"
_NOT_REDIS = "not the Redis protocol"
_INCOMPLETE = object()
_TRANSIENT = frozenset({"BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "TRYAGAIN"})


class ProtocolError(Exception):
    """The data is not in the Redis protocol."""


class ReplyError:
    """An error reply to one command. `code` is its first word: `NOPERM`, `ERR`, `MOVED`."""

    __slots__ = ("message",)

    def __init__(self, message: str) -> None:
        self.message = message

    @property
    def code(self) -> str:
        return self.message.partition(" ")[0]

    @property
    def is_denied(self) -> bool:
        """Whether the user may not run the command, or not with these keys."""
        return self.code == "NOPERM"

    @property
    def is_key_denied(self) -> bool:
        return self.is_denied and " key" in self.message

    @property
    def is_transient(self) -> bool:
        """Whether the same command may succeed a moment later."""
        return self.code in _TRANSIENT

    @property
    def is_unknown(self) -> bool:
        """Whether the server has no such command (or no such subcommand)."""
        text = self.message.lower()
        return text.startswith(("err unknown", "err syntax")) or "wrong number of arguments" in text

    def __repr__(self) -> str:
        return f"<ReplyError {self.message}>"


Reply: TypeAlias = Union[bytes, int, float, bool, ReplyError, list["Reply"], dict[Any, "Reply"], None]  # noqa: UP007  holds itself


def pack(*words: str | bytes | int) -> bytes:
    """A command in the protocol: an array of strings."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word if isinstance(word, bytes) else str(word).encode("utf-8", "surrogateescape")
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


class Reader:
    """Turns a stream of bytes into replies: hiredis, with limits for broken servers.

    hiredis supports neither attributes nor blob errors, which no server sends unasked, and does not check what follows
    a string. Raises ImportError if hiredis is not installed.
    """

    __slots__ = ("_held", "_last", "_push", "_reader", "_received")

    def __init__(self) -> None:
        hiredis: Any = importlib.import_module("hiredis")  # only when a connection is opened
        self._reader = hiredis.Reader(protocolError=ProtocolError, replyError=ReplyError, notEnoughData=_INCOMPLETE)
        self._push = hiredis.PushNotification
        self._held = b""  # the start of a header
        self._last = b"\n"  # the byte before `_held`
        self._received = 0

    def begin_exchange(self) -> None:
        """Start to count towards LARGEST_EXCHANGE again."""
        self._received = 0

    def feed(self, data: bytes) -> list[Reply]:
        """Return the replies that `data` completes. Raises ProtocolError; the reader cannot be used after it."""
        self._received += len(data)
        if self._received > LARGEST_EXCHANGE:
            raise ProtocolError(f"the replies are larger than {LARGEST_EXCHANGE} bytes")
        replies: list[Reply] = []
        try:
            self._feed(self._held + data, replies)
        except ProtocolError as wrong:
            raise ProtocolError(f"{_NOT_REDIS}: {str(wrong).removeprefix('Protocol error, ')}") from None
        except (TypeError, MemoryError):  # a list or a map as a key
            raise ProtocolError(f"{_NOT_REDIS}: invalid map or array") from None
        return replies

    def _feed(self, data: bytes, replies: list[Reply]) -> None:
        lines = self._last + data  # so that a match begins where its header does in `data`
        start = 0
        for match in _OVERSIZED.finditer(lines):
            self._parse(data[start : match.start()], replies)
            start = match.start()
            if not self._reader.has_data():  # otherwise the match is part of a string
                raise ProtocolError(f"{match[1].decode()}... is too large")
        stop = lines.rfind(b"\n")
        if stop < 0 or len(data) - stop > 6 or data[stop : stop + 1] not in _AGGREGATES:
            stop = len(data)
        self._held = data[stop:]
        self._last = lines[stop : stop + 1]
        self._parse(data[start:stop], replies)

    def _parse(self, data: bytes, replies: list[Reply]) -> None:
        reader = self._reader
        reader.feed(data)
        while (reply := reader.gets()) is not _INCOMPLETE:
            if not isinstance(reply, self._push):  # sent unasked: not the reply to a command
                replies.append(reply)


def text_of(reply: Reply) -> str:
    r"""A string reply as text, undecodable bytes as `\xff`, so that two names stay two; `` for any other reply."""
    return reply.decode("utf-8", "backslashreplace") if isinstance(reply, bytes) else ""


def mapping_of(reply: Reply) -> dict[str, Reply]:
    """A map, or a flat list of keys and values (protocol 2), by name; empty for anything else."""
    return {text_of(key): value for key, value in pairs_of(reply)}


def pairs_of(reply: Reply) -> Iterable[tuple[Reply, Reply]]:
    """The pairs of a map, or of a flat list of keys and values (protocol 2); empty for anything else."""
    if isinstance(reply, dict):
        return reply.items()
    return zip(reply[::2], reply[1::2], strict=False) if isinstance(reply, list) else ()


def number_of(reply: Reply) -> float | None:
    """An integer, double or numeric string as a finite number; None for anything else."""
    if isinstance(reply, bool) or reply is None or isinstance(reply, (ReplyError, list, dict)):
        return None
    if isinstance(reply, bytes) and b"_" in reply:  # `1_0` is a number for Python only
        return None
    try:
        number = float(reply)
    except (ValueError, OverflowError):
        return None
    return number if isfinite(number) else None
