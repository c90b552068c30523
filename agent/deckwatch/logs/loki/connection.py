"""A kept-open HTTP connection with a deadline over all of a request, which a stop brings near.

`http.client` has a time-out for each read only: a server that trickles could hold a push for ever.
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

_STEP = 0.2  # seconds between looks at whether a stop was asked for
_STOP_GRACE = 1.0  # seconds that a request under way may still take after that
_SLICE = 256 * 1024


class Deadline:
    """When a request is to have ended."""

    def __init__(self, seconds: float, stop: Event) -> None:
        self._end = time.monotonic() + seconds
        self._seconds = seconds
        self._stop = stop
        self._stopping = False

    def left(self) -> float:
        """Seconds. Raises TimeoutError when there are none."""
        if not self._stopping and self._stop.is_set():
            self._stopping = True
            self._end = min(self._end, time.monotonic() + _STOP_GRACE)
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("stopped" if self._stopping else f"no answer in {self._seconds:g} s")
        return left

    def step(self) -> float:
        """Seconds to wait at most before the next look at what is left."""
        return min(self.left(), _STEP)


class _Socket:
    """As much of a connected socket as http.client uses, with a deadline."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self.deadline: Deadline | None = None

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            piece = view[:_SLICE]
            view = view[self._within(lambda: self._socket.send(piece)) :]  # noqa: B023  called before the next turn

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self), 65536)

    def close(self) -> None:
        """http.client closes before the answer is read, where it is the last one: `end` is the end."""

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
    """Reads from a socket that stays open when an answer is done with."""

    def __init__(self, source: _Socket) -> None:
        super().__init__()
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._source.readinto(buffer)


class Connection:
    """To `address`, with TLS where there is a context for it. Raises OSError and http.client.HTTPException."""

    def __init__(
        self, address: tuple[str, int], context: ssl.SSLContext | None, server_name: str, deadline: Deadline
    ) -> None:
        self._http = http.client.HTTPConnection(*address)
        self._http.auto_open = 0
        if context is not None:
            self._http.default_port = 443  # which the Host header leaves out
        connected = socket.create_connection(address, timeout=deadline.left())
        try:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                connected.settimeout(deadline.left())
                connected = context.wrap_socket(connected, server_hostname=server_name)
        except OSError:
            connected.close()
            raise
        self._socket = _Socket(connected)
        self._http.sock = self._socket

    def post(
        self, target: str, body: bytes, headers: dict[str, str], deadline: Deadline, most: int
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """The answer, and at most `most` bytes of its body."""
        self._socket.deadline = deadline
        # A server may answer before it has read all, and close: the answer counts.
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            self._http.request("POST", target, body, headers)
        answer = self._http.getresponse()
        return answer, answer.read(most)

    def close(self) -> None:
        self._http.close()
        self._socket.end()
