"""The Redis serialization protocol, versions 2 and 3: commands to bytes, bytes to replies.

The format: https://redis.io/docs/latest/develop/reference/protocol-spec/. A client library turns each reply into what
its caller may like best; here a hundred figures are read every few seconds, so that replies stay what they are: bytes,
numbers, None and flat lists. What protocol 3 sends as a map is the flat list of keys and values of protocol 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, Union

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Larger than any answer to what is asked here, and small enough that nonsense cannot fill the memory.
LARGEST_BULK = 64 * 1024 * 1024
LARGEST_ARRAY = 4 * 1024 * 1024
_LONGEST_LINE = 64 * 1024
_DEEPEST = 32


class ProtocolError(Exception):
    """What came is not the Redis protocol."""


class ReplyError:
    """An error that the server answered one command with. `code` is its first word: `NOPERM`, `ERR`, `MOVED`."""

    __slots__ = ("message",)

    def __init__(self, message: str) -> None:
        self.message = message

    @property
    def code(self) -> str:
        return self.message.partition(" ")[0]

    @property
    def is_denied(self) -> bool:
        return self.code == "NOPERM"

    @property
    def is_unknown(self) -> bool:
        """Whether the server has no such command (or no such subcommand)."""
        text = self.message.lower()
        return text.startswith(("err unknown", "err syntax")) or "wrong number of arguments" in text

    def __repr__(self) -> str:
        return f"<ReplyError {self.message}>"


Reply: TypeAlias = Union[bytes, int, float, bool, ReplyError, list["Reply"], None]  # noqa: UP007  holds itself


def pack(*words: str | bytes | int) -> bytes:
    """A command as the server wants to read it: an array of strings."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word if isinstance(word, bytes) else str(word).encode("utf-8", "surrogateescape")
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


class _Incomplete(Exception):
    """More bytes are needed."""


class Reader:
    """Turns a stream of bytes into replies. `feed()` it, then take from `replies()` what is complete."""

    __slots__ = ("_at", "_data")

    def __init__(self) -> None:
        self._data = b""
        self._at = 0

    def feed(self, data: bytes) -> None:
        self._data = self._data[self._at :] + data
        self._at = 0

    @property
    def is_empty(self) -> bool:
        return self._at >= len(self._data)

    def replies(self) -> Iterator[Reply]:
        """The replies that are complete by now. Raises ProtocolError."""
        while self._at < len(self._data):
            began = self._at
            is_push = self._data[began] == _PUSH
            try:
                reply = self._next(0)
            except _Incomplete:
                self._at = began
                return
            except ValueError as wrong:
                raise ProtocolError(f"not the Redis protocol: {wrong}") from None
            if not is_push:  # out of band: no answer to any command
                yield reply

    def _next(self, depth: int) -> Reply:
        data, at = self._data, self._at
        end = data.find(b"\r\n", at)
        if end < 0:
            if len(data) - at > _LONGEST_LINE:
                raise ValueError("a line that does not end")
            if at < len(data) and data[at] not in _KINDS:
                raise ValueError(f"a reply cannot begin with {data[at : at + 1]!r}")
            raise _Incomplete
        kind = data[at]
        self._at = end + 2
        if kind == _BULK:
            return self._bulk(int(data[at + 1 : end]))
        if kind in _INTEGERS:
            return int(data[at + 1 : end])
        if kind in _LISTS:
            return self._array(int(data[at + 1 : end]), depth)
        if kind == _SIMPLE:
            return data[at + 1 : end]
        if kind == _ERROR:
            return ReplyError(data[at + 1 : end].decode("utf-8", "replace"))
        if kind == _MAP:
            return self._array(2 * int(data[at + 1 : end]), depth)
        if kind == _NULL:
            return None
        if kind == _DOUBLE:
            return float(data[at + 1 : end])
        if kind == _BOOLEAN:
            return data[at + 1 : end] == b"t"
        if kind == _VERBATIM:
            text = self._bulk(int(data[at + 1 : end]))
            return text[4:] if text is not None else None  # past its kind, `txt:`
        if kind == _BULK_ERROR:
            return ReplyError((self._bulk(int(data[at + 1 : end])) or b"").decode("utf-8", "replace"))
        if kind == _ATTRIBUTE:
            self._array(2 * int(data[at + 1 : end]), depth)  # about the reply that follows
            return self._next(depth + 1)
        raise ValueError(f"a reply cannot begin with {data[at : at + 1]!r}")

    def _bulk(self, length: int) -> bytes | None:
        if length < 0:
            return None
        if length > LARGEST_BULK:
            raise ValueError(f"a string of {length} bytes")
        begin = self._at
        stop = begin + length
        if len(self._data) < stop + 2:
            raise _Incomplete
        if self._data[stop : stop + 2] != b"\r\n":
            raise ValueError("a string longer than it says")
        self._at = stop + 2
        return self._data[begin:stop]

    def _array(self, length: int, depth: int) -> list[Reply] | None:
        if length < 0:
            return None
        if length > LARGEST_ARRAY or depth > _DEEPEST:
            raise ValueError(f"{length} elements, {depth} deep")
        return [self._next(depth + 1) for _ in range(length)]


_SIMPLE, _ERROR, _INTEGER, _BULK, _ARRAY = b"+-:$*"
_NULL, _DOUBLE, _BOOLEAN, _BULK_ERROR, _VERBATIM, _BIG_NUMBER, _MAP, _SET, _PUSH, _ATTRIBUTE = b"_,#!=(%~>|"
_INTEGERS = (_INTEGER, _BIG_NUMBER)
_LISTS = (_ARRAY, _SET, _PUSH)
_KINDS = frozenset(b"+-:$*_,#!=(%~>|")


def text_of(reply: Reply) -> str:
    """A string reply as text, undecodable bytes replaced; `` for what is no string."""
    return reply.decode("utf-8", "replace") if isinstance(reply, bytes) else ""


def mapping_of(reply: Reply) -> dict[str, Reply]:
    """A flat list of keys and values as a mapping; empty for what is none."""
    if not isinstance(reply, list):
        return {}
    return {text_of(key): value for key, value in zip(reply[::2], reply[1::2], strict=False)}


def number_of(reply: Reply) -> float | None:
    """An integer, double or numeric string as a number; None for what is none."""
    if isinstance(reply, bool) or reply is None or isinstance(reply, (ReplyError, list)):
        return None
    try:
        number = float(reply)
    except (ValueError, OverflowError):
        return None
    return number if number == number else None  # NaN says as little as nothing
