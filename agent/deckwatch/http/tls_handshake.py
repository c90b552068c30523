"""The TLS handshake of one connection: asyncio's protocol, with a small buffer and a place in the registry."""

from __future__ import annotations

from asyncio import sslproto
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl

    from deckwatch.http.connection import Connection
    from deckwatch.http.connections import Connections


class TlsHandshake(sslproto.SSLProtocol):
    """asyncio's TLS with an eighth of its buffer: 256 KiB for every silent client add up to an outage."""

    max_size = 32 * 1024

    def __init__(self, connection: Connection, connections: Connections, context: ssl.SSLContext) -> None:
        super().__init__(
            connection.loop,
            connection,
            context,
            None,  # type: ignore[arg-type]  # nobody waits for the handshake; asyncio allows that
            server_side=True,
            ssl_handshake_timeout=connections.limits.handshake,  # type: ignore[arg-type]  # typeshed has only int
            ssl_shutdown_timeout=connections.limits.stop,
        )
        self._connection = connection
        self._registry = connections

    def connection_made(self, transport: Any) -> None:
        self._registry.begin_handshake(self._connection, transport)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._registry.handshaking.pop(self._connection, None)
        super().connection_lost(exc)
        del self._connection  # a cycle, with the buffers of TLS in it, would wait for the garbage collector
