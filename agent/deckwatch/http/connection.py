"""One HTTP connection: uvicorn's HTTP/1.1 protocol with limits on what a client can consume.

uvicorn parses requests, runs the application, applies back-pressure and closes gracefully. This module adds what
uvicorn (checked up to 0.54) lacks:

- timeouts for connections without a request, for sending headers and for reading a response;
- limits on the size and line count of a header block that arrives in one piece, which rules out pipelining;
- handling of a malformed request after a response has started, which fails in uvicorn, and without a log line;
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

from deckwatch.http.headers import SECURITY_HEADERS
from deckwatch.http.responses import ABORT, PIECE

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping
    from typing import Any

    import uvicorn
    from uvicorn.server import ServerState

    from deckwatch.http.limits import Limits
    from deckwatch.http.rejections import Rejections

# uvicorn warns about each malformed request, which would let any client fill the log.
_log = logging.getLogger("deckwatch.http.protocol")
_log.setLevel(logging.ERROR)

_HEAD_END = re.compile(rb"\n\r?\n")
_TOO_LARGE = b"431 Request Header Fields Too Large"
_BYTES_ACKED = 120  # offset of tcpi_bytes_acked in struct tcp_info, include/uapi/linux/tcp.h


class Registry(Protocol):
    """Keeps track of the open connections."""

    rejections: Rejections

    def add(self, connection: Connection) -> None: ...

    def discard(self, connection: Connection) -> None: ...

    def note_activity(self) -> None: ...


class Connection(H11Protocol):
    """A client's connection. Tracks how long the server has been waiting for the client."""

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
        self.since = self.loop.time()  # when the connection, the current request or the last response began or ended
        self.is_responding = False
        self._is_kept_alive = False  # whether a response was sent and no further request has begun
        self._head_bytes = 0
        self._head_lines = 0
        self._progress: tuple[int, int] | None = None
        self._progressed = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        self.since = self.loop.time()
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=PIECE)  # asyncio's default under TLS is eight times larger
        self._registry.add(self)
        if not self._admits(transport.get_extra_info("peercert")):
            self._registry.rejections.count("connection_not_allowed")
            transport.abort()

    @property
    def has_begun_request(self) -> bool:
        return self._head_bytes > 0

    @property
    def address(self) -> str:
        return self.client[0] if self.client else ""

    def connection_lost(self, exc: Exception | None) -> None:
        self._registry.discard(self)
        super().connection_lost(exc)
        self.app_state = {}  # breaks a reference cycle through `abort`
        self._unset_keepalive_if_required()  # after a reset, uvicorn's timer would keep this object alive

    def data_received(self, data: bytes) -> None:
        self._registry.note_activity()
        if self.is_responding and self.conn.their_state is h11.DONE:
            # Pipelined requests: no scraper sends them. Discard them and close the connection after this response,
            # which HTTP permits at any time.
            self.cycle.keep_alive = False
            return
        if self._is_kept_alive:
            self._is_kept_alive, self.since = False, self.loop.time()
        if self.conn.their_state is h11.IDLE and self._is_head_too_large(data):
            self._registry.rejections.count("too_large")
            self._refuse(_TOO_LARGE)
            return
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            if not self.is_responding:
                self.is_responding, self.since = True, self.loop.time()
            names = {name for name, _ in self.headers}
            if self.conn.trailing_data[0] or names >= {b"transfer-encoding", b"content-length"}:
                # With both headers, servers disagree about where the body ends: request smuggling (RFC 9112, 6.3).
                self.cycle.keep_alive = False

    def _is_head_too_large(self, data: bytes) -> bool:
        """Return whether the header block exceeds the limits. Runs before any parsing."""
        end = _HEAD_END.search(data)
        size = end.end() if end is not None else len(data)
        self._head_bytes += size
        self._head_lines += data.count(b"\n", 0, size)
        return self._head_bytes > self._limits.header_bytes or self._head_lines > self._limits.header_lines

    def on_response_complete(self) -> None:
        self.is_responding, self.since = False, self.loop.time()
        self._is_kept_alive = True
        self._head_bytes = self._head_lines = 0
        super().on_response_complete()
        self._unset_keepalive_if_required()  # the sweep closes idle connections

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn's signature
        self._registry.rejections.count("malformed")
        self._refuse(b"400 Bad Request")

    def _refuse(self, status: bytes) -> None:
        """Reject a malformed request and close. uvicorn's implementation fails if a response has started."""
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
        """Return whether the client has exceeded the timeout for sending a request or reading a response.

        Read progress is the number of bytes acknowledged by the client's kernel. The size of the write buffer is not
        sufficient: the local kernel buffers megabytes, and TLS has its own buffer.
        """
        unsent = self.transport.get_write_buffer_size()
        progress = (_bytes_acknowledged(self.transport), unsent)
        if progress != self._progress:
            if self._progress is not None and self.cycle is not None:
                self._progressed = now
            self._progress = progress
        if self.is_responding and not unsent:
            return False
        return now - max(self.since, self._progressed) > (self._limits.write if unsent else self._longest_silence)

    @property
    def _longest_silence(self) -> float:
        return self._limits.keep_alive if self._is_kept_alive else self._limits.idle

    def quiet_for(self, now: float) -> float:
        """Return the seconds until the client can exceed a timeout, after `is_overdue(now)`.

        0 while it is being served. A client that then still reads what the kernel holds gets more time.
        """
        if self.is_responding or self.transport.get_write_buffer_size():
            return 0.0
        return max(0.0, max(self.since, self._progressed) + self._longest_silence - now)

    def abort(self) -> None:
        self.transport.abort()

    def end(self, even_mid_response: bool = False) -> None:
        """Close the connection: after the response in progress, or immediately if `even_mid_response`."""
        if even_mid_response and self.is_responding and self.cycle.response_started:
            self.transport.abort()
        if not self.transport.is_closing():
            self.shutdown()


def _bytes_acknowledged(transport: asyncio.Transport) -> int:
    connection = transport.get_extra_info("socket")
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED + 8)
    except (OSError, AttributeError):  # closed in the meantime, or not TCP
        return 0
    return int(struct.unpack_from("=Q", info, _BYTES_ACKED)[0]) if len(info) == _BYTES_ACKED + 8 else 0
