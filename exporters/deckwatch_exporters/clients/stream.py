"""One open connection to a server: its socket and TLS, with a deadline for each operation."""

from __future__ import annotations

import socket
import ssl
import time
from typing import TypeAlias

from deckwatch.exporter import tls_failure

#: A host and port, or the path of a Unix socket.
Endpoint: TypeAlias = "tuple[str, int] | str"

_CHUNK = 128 * 1024


class LinkError(Exception):
    """Why a connection cannot be opened or used, without the server's address."""


class LinkClosed(LinkError):
    """The connection was closed: the server restarted, or ended an idle connection."""


class Deadline:
    """The end of a time limit, in seconds from now."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds until the deadline. Raises TimeoutError if it has passed."""
        seconds = self._end - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds

    def share(self, number: int) -> Deadline:
        """The first of `number` equal parts of the remaining time."""
        return Deadline(self.remaining() / number)


class Stream:
    """A connected socket. Its methods raise LinkError, and TimeoutError after the deadline."""

    def __init__(self, endpoint: Endpoint, tls: ssl.SSLContext | None, deadline: Deadline) -> None:
        try:
            self._socket = _connect(endpoint, deadline)
        except TimeoutError:
            raise
        except (OSError, ValueError) as failure:  # ValueError: a host name that cannot be encoded
            raise LinkError(_reason(failure)) from None
        if tls is not None:
            try:
                self._socket.settimeout(deadline.remaining())
                self._socket = tls.wrap_socket(self._socket, server_hostname=endpoint[0])
            except TimeoutError:
                self.close()
                raise LinkError("TLS handshake timed out. Check whether url names a TLS port") from None
            except (OSError, ValueError) as failure:
                self.close()
                raise LinkError(_reason(failure)) from None

    def close(self) -> None:
        self._socket.close()

    def send(self, data: bytes, deadline: Deadline) -> None:
        self._socket.settimeout(deadline.remaining())
        try:
            self._socket.sendall(data)
        except TimeoutError:
            raise
        except OSError as failure:
            raise LinkClosed(_reason(failure)) from None

    def receive(self, deadline: Deadline) -> bytes:
        """The next bytes, at least one."""
        self._socket.settimeout(deadline.remaining())
        try:
            data = self._socket.recv(_CHUNK)
        except TimeoutError:
            raise
        except OSError as failure:
            raise LinkClosed(_reason(failure)) from None
        if not data:
            raise LinkClosed("the server closed the connection")
        return data


def _connect(endpoint: Endpoint, deadline: Deadline) -> socket.socket:
    """A connected socket, to the first address of a host that accepts."""
    if isinstance(endpoint, str):
        return _connect_to(socket.AF_UNIX, endpoint, deadline)
    addresses = socket.getaddrinfo(*endpoint, type=socket.SOCK_STREAM)
    for position, (family, _, _, _, address) in enumerate(addresses):
        is_last = position == len(addresses) - 1
        try:
            connected = _connect_to(family, address, deadline.share(len(addresses) - position))
        except OSError:
            if is_last:
                raise
        else:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connected
    raise OSError("the host has no address")


def _connect_to(family: int, address: object, deadline: Deadline) -> socket.socket:
    connected = socket.socket(family, socket.SOCK_STREAM)
    try:
        connected.settimeout(deadline.remaining())
        connected.connect(address)  # type: ignore[arg-type]  # getaddrinfo's, or a path
    except BaseException:
        connected.close()
        raise
    return connected


def _reason(failure: Exception) -> str:
    if isinstance(failure, ssl.SSLError):
        return tls_failure(failure)
    if isinstance(failure, OSError) and failure.strerror:
        return failure.strerror
    return " ".join(str(failure).split()) or type(failure).__name__
