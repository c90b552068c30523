"""Sending answers in pieces, with a limit on the memory that clients which read slowly can hold.

Answers share their bodies: what a scrape holds beside them is what waits in the connection's buffer. Bodies differ as
soon as there are newer measurements, so slow readers could still hold any number of them.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deckwatch.http.headers import SECURITY_HEADERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from starlette.types import Message, Scope, Send

    from deckwatch.http.limits import Limits

#: The key of a scope's state that has the function which aborts the connection.
ABORT = "abort"
PIECE = 64 * 1024  # bytes that are handed on at once; a connection buffers at most as much again


@dataclass(eq=False)
class _Answer:
    parts: Sequence[bytes]
    address: str
    abort: Callable[[], None]
    began: float


class Answers:
    """The answers that are being sent, and the bytes that they hold."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limits.answer_bytes
        self._patience = limits.write
        self._clock = clock
        self._answers: dict[_Answer, None] = {}  # the oldest first
        self._readers: Counter[int] = Counter()  # by id of a body
        self._bytes = 0

    async def send(self, scope: Scope, send: Send, start: Message, parts: Sequence[bytes]) -> None:
        """Send an answer that begins with the message `start`; 503 instead if too many are being sent."""
        if scope["method"] == "HEAD":
            parts = ()
        if sum(map(len, parts)) <= 2 * PIECE:
            await send(start)
            await send({"type": "http.response.body", "body": b"".join(parts)})
            return
        address = scope["client"][0] if scope["client"] else ""
        answer = _Answer(parts, address, scope.get("state", {}).get(ABORT, lambda: None), self._clock())
        if not self._make_room(answer):
            await _send_busy(send)
            return
        self._add(answer)
        try:
            await send(start)
            previous = b""
            for piece in _pieces(parts):
                if previous:
                    await send({"type": "http.response.body", "body": previous, "more_body": True})
                    await asyncio.sleep(0)  # others get their turn, and the end of this connection is noticed
                previous = piece
            await send({"type": "http.response.body", "body": previous})
        finally:
            self._remove(answer)

    def _make_room(self, newcomer: _Answer) -> bool:
        """Abort answers until there is room for another one; False if there are none that may be aborted.

        Those are answers that have taken long, and answers to addresses that have more of them than the newcomer's.
        """
        while self._answers and self._bytes + self._cost(newcomer) > self._limit:
            held = Counter(answer.address for answer in self._answers)
            allowed, long_ago = held[newcomer.address] + 1, newcomer.began - self._patience
            victims = [answer for answer in self._answers if answer.began < long_ago or held[answer.address] > allowed]
            if not victims:
                return False
            victim = max(victims, key=lambda answer: held[answer.address])
            victim.abort()
            self._remove(victim)
        return True

    def _cost(self, answer: _Answer) -> int:
        return 2 * PIECE + sum(len(part) for part in answer.parts if not self._readers[id(part)])

    def _add(self, answer: _Answer) -> None:
        self._bytes += self._cost(answer)
        self._readers.update(map(id, answer.parts))
        self._answers[answer] = None

    def _remove(self, answer: _Answer) -> None:
        if answer in self._answers:
            del self._answers[answer]
            for part in answer.parts:
                self._readers[id(part)] -= 1
                if not self._readers[id(part)]:
                    del self._readers[id(part)]
            self._bytes -= self._cost(answer)


def _pieces(parts: Sequence[bytes]) -> Iterator[bytes]:
    for part in parts:
        for start in range(0, len(part), PIECE):
            yield part[start : start + PIECE]


async def _send_busy(send: Send) -> None:
    body = b"too many answers are being read slowly; try again\n"
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode("ascii")),
        (b"retry-after", b"10"),
        *SECURITY_HEADERS,
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})
