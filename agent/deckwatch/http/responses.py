"""Sends responses in pieces and limits the memory that slow readers can occupy.

Concurrent scrapes share one body, so each adds only its connection's write buffer. But every new measurement creates
a new body, so without a limit slow readers could keep any number of old ones in memory.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deckwatch.http.headers import SECURITY_HEADERS
from deckwatch.http.rejections import Rejections

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from starlette.types import Message, Scope, Send

    from deckwatch.http.limits import Limits

#: Key in a scope's `state`: the function that aborts the connection.
ABORT = "abort"
PIECE = 64 * 1024  # bytes per write; a connection buffers at most the same amount again


@dataclass(eq=False)
class _Response:
    parts: Sequence[bytes]
    address: str
    abort: Callable[[], None]
    started: float


class Responses:
    """The responses being sent and the memory they occupy."""

    def __init__(
        self, limits: Limits, clock: Callable[[], float] = time.monotonic, rejections: Rejections | None = None
    ) -> None:
        self._rejections = rejections or Rejections()
        self._limit = limits.response_bytes
        self._write_timeout = limits.write
        self._clock = clock
        self._responses: dict[_Response, None] = {}  # oldest first
        self._readers: Counter[int] = Counter()  # by id() of a body
        self._bytes = 0

    async def send(self, scope: Scope, send: Send, start: Message, parts: Sequence[bytes]) -> None:
        """Send a response that begins with the message `start`, or a 503 if the memory limit is reached."""
        if scope["method"] == "HEAD":
            parts = ()
        if sum(map(len, parts)) <= 2 * PIECE:
            await send(start)
            await send({"type": "http.response.body", "body": b"".join(parts)})
            return
        address = scope["client"][0] if scope["client"] else ""
        response = _Response(parts, address, scope.get("state", {}).get(ABORT, lambda: None), self._clock())
        if not self._make_room(response):
            self._rejections.count("busy")
            await _send_busy(send)
            return
        self._add(response)
        try:
            await send(start)
            previous = b""
            for piece in _pieces(parts):
                if previous:
                    await send({"type": "http.response.body", "body": previous, "more_body": True})
                    await asyncio.sleep(0)  # let other tasks run, and notice a disconnect
                previous = piece
            await send({"type": "http.response.body", "body": previous})
        finally:
            self._remove(response)

    def _make_room(self, newcomer: _Response) -> bool:
        """Abort responses until the new one fits. Return False if no more may be aborted.

        A response may be aborted if it exceeds the write timeout, or if its address has more responses than the
        newcomer's address would have.
        """
        while self._responses and self._bytes + self._cost(newcomer) > self._limit:
            held = Counter(response.address for response in self._responses)
            allowed, long_ago = held[newcomer.address] + 1, newcomer.started - self._write_timeout
            victims = [
                response
                for response in self._responses
                if response.started < long_ago or held[response.address] > allowed
            ]
            if not victims:
                return False
            victim = max(victims, key=lambda response: held[response.address])
            self._rejections.count("slow_reader")
            victim.abort()
            self._remove(victim)
        return True

    def _cost(self, response: _Response) -> int:
        return 2 * PIECE + sum(len(part) for part in response.parts if not self._readers[id(part)])

    def _add(self, response: _Response) -> None:
        self._bytes += self._cost(response)
        self._readers.update(map(id, response.parts))
        self._responses[response] = None

    def _remove(self, response: _Response) -> None:
        if response in self._responses:
            del self._responses[response]
            for part in response.parts:
                self._readers[id(part)] -= 1
                if not self._readers[id(part)]:
                    del self._readers[id(part)]
            self._bytes -= self._cost(response)


def _pieces(parts: Sequence[bytes]) -> Iterator[bytes]:
    for part in parts:
        for start in range(0, len(part), PIECE):
            yield part[start : start + PIECE]


async def _send_busy(send: Send) -> None:
    body = b"too many slow clients; try again later\n"
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode("ascii")),
        (b"retry-after", b"10"),
        *SECURITY_HEADERS,
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})
