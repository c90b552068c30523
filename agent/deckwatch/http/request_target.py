"""The request target: absolute-form URLs and allowed host names."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import Scope


def in_origin_form(scope: Scope) -> Scope:
    """Convert a request with a complete URL as its target: the URL's host replaces the Host header.

    RFC 9112, section 3.2.2: a server must accept this form and ignore the Host header.
    """
    raw_path: bytes = scope["raw_path"]
    if raw_path.startswith(b"/"):
        return scope
    scheme, separator, rest = raw_path.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        return scope
    authority, _, path = rest.partition(b"/")
    headers = [(b"host", authority), *(header for header in scope["headers"] if header[0] != b"host")]
    path = b"/" + path
    return {**scope, "raw_path": path, "path": unquote(path.decode("ascii")), "headers": headers}


class HostNames:
    """The host names that requests to a loopback address may use.

    A web page can make its own name resolve to 127.0.0.1 (DNS rebinding) and then read what the browser's host serves
    there; the Host header still contains the page's name. IP addresses cannot be rebound. `allowed` lists additional
    names, such as those that a reverse proxy on this host forwards.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        own = socket.gethostname().lower()
        self._names = {"localhost", own, own.partition(".")[0], *(name.lower().rstrip(".") for name in allowed)}

    def allow(self, scope: Scope) -> bool:
        """Return whether every Host header is allowed. HTTP/1.0 permits none, but browsers always send one."""
        return all(self._allows(value.decode("latin-1")) for name, value in scope["headers"] if name == b"host")

    def _allows(self, host: str) -> bool:
        name = host_in(host)
        if name in self._names or name.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(name.partition("%")[0])
        except ValueError:
            return False
        return True


def host_in(authority: str) -> str:
    """Return the host of `host:port`, without the brackets of an IPv6 address."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0].lower().rstrip(".")


def is_from_another_site(scope: Scope) -> bool:
    """Return whether a browser sent the request on behalf of a page of another origin."""
    headers = dict(scope["headers"])
    if headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin"):
        return True
    origin = headers.get(b"origin")
    return origin is not None and origin.rpartition(b"://")[2].lower() != headers.get(b"host", b"").lower()
