"""Connections that never finish a TLS handshake do not lock out others."""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING

import pytest

from agent.serving import GET, FakeWatch, Server, serving
from certificates import Authority
from deckwatch.http.limits import Limits
from deckwatch.http.web_config import WebConfigFile

if TYPE_CHECKING:
    from pathlib import Path

LIMITS = Limits(handshakes=10, handshake=60, idle=60, sweep=0.05)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path)
    authority.issue("web")
    (tmp_path / "web.yml").write_text("tls_server_config: {cert_file: web.crt, key_file: web.key}\n")
    return authority


class SlowClient:
    """A TLS client with a step-by-step handshake, as on a slow network."""

    def __init__(self, server: Server, authority: Authority, source: str = "") -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = authority.trusting().wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")
        self.socket = server.connect(source)

    def begin(self) -> None:
        """Send the ClientHello and wait for the first part of the reply."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        self.socket.sendall(self._outgoing.read())
        self._receive()

    def finish(self) -> bytes:
        """Return the first bytes of the response to a request."""
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._receive()
        self._tls.write(GET)
        self.socket.sendall(self._outgoing.read())
        while True:
            try:
                return self._tls.read(12)
            except ssl.SSLWantReadError:
                self._receive()

    def _receive(self) -> None:
        self.socket.settimeout(30)
        part = self.socket.recv(65536)
        assert part, "the server closed the connection"
        self._incoming.write(part)


def flood(server: Server, open_ones: contextlib.ExitStack, connections: int, content: bytes = b"") -> None:
    for _ in range(connections):
        client = open_ones.enter_context(server.connect())
        if content:
            with contextlib.suppress(OSError):
                client.sendall(content)


def test_a_slow_handshake_survives_a_flood_of_idle_connections(authority: Authority, tmp_path: Path) -> None:
    file = WebConfigFile(tmp_path / "web.yml")
    with serving(FakeWatch(), file, LIMITS) as server, contextlib.ExitStack() as open_ones:
        client = SlowClient(server, authority)
        open_ones.enter_context(client.socket)
        client.begin()
        flood(server, open_ones, 100)
        assert client.finish() == b"HTTP/1.1 200"


def test_a_slow_handshake_survives_a_flood_of_handshakes_from_another_address(
    authority: Authority, tmp_path: Path
) -> None:
    file = WebConfigFile(tmp_path / "web.yml")
    with serving(FakeWatch(), file, LIMITS) as server, contextlib.ExitStack() as open_ones:
        client = SlowClient(server, authority, "127.0.0.2")
        open_ones.enter_context(client.socket)
        client.begin()
        flood(server, open_ones, 100, b"\x16\x03\x01\x02\x00\x01")
        assert client.finish() == b"HTTP/1.1 200"
