"""A persistent HTTP connection with a deadline for each request as a whole. A stop request shortens it.

`http.client` only has a timeout per read, so a server that sends slowly could block a push indefinitely.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from threading import Event

    from deckwatch.logs.loki.proxy import Proxy

_STEP = 0.2  # seconds between checks for a stop request
_STOP_GRACE = 1.0  # seconds that a request in progress may still take after a stop request
_SLICE = 256 * 1024


class Deadline:
    """The time by which a request must finish."""

    def __init__(self, seconds: float, stop: Event) -> None:
        self._end = time.monotonic() + seconds
        self._seconds = seconds
        self._stop = stop
        self._stopping = False

    def left(self) -> float:
        """Return the remaining seconds. Raises TimeoutError when the deadline has passed."""
        if not self._stopping and self._stop.is_set():
            self._stopping = True
            self._end = min(self._end, time.monotonic() + _STOP_GRACE)
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("stopped" if self._stopping else f"timed out after {self._seconds:g} s")
        return left

    def step(self) -> float:
        """Return the maximum number of seconds to wait before the next check of the deadline."""
        return min(self.left(), _STEP)


class _Socket:
    """The parts of a connected socket that http.client uses, with a deadline."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self.deadline: Deadline | None = None

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            piece = view[:_SLICE]
            view = view[self._within(lambda: self._socket.send(piece)) :]  # noqa: B023  called before the next iteration

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self), 65536)

    def close(self) -> None:
        """Do nothing: http.client calls this before it reads the last response. `end` closes the socket."""

    def end(self) -> None:
        self._socket.close()

    def readinto(self, buffer: Any) -> int:
        return self._within(lambda: self._socket.recv_into(buffer))

    def _within(self, operation: Callable[[], int]) -> int:
        assert self.deadline is not None
        while True:
            self._socket.settimeout(self.deadline.step())
            with contextlib.suppress(TimeoutError):
                return operation()


class _Reader(io.RawIOBase):
    """Reads from a socket without closing it after each response."""

    def __init__(self, source: _Socket) -> None:
        super().__init__()
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._source.readinto(buffer)


class Connection:
    """An HTTP connection to `address`, with TLS if `context` is set. Raises OSError and http.client.HTTPException."""

    def __init__(
        self,
        address: tuple[str, int],
        context: ssl.SSLContext | None,
        server_name: str,
        deadline: Deadline,
        proxy: Proxy | None = None,
    ) -> None:
        self._http = http.client.HTTPConnection(*address)
        self._http.auto_open = 0
        if context is not None:
            self._http.default_port = 443  # omitted from the Host header
        try:
            connected = socket.create_connection(proxy.address if proxy else address, timeout=deadline.left())
        except OSError as error:
            if proxy is None or isinstance(error, TimeoutError):
                raise
            raise proxy.failed(error) from None
        try:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                if proxy is not None:
                    through = _Socket(connected)
                    through.deadline = deadline
                    proxy.open_tunnel(through, address)
                connected.settimeout(deadline.left())
                connected = context.wrap_socket(connected, server_hostname=server_name)
        except (OSError, http.client.HTTPException):
            connected.close()
            raise
        self._socket = _Socket(connected)
        self._http.sock = self._socket

    def post(
        self, target: str, body: bytes, headers: dict[str, str], deadline: Deadline, most: int
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """Send a POST request. Return the response and at most `most` bytes of its body."""
        self._socket.deadline = deadline
        # A server may respond and close before it has read the whole request. Use that response.
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            self._http.request("POST", target, body, headers)
        answer = self._http.getresponse()
        return answer, answer.read(most)

    def close(self) -> None:
        self._http.close()
        self._socket.end()
