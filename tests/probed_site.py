"""A web site with well-behaved and faulty pages, and a name server, for probes."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import json
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from deckwatch.testing import Collected, opened
from deckwatch_exporters.http_probe import EXPORTER

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator


class Site(http.server.BaseHTTPRequestHandler):
    """A site with well-behaved and faulty pages."""

    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        getattr(self, f"_{self.path.strip('/').partition('?')[0]}")()

    def do_POST(self) -> None:
        self._send(200, self.rfile.read(int(self.headers["Content-Length"])))

    def _health(self) -> None:
        self._send(200, b'{"status": "ok", "queue": 0}', **{"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"})

    def _broken(self) -> None:
        self._send(503, b"no database")

    def _hop(self) -> None:
        self._send(302, b"", Location="/health")

    def _loop(self) -> None:
        self._send(302, b"", Location="/loop")

    def _away(self) -> None:
        self._send(302, b"", Location="file:///etc/passwd")

    def _elsewhere(self) -> None:
        self._send(302, b"", Location=f"http://localhost:{self.connection.getsockname()[1]}/echo")

    def _echo(self) -> None:
        self._send(200, json.dumps({name.lower(): value for name, value in self.headers.items()}).encode())

    def _packed(self) -> None:
        self._send(200, gzip.compress(b"a" * 1_000_000 + b"the end"), **{"Content-Encoding": "gzip"})

    def _drip(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b"x")
                time.sleep(0.02)

    def _large(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100000000")
        self.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(100):
                self.wfile.write(bytes(1_000_000))
        self.close_connection = True

    def _short(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "10")
        self.end_headers()
        self.wfile.write(b"short")
        self.close_connection = True

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False


class _V6Server(_Server):
    address_family = socket.AF_INET6


@contextlib.contextmanager
def site(tls: ssl.SSLContext | None = None, *, v6: bool = False) -> Iterator[int]:
    """Serve the site and return its port."""
    with _V6Server(("::1", 0), Site) if v6 else _Server(("127.0.0.1", 0), Site) as serving:
        if tls is not None:
            serving.socket = tls.wrap_socket(serving.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=serving.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield serving.server_address[1]
        finally:
            serving.shutdown()


def dns_answer(request: bytes) -> bytes | None:
    """The response of the name server for example.org; None for silent.org. Both are wire formats of RFC 1035."""
    records = {"A": "10.1.2.3", "SOA": "ns.example.org. admin.example.org. 2026 1 2 3 4"}
    query = dns.message.from_wire(request)
    (question,) = query.question
    answer = dns.message.make_response(query)
    kind = dns.rdatatype.to_text(question.rdtype)
    if question.name.to_text() == "missing.org.":
        answer.set_rcode(dns.rcode.NXDOMAIN)
    elif kind in records:
        answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, records[kind]))
    return None if question.name.to_text() == "silent.org." else answer.to_wire()


@contextlib.contextmanager
def name_server(changed: Callable[[bytes], bytes] = bytes) -> Iterator[int]:
    """A name server for example.org over UDP that does not answer for silent.org. Returns its port.

    It sends its answers as `changed`.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as serving:
        serving.bind(("127.0.0.1", 0))

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    data, client = serving.recvfrom(4096)
                    if (answer := dns_answer(data)) is not None:
                        serving.sendto(changed(answer), client)

        threading.Thread(target=serve, daemon=True).start()
        yield serving.getsockname()[1]


@contextlib.contextmanager
def tcp_server(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that accepts connections and calls `talk` with each."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection = listening.accept()[0]
                    with connection, contextlib.suppress(OSError):
                        talk(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]


def probe(url: str, **settings: Any) -> Collected:
    """Collect a probe once. That it fails is a result, not an error."""
    with opened(EXPORTER, {"url": url, **settings}) as target:
        collected = target.collect()
    collected.assert_declared()
    assert not collected.errors, "a probe that fails is a result"
    assert collected.value("probe_success") == (not collected.failed)
    return collected
