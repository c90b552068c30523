"""The HTTP server's sockets: uvicorn's HTTP/1.1 protocol behind an accept loop of our own.

uvicorn alone never closes a connection that sends no request, has no time limit for a TLS handshake that asyncio
does not default, and keeps the TLS context that it was started with. Here each connection gets the context that is
valid when it comes, and one sweep a second closes whatever is idle, slow, or does not read its answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from deckwatch.config import split_listen

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from deckwatch.web_config import WebConfigFile

_log = logging.getLogger("deckwatch.http")


class ListenError(Exception):
    """The address cannot be listened on; the message is one line that says why."""


@dataclass(frozen=True)
class Limits:
    """Seconds and numbers that keep one client from harming the others."""

    idle: float = 10.0  # without a complete request: after connecting, within the headers, between requests
    handshake: float = 10.0
    write: float = 10.0  # without any progress in sending an answer
    connections: int = 512
    header_bytes: int = 16 * 1024
    stop: float = 2.0  # for answers that are under way when the agent stops
    sweep: float = 1.0


class _Protocol(H11Protocol):
    """One connection, and since when it owes us something."""

    def __init__(self, listener: _Listener) -> None:
        super().__init__(config=listener.config, server_state=listener.state, app_state={})
        self._listener = listener
        self.waiting_since: float | None = None  # None while a request is being answered
        self.unsent = 0
        self.unsent_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        self.waiting_since = self.loop.time()
        super().connection_made(transport)
        if not self._listener.web.admits(transport.get_extra_info("peercert")):
            transport.abort()
        self._listener.make_room()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self.waiting_since = None

    def on_response_complete(self) -> None:
        self.waiting_since = self.loop.time()
        super().on_response_complete()

    def is_overdue(self, now: float, limits: Limits) -> bool:
        """Whether the client is idle, too slow with its request, or does not read."""
        unsent = self.transport.get_write_buffer_size()
        if unsent:
            if unsent != self.unsent:
                self.unsent, self.unsent_since = unsent, now
            return now - self.unsent_since > limits.write
        self.unsent = 0
        return self.waiting_since is not None and now - self.waiting_since > limits.idle


class _Listener:
    def __init__(self, app: ASGIApp, web: WebConfigFile, limits: Limits) -> None:
        self.limits = limits
        self.state = ServerState()
        self.config = uvicorn.Config(
            web.guard(app),
            http=_Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=3600,  # the sweep closes idle connections
            h11_max_incomplete_event_size=limits.header_bytes,
        )
        self.config.load()
        self.web = web
        self._handshakes: dict[asyncio.Task[None], None] = {}
        # A malformed request is the client's affair; nobody may fill our log with it.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)

    @property
    def connections(self) -> list[_Protocol]:
        return [connection for connection in self.state.connections if isinstance(connection, _Protocol)]

    def make_room(self) -> None:
        """Over the limit, close the connection that has been without a request for longest."""
        if len(self.state.connections) <= self.limits.connections:
            return
        waiting = [connection for connection in self.connections if connection.waiting_since is not None]
        if waiting:
            min(waiting, key=lambda connection: connection.waiting_since or 0.0).transport.abort()

    async def accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listening)
            except OSError as failure:
                # Out of file descriptors or memory: the connections that there are go on, and the sweep frees some.
                if failure.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED):
                    raise
                await asyncio.sleep(0.1)
                continue
            task = loop.create_task(self._take(connection))
            self._handshakes[task] = None
            task.add_done_callback(lambda done: self._handshakes.pop(done, None))
            if len(self._handshakes) > self.limits.connections:
                next(iter(self._handshakes)).cancel()

    async def _take(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        context = self.web.tls_context()
        timeout = self.limits.handshake if context else None
        try:
            await loop.connect_accepted_socket(
                lambda: _Protocol(self), connection, ssl=context, ssl_handshake_timeout=timeout
            )
        except (OSError, TimeoutError):  # ssl.SSLError is an OSError: no TLS, an unknown certificate, gone meanwhile
            connection.close()

    async def sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.limits.sweep)
            now = loop.time()
            for connection in self.connections:
                if connection.is_overdue(now, self.limits):
                    connection.transport.abort()

    async def finish(self) -> None:
        """Let the answers that are under way end, then close everything."""
        deadline = asyncio.get_running_loop().time() + self.limits.stop
        while any(connection.waiting_since is None for connection in self.connections):
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.01)
        for connection in self.connections:
            connection.transport.close()


def bind(listen: str) -> socket.socket:
    """A listening socket. Raises ListenError, in words."""
    host, port = split_listen(listen)
    try:
        addresses = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # Without a host, `::` takes IPv4 connections too.
        family, kind, protocol, _, address = max(addresses, key=lambda found: not host and found[0] == socket.AF_INET6)
        listening = socket.socket(family, kind, protocol)
    except OSError as failure:
        raise ListenError(f"cannot listen on {listen}: {failure.strerror}") from failure
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(bool(host)))
        listening.bind(address)
        listening.listen(1024)
        listening.setblocking(False)
    except OSError as failure:
        listening.close()
        hints = {
            errno.EADDRINUSE: "the port is in use; is another Deckwatch running? Choose another with --listen",
            errno.EACCES: "this port needs privileges; choose one above 1023",
            errno.EADDRNOTAVAIL: "this machine has no such address",
        }
        raise ListenError(f"cannot listen on {listen}: {hints.get(failure.errno or 0, failure.strerror)}") from failure
    return listening


def address_of(listening: socket.socket) -> str:
    """`host:port` as a URL has it; `localhost` where it listens on all addresses."""
    host, port = listening.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "localhost"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def serve(
    app: ASGIApp,
    listening: socket.socket,
    web: WebConfigFile,
    stop: asyncio.Event,
    limits: Limits | None = None,
) -> None:
    """Answer on a listening socket until `stop` is set."""
    listener = _Listener(app, web, limits or Limits())
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(listener.accept(listening)), loop.create_task(listener.sweep())]
    stopped = loop.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopped}:
            task.result()
    finally:
        for task in (*tasks, stopped):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        listening.close()
        await listener.finish()
