"""The HTTP server's sockets: an accept loop that hands each connection to uvicorn's protocol.

uvicorn's own server is not used, because it:

- keeps the TLS settings it was started with,
- accepts its whole backlog before it serves a request,
- stops accepting for a second when file descriptors run out,
- limits neither handshakes nor idle clients,
- wakes up ten times a second.

Here each new connection gets the current TLS context, and a sweep closes idle and slow connections: once a second, or
when the first timeout is due if no client sends or reads anything. While nobody is connected, nothing wakes the event
loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import functools
import logging
import resource
import socket
from email.utils import formatdate
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.server import ServerState

from deckwatch.config import split_listen
from deckwatch.http.connection import Connection
from deckwatch.http.connections import Connections
from deckwatch.http.guard import ACCEPTED_UNDER, guarded
from deckwatch.http.limits import Limits
from deckwatch.http.rejections import Rejections
from deckwatch.http.tls_handshake import TlsHandshake

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from deckwatch.http.web_config import WebConfigFile

_log = logging.getLogger("deckwatch.http")

_HINTS = {
    errno.EADDRINUSE: "the port is in use. Stop the other process, or choose another port with --listen",
    errno.EACCES: "ports below 1024 require privileges. Choose a higher port with --listen",
    errno.EADDRNOTAVAIL: "the address does not belong to this host. Choose another address with --listen",
}


class ListenError(Exception):
    """Listening on the address failed. The message is one line with the reason."""


class _Listener:
    def __init__(self, app: ASGIApp, web: WebConfigFile, limits: Limits, rejections: Rejections) -> None:
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if files != resource.RLIM_INFINITY:
            # Leave half of the file descriptors for the monitored targets.
            limits = dataclasses.replace(limits, connections=max(1, min(limits.connections, files // 2)))
        self._limits = limits
        self._web = web
        self._state = ServerState()
        self._config = uvicorn.Config(
            guarded(app, web, rejections),
            interface="asgi3",
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=limits.header_bytes,
        )
        self._config.load()
        self._connections = Connections(limits, rejections)
        self._beginning: set[asyncio.Task[None]] = set()
        self._active = asyncio.Event()  # clients have sent something since the last sweep
        self._connections.on_activity = self._note_activity
        web.on_change = self._end_outdated

    def _end_outdated(self) -> None:
        """Close connections that were accepted under earlier rules."""
        for connection in list(self._connections.open):
            accepted_under = connection.app_state[ACCEPTED_UNDER]
            if accepted_under is not self._web.rules:
                connection.end(even_mid_response=not self._web.allows_connection(accepted_under))

    async def accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        reported = False
        while True:
            try:
                connection, _ = await loop.sock_accept(listening)
            except OSError as failure:
                if failure.errno in (errno.EBADF, errno.EINVAL):
                    raise
                # accept(2) also returns pending network errors of the new connection. If descriptors or memory run
                # out, closing an idle connection frees some.
                if failure.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._connections.make_room()
                    if not reported:
                        _log.error(
                            "cannot accept connections: %s. Closing idle connections; raise the limit of open files "
                            "(LimitNOFILE).",
                            failure.strerror,
                        )
                        reported = True
                await asyncio.sleep(0.05)
                continue
            self._note_activity()
            task = loop.create_task(self._begin(connection))
            self._beginning.add(task)
            task.add_done_callback(self._beginning.discard)
            # sock_accept() does not yield while connections are pending: a flood of them would block requests.
            await asyncio.sleep(0)

    async def _begin(self, accepted: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as unless_begun:  # OSError: client disconnected
            unless_begun.callback(accepted.close)
            await self._web.refresh()
            rules, context = self._web.rules, self._web.tls_context()
            connection = Connection(
                self._config,
                self._state,
                self._connections,
                self._limits,
                {ACCEPTED_UNDER: rules},
                functools.partial(self._web.admits, rules),
            )
            protocol = TlsHandshake(connection, self._connections, context) if context else connection
            await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, accepted)
            unless_begun.pop_all()

    async def sweep(self) -> None:
        loop = asyncio.get_running_loop()
        quiet_for: float | None = None
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(quiet_for):
                    await self._active.wait()
                await asyncio.sleep(self._limits.sweep)
            self._set_date()
            quiet_for = self._connections.sweep(loop.time())
            if quiet_for != 0 and not self._beginning:
                self._active.clear()

    def _note_activity(self) -> None:
        if not self._active.is_set():
            self._set_date()  # no sweep has updated it
            self._active.set()

    def _set_date(self) -> None:
        self._state.default_headers = [(b"date", formatdate(usegmt=True).encode("ascii"))]

    async def finish(self) -> None:
        """Wait for responses in progress, up to the limit, then close all connections."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._limits.stop
        for task in self._beginning:
            task.cancel()
        for handshake in list(self._connections.handshaking.values()):
            handshake.abort()
        for connection in list(self._connections.open):
            connection.end()
        while self._connections.open and loop.time() < deadline:
            await asyncio.sleep(0.01)
        for connection in list(self._connections.open):
            connection.transport.abort()
        await asyncio.sleep(0.01)  # connection_lost() is called in the next iterations of the event loop


def bind(listen: str) -> socket.socket:
    """Return a listening socket. Raises ListenError, or ValueError for an invalid address."""
    host, port = split_listen(listen)
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as failure:
        raise ListenError(f"cannot listen on {listen}: {failure.strerror}") from failure
    if not host:
        found.sort(key=lambda address: address[0] != socket.AF_INET6)  # `::` accepts IPv4 connections too
    for number, (family, _, _, _, address) in enumerate(found, 1):
        try:
            return _listening(family, address, both=not host)
        except OSError as failure:
            if failure.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL) and number < len(found):
                continue  # `localhost` may also resolve to `::1` on a host without IPv6
            why = _HINTS.get(failure.errno or 0, failure.strerror)
            raise ListenError(f"cannot listen on {listen}: {why}") from failure
    raise ListenError(f"cannot listen on {listen}: the host name has no address")


def _listening(family: int, address: tuple[object, ...], both: bool) -> socket.socket:
    # asyncio sets TCP_NODELAY only if the protocol is given; without it, responses wait 40 ms for an ACK.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not both))
        listening.bind(address)
        listening.listen(1024)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


def address_of(listening: socket.socket) -> str:
    """Return `host:port` for a URL, with `localhost` for a socket that listens on all addresses."""
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
    rejections: Rejections | None = None,
) -> None:
    """Serve `app` on a listening socket until `stop` is set."""
    listener = _Listener(app, web, limits or Limits(), rejections or Rejections())
    await web.refresh()
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
        await asyncio.gather(*tasks, stopped, return_exceptions=True)
        listening.close()
        await listener.finish()
