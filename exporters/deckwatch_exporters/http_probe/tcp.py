"""TCP and TLS probes: a connection, and optionally lines that are sent and expected."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .certificates import tls_samples
from .network import Address, Connection, ProbeFailed

if TYPE_CHECKING:
    import io
    import ssl
    from collections.abc import Callable

    from deckwatch.exporter import Malformed, Pattern, Sample, Samples
    from deckwatch_exporters.clients.stream import Deadline

    from .network import Resolver
    from .settings import ProbeSettings

_MAX_LINE = 64 * 1024


@dataclass
class TcpResult:
    """What a TCP probe has measured so far; `activity` is what it is doing."""

    address: Address = field(default_factory=Address)
    tls: tuple[Sample | Malformed, ...] = ()
    activity: str = ""

    def samples(self) -> Samples:
        yield from self.address.samples()
        yield from self.tls


class TcpProbe:
    """Connects to a port, and talks to the server as the settings say. `context()` returns the TLS context."""

    def __init__(self, settings: ProbeSettings, resolver: Resolver, context: Callable[[], ssl.SSLContext]) -> None:
        self._settings = settings
        self._resolver = resolver
        self._context = context

    def run(self, result: TcpResult, deadline: Deadline) -> None:
        """Fill the result. Raises ProbeFailed, TimeoutError."""
        url = self._settings.parts
        host, port = url.hostname or "", url.port or 0
        result.activity = f"resolving {host}"
        began = time.perf_counter()
        addresses = self._resolver.addresses(host, port, self._settings.ip_protocol, deadline)
        result.address.lookup = time.perf_counter() - began
        result.activity = f"connecting to {host}:{port}"
        connection = Connection(addresses, result.address, deadline)
        try:
            if url.scheme == "tls":
                self._start_tls(connection, host, result)
            self._talk(connection, host, result)
        finally:
            connection.close()

    def _start_tls(self, connection: Connection, host: str, result: TcpResult) -> None:
        result.activity = "waiting for the TLS handshake"
        connection.start_tls(self._context(), self._settings.tls.server_name or host)
        result.tls = tuple(tls_samples(connection.socket, cipher=False))  # type: ignore[arg-type]  # a TLS socket now

    def _talk(self, connection: Connection, host: str, result: TcpResult) -> None:
        reader = connection.makefile()
        for number, step in enumerate(self._settings.steps):
            if step.send is not None:
                result.activity = f"sending steps[{number}]"
                connection.send(step.send.get_secret_value().encode() + b"\n")
            elif step.expect is not None:
                result.activity = f"waiting for a line that matches {step.expect.pattern}"
                _expect(reader, step.expect)
            else:
                self._start_tls(connection, host, result)
                reader = connection.makefile()


def _expect(reader: io.BufferedReader, pattern: Pattern) -> None:
    while line := reader.readline(_MAX_LINE):
        if pattern.search(line.rstrip(b"\r\n").decode("utf-8", "replace")):
            return
    raise ProbeFailed(f"the server closed the connection without a line that matches {pattern.pattern}", is_regex=True)
