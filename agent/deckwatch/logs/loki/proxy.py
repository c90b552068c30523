"""An HTTP proxy between the agent and Loki: requests in absolute form, or a tunnel for TLS (RFC 9110, 9.3.6)."""

from __future__ import annotations

import base64
import http.client
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    import socket


class ProxyError(OSError):
    """The proxy cannot be reached, or refuses the connection."""


@dataclass(frozen=True)
class Proxy:
    """Where the proxy is, and the value of `Proxy-Authorization`, if it needs one."""

    address: tuple[str, int]
    authorization: str | None = None

    @classmethod
    def at(cls, url: str) -> Proxy:
        """The proxy of a valid URL such as `http://user:password@proxy.example:3128`."""
        parts = urlsplit(url)
        authorization = None
        if parts.username is not None:
            account = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = "Basic " + base64.b64encode(account.encode()).decode()
        return cls((parts.hostname or "", parts.port or 80), authorization)

    @property
    def headers(self) -> dict[str, str]:
        return {"Proxy-Authorization": self.authorization} if self.authorization else {}

    def failed(self, error: OSError) -> ProxyError:
        """The error of a connection to the proxy, with its address."""
        host, port = self.address
        return ProxyError(f"the proxy {host}:{port} cannot be reached ({error.strerror or error})")

    def open_tunnel(self, connected: socket.socket | Any, address: tuple[str, int]) -> None:
        """Let the connected proxy connect to `address`. Raises ProxyError, OSError and http.client.HTTPException."""
        host, port = address
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        connected.sendall("\r\n".join((*lines, "", "")).encode())
        answer = http.client.HTTPResponse(connected, method="CONNECT")
        answer.begin()
        if not 200 <= answer.status < 300:
            hint = ". Check the user and the password in proxy_url." if answer.status == 407 else ""
            raise ProxyError(f"the proxy refuses to connect to {target}: status {answer.status}{hint}")
