"""Connections of probes: names resolved, TCP, TLS, each within the deadline of the probe."""

from __future__ import annotations

import io
import socket
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deckwatch.exporter import BoundedCall, Gauge, tls_failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Sample
    from deckwatch_exporters.clients.stream import Deadline

LOOKUP = Gauge("probe_dns_lookup_time_seconds", "Duration of resolving the endpoint's host name, in seconds.")
IP_PROTOCOL = Gauge("probe_ip_protocol", "Version of the Internet protocol that the probe used: 4 or 6.")
IP_HASH = Gauge("probe_ip_addr_hash", "Hash of the endpoint's address, which changes with the address.")

_MAX_HUNG_LOOKUPS = 4
_FAMILIES = {"any": (socket.AF_INET6, socket.AF_INET), "ip4": (socket.AF_INET,), "ip6": (socket.AF_INET6,)}


class ProbeFailed(Exception):
    """Why a probe failed, without secrets. `is_regex` where a regular expression decided."""

    def __init__(self, reason: str, *, is_regex: bool = False) -> None:
        super().__init__(reason)
        self.is_regex = is_regex


@dataclass
class Address:
    """What the first lookup of a probe found, and the address that was used."""

    lookup: float = 0.0
    ip: str = ""

    def samples(self) -> Iterator[Sample]:
        yield LOOKUP(self.lookup)
        if self.ip:
            yield IP_PROTOCOL(6 if ":" in self.ip else 4)
            yield IP_HASH(_fnv1a(socket.inet_pton(socket.AF_INET6 if ":" in self.ip else socket.AF_INET, self.ip)))


class Resolver:
    """Resolves names. A lookup that hangs costs one thread, and at most four do."""

    def __init__(self) -> None:
        self._pending: dict[tuple[str, int], BoundedCall[list[Any]]] = {}

    def addresses(self, host: str, port: int, protocol: str, deadline: Deadline) -> list[tuple[int, Any]]:
        """Family and address of one server for each permitted family, IPv6 first. Raises ProbeFailed, TimeoutError."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except (OSError, UnicodeError):
            found = self._looked_up(host, port, deadline)
        first = {family: address for family, _, _, _, address in reversed(found)}
        usable: list[tuple[int, Any]] = [(family, first[family]) for family in _FAMILIES[protocol] if family in first]
        if not usable:
            raise ProbeFailed(f"{host} has no address for ip_protocol {protocol}")
        return usable

    def _looked_up(self, host: str, port: int, deadline: Deadline) -> list[Any]:
        key = (host, port)
        if key not in self._pending and len(self._pending) >= _MAX_HUNG_LOOKUPS:
            raise ProbeFailed(f"cannot resolve {host}: earlier lookups hang. Check the name servers")
        lookup = self._pending.setdefault(
            key, BoundedCall(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), "resolve")
        )
        try:
            found = lookup.result(deadline.remaining())
        except TimeoutError:
            raise
        except (OSError, UnicodeError) as failure:
            del self._pending[key]
            raise ProbeFailed(f"cannot resolve {host}: {_reason(failure)}") from None
        del self._pending[key]
        return found


class Connection:
    """A connected socket. Every read ends with the deadline, however slowly the server sends."""

    def __init__(self, addresses: list[tuple[int, Any]], used: Address, deadline: Deadline) -> None:
        self.deadline = deadline
        self.first_byte: float | None = None  # perf_counter() of the first byte after the last send
        for position, (family, address) in enumerate(addresses):
            used.ip = str(address[0]).partition("%")[0]
            self.socket = socket.socket(family, socket.SOCK_STREAM)
            try:
                self.socket.settimeout(deadline.share(len(addresses) - position).remaining())
                self.socket.connect(address)
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return
            except OSError as failure:
                self.socket.close()
                if position == len(addresses) - 1:
                    if isinstance(failure, TimeoutError):
                        raise TimeoutError from None
                    raise ProbeFailed(f"cannot connect to {used.ip}: {_reason(failure)}") from None

    def start_tls(self, context: ssl.SSLContext, server_name: str) -> None:
        """Raises ProbeFailed, TimeoutError."""
        self.socket.settimeout(self.deadline.remaining())
        try:
            self.socket = context.wrap_socket(self.socket, server_hostname=server_name)
        except TimeoutError:
            raise
        except ssl.SSLError as failure:
            raise ProbeFailed(tls_failure(failure)) from None
        except (OSError, ValueError) as failure:
            raise ProbeFailed(f"TLS failed: {_reason(failure)}") from None

    def send(self, data: bytes) -> None:
        self.first_byte = None
        self.socket.settimeout(self.deadline.remaining())
        try:
            self.socket.sendall(data)
        except TimeoutError:
            raise
        except OSError as failure:
            raise ProbeFailed(self._alert() or f"cannot send: {_reason(failure)}") from None

    def _alert(self) -> str:
        """What a server said before it closed the connection: in TLS 1.3, it refuses a client's certificate after the
        handshake, and sending then fails with nothing but an end of file."""
        try:
            self.socket.recv(1)
        except ssl.SSLError as failure:
            return tls_failure(failure)
        except OSError:
            pass
        return ""

    def makefile(self, mode: str = "rb") -> io.BufferedReader:
        """A reader, as http.client asks a socket for it."""
        del mode
        return io.BufferedReader(_Reader(self), 64 * 1024)

    def close(self) -> None:
        self.socket.close()


class _Reader(io.RawIOBase):
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        connection = self._connection
        connection.socket.settimeout(connection.deadline.remaining())
        try:
            size = connection.socket.recv_into(buffer)
        except TimeoutError:
            raise
        except ssl.SSLError as failure:
            raise ProbeFailed(tls_failure(failure)) from None
        except OSError as failure:
            raise ProbeFailed(f"the connection was lost: {_reason(failure)}") from None
        if connection.first_byte is None:
            connection.first_byte = time.perf_counter()
        return size


def _reason(failure: Exception) -> str:
    text = failure.strerror if isinstance(failure, OSError) and failure.strerror else str(failure)
    return " ".join(text.split())[:200] or type(failure).__name__


def _fnv1a(data: bytes) -> int:
    """The 32-bit FNV-1a hash (http://www.isthe.com/chongo/tech/comp/fnv/)."""
    value = 0x811C9DC5
    for byte in data:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value
