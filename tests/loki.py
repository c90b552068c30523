"""A strict double of Loki 3, over real HTTP: its limits, orderings, partial acceptance and rate limits.

`loki()` runs the double. `Loki` reads stored entries from it or from a real Loki, so the same tests run with either. If
DECKWATCH_TEST_LOKI_URL is set, `loki_under_test()` returns the real one.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import socket
import struct
import sys
import threading
import time
import urllib.parse
from collections import Counter
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal

from loki_reader import Loki, Stored, assert_exactly_once
from loki_store import Limits, Refused, Store, Stream
from loki_wire import read_push

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping

    from loki_store import Entry, Labels

__all__ = ["Double", "Fault", "Loki", "Request", "Stored", "assert_exactly_once", "loki", "loki_under_test"]

PUSH = "/loki/api/v1/push"
#: The tenant of requests without one.
DEFAULT_TENANT = "fake"


@dataclass(frozen=True)
class Fault:
    """A fault in the handling of a push.

    `status`: respond with this status and store nothing. `hang`: never respond. `close_in_body`: reset the connection
    in the middle of the body. `store_and_close`: store, then close without a response. `slow`: respond correctly, but
    send one byte every `seconds`. `refuse`: close immediately.
    """

    kind: Literal["status", "hang", "close_in_body", "store_and_close", "slow", "refuse"]
    status: int = 500
    text: str = "deliberate failure"
    retry_after: str | None = None
    seconds: float = 0.2
    content_type: str = "text/plain; charset=utf-8"
    location: str | None = None


@dataclass(frozen=True)
class Request:
    """A received push. `status` is 0 if there was no response."""

    status: int
    tenant: str
    headers: Mapping[str, str]
    body: bytes
    at: float  # Unix seconds


class Double(Loki):
    """A running double. Each push uses up one of `next_faults`; when there are none left, `fault` applies."""

    def __init__(self, url: str, limits: Limits, tenants: bool, authorization: str | None, tenant: str | None) -> None:
        super().__init__(url, tenant)
        self.limits = limits
        self.fault: Fault | None = None
        self.next_faults: list[Fault] = []
        self.requests: list[Request] = []
        self.now = time.time  # its clock
        self.retry_after: str | None = None  # Retry-After of each 429
        self.refused_tenants: dict[str, int] = {}  # the status by tenant
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self.connections = 0
        self._stores: dict[str, Store] = {}
        self._asks_tenant = tenants
        self._authorization = authorization

    @property
    def stored(self) -> dict[Labels, list[Entry]]:
        """The entries of this double's tenant by stream, in order of arrival."""
        with self.lock:
            return {labels: list(stream.entries) for labels, stream in self._streams().items()}

    @property
    def stored_lines(self) -> list[str]:
        return [line for entries in self.stored.values() for _, line, _ in entries]

    @property
    def sent_again(self) -> int:
        """The number of entries that arrived more than once, identical to the byte."""
        with self.lock:
            return sum(stream.sent_again for stream in self._streams().values())

    @property
    def discarded(self) -> Counter[str]:
        """The number of rejected entries by Loki's reason."""
        with self.lock:
            return Counter(self.store(self.tenant or DEFAULT_TENANT).discarded)

    def statuses(self) -> list[int]:
        with self.lock:
            return [request.status for request in self.requests]

    def store(self, tenant: str) -> Store:
        if tenant not in self._stores:
            self._stores[tenant] = Store(self.limits, tenant, lambda: self.now())
        return self._stores[tenant]

    def next_fault(self) -> Fault | None:
        with self.lock:
            return self.next_faults.pop(0) if self.next_faults else self.fault

    def tenant_of(self, headers: Mapping[str, str]) -> str:
        """Raises Refused with 401."""
        if self._authorization and headers.get("Authorization") != self._authorization:
            raise Refused(401, "Unauthorized")
        if not self._asks_tenant:
            return DEFAULT_TENANT
        tenant = headers.get("X-Scope-OrgID")
        if not tenant:
            raise Refused(401, "no org id")
        if tenant in self.refused_tenants:
            raise Refused(self.refused_tenants[tenant], "this tenant is refused")
        return tenant

    def _streams(self) -> dict[Labels, Stream]:
        return self.store(self.tenant or DEFAULT_TENANT).streams


@contextlib.contextmanager
def loki(
    *,
    port: int = 0,
    tls: ssl.SSLContext | None = None,
    tenant: str | None = None,
    basic: tuple[str, str] | None = None,
    bearer: str | None = None,
    **limits: Any,
) -> Iterator[Double]:
    """Run a double with these limits (see Limits). With a `tenant`, requests must name one."""
    authorization = f"Bearer {bearer}" if bearer else None
    if basic:
        authorization = "Basic " + base64.b64encode(":".join(basic).encode()).decode()
    server = _Server(("127.0.0.1", port), _Handler)
    scheme = "https" if tls else "http"
    url = f"{scheme}://127.0.0.1:{server.server_address[1]}"
    server.double = Double(url, Limits(**limits), tenant is not None, authorization, tenant)
    server.tls = tls
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.double
    finally:
        server.double.closing.set()
        server.shutdown()
        server.server_close()
        server.cut()
        thread.join(60)
    if server.errors:
        raise server.errors[0]


