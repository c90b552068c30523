"""An HTTP proxy on a free port: it forwards requests in absolute form, and tunnels CONNECT."""

from __future__ import annotations

import base64
import contextlib
import http.client
import select
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator


class Proxy:
    """A running proxy. `seen` are the request lines, and `headers` those of the last request."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.seen: list[str] = []
        self.headers: dict[str, str] = {}


@contextlib.contextmanager
def http_proxy(account: str = "") -> Iterator[Proxy]:
    """Run a proxy that requires the account `user:password`, if there is one."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    proxy = Proxy(f"http://127.0.0.1:{server.server_address[1]}")
    server.proxy = proxy  # type: ignore[attr-defined]  # where the handler finds it
    server.wanted = "Basic " + base64.b64encode(account.encode()).decode() if account else ""  # type: ignore[attr-defined]  # as above
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def _is_refused(self) -> bool:
        proxy: Proxy = self.server.proxy  # type: ignore[attr-defined]  # set by http_proxy
        proxy.seen.append(self.requestline)
        proxy.headers = dict(self.headers)
        wanted = self.server.wanted  # type: ignore[attr-defined]  # set by http_proxy
        if not wanted or self.headers.get("Proxy-Authorization") == wanted:
            return False
        self.close_connection = True
        self.send_response(407)
        self.send_header("Proxy-Authenticate", "Basic")
        self.send_header("Content-Length", "0")
        self.end_headers()
        return True

    def do_CONNECT(self) -> None:
        if self._is_refused():
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port))) as other:
            self.send_response(200)
            self.end_headers()
            self.close_connection = True
            pairs = {self.connection: other, other: self.connection}
            while ready := select.select(list(pairs), [], [], 60)[0]:
                for one in ready:
                    data = one.recv(65536)
                    if not data:
                        return
                    pairs[one].sendall(data)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self._is_refused():
            return
        url = urlsplit(self.path)
        forwarded = {name: value for name, value in self.headers.items() if name.lower() != "proxy-authorization"}
        connection = http.client.HTTPConnection(url.netloc)
        connection.request("POST", url.path, body, forwarded)
        answer = connection.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        connection.close()
