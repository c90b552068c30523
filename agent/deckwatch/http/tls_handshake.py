"""TLS for one connection: asyncio's protocol with a small buffer, a handshake limit and a response to plain HTTP."""

from __future__ import annotations

import re
from asyncio import sslproto
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    import ssl

    from deckwatch.http.connection import Connection
    from deckwatch.http.connections import Connections

_HTTP_REQUEST = re.compile(rb"[A-Z]{3,7}(?: |$)|[A-Z]{8}")
_PLAIN_HTTP = (
    b"HTTP/1.0 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n\r\n"
    b"This port requires HTTPS. Use https:// in the URL, or scheme: https in Prometheus' scrape config.\n"
)


class TlsHandshake(sslproto.SSLProtocol):
    """asyncio's TLS with one eighth of its buffer: 256 KiB per idle client could exhaust the memory."""

    max_size = 32 * 1024

    def __init__(self, connection: Connection, connections: Connections, context: ssl.SSLContext) -> None:
        super().__init__(
            connection.loop,
            connection,
            context,
            None,  # type: ignore[arg-type]  # nothing waits for the handshake; asyncio allows None
            server_side=True,
            ssl_handshake_timeout=connections.limits.handshake,  # type: ignore[arg-type]  # typeshed declares int
            ssl_shutdown_timeout=connections.limits.stop,
        )
        self._connection = connection
        self._registry = connections
        self.has_received = False
        self.address = ""
        self._plain: asyncio.Transport | None = None
        self._buffer = memoryview(b"")

    def connection_made(self, transport: Any) -> None:
        self._plain = transport
        self.address = (transport.get_extra_info("peername") or ("",))[0]
        self._registry.begin_handshake(self._connection, self)
        super().connection_made(transport)

    def get_buffer(self, n: int) -> memoryview:
        buffer: memoryview = super().get_buffer(n)
        if not self.has_received:
            self._buffer = buffer
        return buffer

    def buffer_updated(self, nbytes: int) -> None:
        if not self.has_received:
            self.has_received = True
            begin, self._buffer = bytes(self._buffer[: min(nbytes, 8)]), memoryview(b"")
            if _HTTP_REQUEST.match(begin) and self._plain is not None:
                self._registry.rejections.count("plain_http")
                self._plain.write(_PLAIN_HTTP)
                self._plain.close()
                return
        super().buffer_updated(nbytes)

    def abort(self) -> None:
        if self._plain is not None:
            self._plain.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._registry.handshaking.pop(self._connection, None)
        super().connection_lost(exc)
        self._plain = None
        del self._connection  # break a reference cycle that would keep the TLS buffers until garbage collection