@contextlib.contextmanager
def loki_under_test() -> Iterator[Loki]:
    """Return the real Loki of DECKWATCH_TEST_LOKI_URL, or run a double."""
    url = os.environ.get("DECKWATCH_TEST_LOKI_URL")
    if url:
        yield Loki(url.rstrip("/"))
        return
    with loki() as double:
        yield double


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    double: Double
    tls: ssl.SSLContext | None

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.errors: list[BaseException] = []
        self._open: set[socket.socket] = set()

    def finish_request(self, request: Any, client_address: Any) -> None:
        with contextlib.suppress(OSError):
            if self.tls is not None:
                request.settimeout(10)
                request = self.tls.wrap_socket(request, server_side=True)
            self._open.add(request)
            self.double.connections += 1
            try:
                super().finish_request(request, client_address)
            finally:
                self._open.discard(request)
                if self.tls is not None:
                    request.close()

    def handle_error(self, *_: Any) -> None:
        """Ignore closed connections. Any other exception fails the test."""
        error = sys.exception()
        if error is not None and not isinstance(error, OSError):
            self.errors.append(error)

    def cut(self) -> None:
        """Close every connection, like a process that exits."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        double = self.server.double
        if urllib.parse.urlsplit(self.path).path != PUSH:
            self._read(int(self.headers["Content-Length"]))
            self._answer(404, "404 page not found\n")
            return
        fault = double.next_fault()
        length = int(self.headers["Content-Length"])
        if fault and fault.kind in ("close_in_body", "refuse"):
            body = self._read(length // 2 if fault.kind == "close_in_body" else 0)
            self._note(0, body)
            self._reset()
            return
        body = self._read(length)
        if fault and fault.kind == "hang":
            self._note(0, body)
            double.closing.wait(120)
            self.close_connection = True
            return
        if fault and fault.kind == "status":
            self._note(fault.status, body)
            self._answer(fault.status, fault.text, fault.retry_after, fault.content_type, fault.location)
            return
        status, text = self._push(body)
        if fault and fault.kind == "store_and_close":
            self._note(0, body)
            self._reset()
            return
        self._note(status, body)
        if fault and fault.kind == "slow":
            self._trickle(fault.seconds)
            return
        self._answer(status, text, double.retry_after if status == 429 else None)

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        if url.path == "/ready":
            self._answer(200, "ready\n")
            return
        if url.path != "/loki/api/v1/query_range":
            self._answer(404, "404 page not found\n")
            return
        try:
            tenant = self.server.double.tenant_of(self.headers)  # type: ignore[arg-type]  # a Message has `get`
            asked = dict(urllib.parse.parse_qsl(url.query))
            answer = json.dumps({"status": "success", "data": self._query(tenant, asked)})
            self._answer(200, answer, content_type="application/json; charset=UTF-8")
        except Refused as refused:
            self._answer(refused.status, refused.text)

    def _query(self, tenant: str, asked: dict[str, str]) -> dict[str, Any]:
        wanted = dict(re.findall(r'([a-zA-Z_]\w*)\s*=\s*"([^"]*)"', asked["query"]))
        start, end, backward = int(asked["start"]), int(asked["end"]), asked.get("direction") != "forward"
        double = self.server.double
        with double.lock:
            found = [
                (entry, labels)
                for labels, stream in double.store(tenant).streams.items()
                if wanted.items() <= dict(labels).items()
                for entry in stream.entries
                if start <= entry[0] < end
            ]
        found.sort(key=lambda pair: pair[0][0], reverse=backward)
        streams: dict[Labels, list[Any]] = {}
        for (moment, line, metadata), labels in found[: int(asked.get("limit", "100"))]:
            entry = [str(moment), line, {"structuredMetadata": dict(metadata)} if metadata else {}]
            streams.setdefault(labels, []).append(entry)
        return {"resultType": "streams", "result": [{"stream": dict(k), "values": v} for k, v in streams.items()]}

    def _push(self, body: bytes) -> tuple[int, str]:
        double = self.server.double
        try:
            tenant = double.tenant_of(self.headers)  # type: ignore[arg-type]
            kind, encoding = self.headers.get("Content-Type", ""), self.headers.get("Content-Encoding", "")
            streams = read_push(body, kind, encoding, double.limits.body)
            with double.lock:
                double.store(tenant).push(streams)
        except Refused as refused:
            return refused.status, refused.text + "\n"
        return 204, ""

    def _read(self, length: int) -> bytes:
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True
            raise ConnectionResetError("the client ended in the middle of its body")
        return body

    def _note(self, status: int, body: bytes) -> None:
        tenant = self.headers.get("X-Scope-OrgID", "")
        with self.server.double.lock:
            self.server.double.requests.append(Request(status, tenant, dict(self.headers), body, time.time()))

    def _answer(
        self,
        status: int,
        text: str,
        retry_after: str | None = None,
        content_type: str = "text/plain; charset=utf-8",
        location: str | None = None,
    ) -> None:
        content = text.encode()
        self.send_response(status)
        for name, value in (("Retry-After", retry_after), ("Location", location)):
            if value:
                self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if status != 204:
            self.wfile.write(content)

    def _trickle(self, seconds: float) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            for byte in b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n":
                if self.server.double.closing.wait(seconds):
                    return
                self.wfile.write(bytes((byte,)))

    def _reset(self) -> None:
        """Close without a response. Unread data turns this into a reset."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
