"""One HTTP connection: uvicorn's HTTP/1.1 protocol with a limit on everything that a client may cost.

uvicorn parses requests, runs the application, applies back-pressure and closes gracefully. What is left to this module,
because uvicorn (checked up to 0.54) does not do it:

- a time limit on connecting without a request, on sending headers and on reading an answer;
- a limit on the size and the lines of a header block that arrives in one piece, and so no pipelining;
- an answer to a malformed request when an answer has already begun, which fails in uvicorn, and without a log line;
- canceling the keep-alive timer of a connection that was reset.
"""

from __future__ import annotations

import logging
import re
import socket
import struct
from typing import TYPE_CHECKING, Protocol

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from deckwatch.http.answers import ABORT, PIECE
from deckwatch.http.headers import SECURITY_HEADERS

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping
    from typing import Any

    import uvicorn
    from uvicorn.server import ServerState

    from deckwatch.http.limits import Limits

# A malformed request is the client's affair: uvicorn's warnings would let anybody fill our log.
_log = logging.getLogger("deckwatch.http.protocol")
_log.setLevel(logging.ERROR)

_HEAD_END = re.compile(rb"\n\r?\n")
_TOO_LARGE = b"431 Request Header Fields Too Large"
_BYTES_ACKED = 120  # offset of tcpi_bytes_acked in struct tcp_info, include/uapi/linux/tcp.h


class Registry(Protocol):
    """Whoever keeps track of the open connections."""

    def add(self, connection: Connection) -> None: ...

    def discard(self, connection: Connection) -> None: ...


class Connection(H11Protocol):
    """A client's connection, and how long it has been waiting for the client."""

    def __init__(
        self,
        config: uvicorn.Config,
        state: ServerState,
        registry: Registry,
        limits: Limits,
        app_state: dict[str, Any],
        admits: Callable[[Mapping[str, Any] | None], bool],
    ) -> None:
        super().__init__(config=config, server_state=state, app_state={**app_state, ABORT: self.abort})
        self.logger = _log
        self._registry = registry
        self._limits = limits
        self._admits = admits
        self.since = self.loop.time()  # of the connection, the last answer, or the request that is being answered
        self.is_answering = False
        self._head_bytes = 0
        self._head_lines = 0
        self._progress: tuple[int, int] | None = None
        self._progressed = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        self.since = self.loop.time()
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=PIECE)  # under TLS asyncio's own limit is eight times as much
        self._registry.add(self)
        if not self._admits(transport.get_extra_info("peercert")):
            transport.abort()

    @property
    def address(self) -> str:
        return self.client[0] if self.client else ""

    def connection_lost(self, exc: Exception | None) -> None:
        self._registry.discard(self)
        super().connection_lost(exc)
        self.app_state = {}  # a cycle otherwise, through `abort`
        self._unset_keepalive_if_required()  # uvicorn leaves the timer, and so all of this, alive after a reset

    def data_received(self, data: bytes) -> None:
        if self.is_answering and self.conn.their_state is h11.DONE:
            # Another request before the first one's answer: nobody who scrapes does that. The connection ends after
            # this answer, which HTTP allows at any time, and what came too early is not kept.
            self.cycle.keep_alive = False
            return
        if self.conn.their_state is h11.IDLE and self._is_head_too_large(data):
            self._refuse(_TOO_LARGE)
            return
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            if not self.is_answering:
                self.is_answering, self.since = True, self.loop.time()
            names = {name for name, _ in self.headers}
            if self.conn.trailing_data[0] or names >= {b"transfer-encoding", b"content-length"}:
                # Both: what one server takes for the next request is the body to another (RFC 9112, section 6.3).
                self.cycle.keep_alive = False

    def _is_head_too_large(self, data: bytes) -> bool:
        """Whether the header block is above the limits, seen before anything is parsed."""
        end = _HEAD_END.search(data)
        size = end.end() if end is not None else len(data)
        self._head_bytes += size
        self._head_lines += data.count(b"\n", 0, size)
        return self._head_bytes > self._limits.header_bytes or self._head_lines > self._limits.header_lines

    def on_response_complete(self) -> None:
        self.is_answering, self.since = False, self.loop.time()
        self._head_bytes = self._head_lines = 0
        super().on_response_complete()
        self._unset_keepalive_if_required()  # the sweep closes idle connections

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn's signature
        self._refuse(b"400 Bad Request")

    def _refuse(self, status: bytes) -> None:
        """Answer what is no request, and close. uvicorn's own way fails when an answer has begun already."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE) or (
            self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
        ):
            self.transport.abort()
            return
        body = status[4:] + b"\n"
        headers = (
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(body)).encode("ascii")),
            (b"connection", b"close"),
            *self.server_state.default_headers,
            *SECURITY_HEADERS,
        )
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        self.transport.write(b"HTTP/1.1 " + status + b"\r\n" + lines + b"\r\n" + body)
        self.transport.close()

    def is_overdue(self, now: float) -> bool:
        """Whether the client keeps us waiting: for a request, or for reading what it asked for.

        Progress in reading is what the client's kernel has acknowledged. The size of our own buffer would not do:
        the kernel takes megabytes of an answer, and under TLS part of it waits in a buffer that is not ours.
        """
        unsent = self.transport.get_write_buffer_size()
        progress = (_bytes_acknowledged(self.transport), unsent)
        if progress != self._progress:
            if self._progress is not None and self.cycle is not None:
                self._progressed = now
            self._progress = progress
        if self.is_answering and not unsent:
            return False
        limit = self._limits.write if unsent else self._limits.idle
        return now - max(self.since, self._progressed) > limit

    def abort(self) -> None:
        self.transport.abort()

    def end(self, even_within_answer: bool = False) -> None:
        """Close now, or after the answer that is under way."""
        if even_within_answer and self.is_answering and self.cycle.response_started:
            self.transport.abort()
        if not self.transport.is_closing():
            self.shutdown()


def _bytes_acknowledged(transport: asyncio.Transport) -> int:
    connection = transport.get_extra_info("socket")
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED + 8)
    except (OSError, AttributeError):  # closed meanwhile, or no TCP
        return 0
    return int(struct.unpack_from("=Q", info, _BYTES_ACKED)[0]) if len(info) == _BYTES_ACKED + 8 else 0
