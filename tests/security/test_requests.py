"""Requests for another server, from another site, or with ambiguous content."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from agent.serving import FakeWatch, Server, is_closed, serving
from deckwatch.http.app import create_app
from deckwatch.http.limits import Limits
from deckwatch.http.request_target import HostNames

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def on_loopback(watch: FakeWatch, *allowed: str, lifecycle: bool = False) -> Iterator[Server]:
    with serving(create_app(watch, lifecycle, hosts=HostNames(allowed))) as server:
        yield server


def answer(server: Server, request: str, body: bytes = b"") -> bytes:
    """Return everything the server sends until it closes the connection or the first response ends."""
    with server.connect() as client, contextlib.suppress(ConnectionResetError):
        client.settimeout(30)
        client.sendall(request.replace("\n", "\r\n").encode() + body)
        with client.makefile("rb") as stream:
            return stream.read()
    return b""


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *((host, 200) for host in ("localhost", "LOCALHOST:9797", "localhost.", "a.localhost:1", "127.0.0.1:9797")),
        *((host, 200) for host in ("[::1]:9797", "192.0.2.1", "metrics.example", "Metrics.Example:443")),
        *((host, 421) for host in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "a@b")),
        *((host, 421) for host in ("evil.example:9797", "notlocalhost", "127.1", "0x7f000001", "[evil]", "a.example")),
    ],
)
def test_a_loopback_listener_accepts_only_its_own_host_names(host: str, status: int) -> None:
    watch = FakeWatch()
    with on_loopback(watch, "metrics.example") as server, server.client() as client:
        for path in ("/metrics", "/", "/api/v1/status", "/-/healthy", "/nothing"):
            got = client.get(path, headers={"host": host}).status_code
            assert got == (404 if (path, status) == ("/nothing", 200) else status)
    assert bool(watch.asked) == (status == 200)


def test_other_listeners_accept_every_host_name() -> None:
    with serving(FakeWatch()) as server, server.client() as client:
        assert client.get("/metrics", headers={"host": "metrics.example"}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://localhost:9797"}, 200),
        ({"origin": "http://localhost:9797", "sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://localhost:8000"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
    ],
)
def test_a_page_of_another_site_cannot_reload_the_config(headers: dict[str, str], status: int) -> None:
    watch = FakeWatch()
    with on_loopback(watch, lifecycle=True) as server, server.client() as client:
        got = client.post("/-/reload", headers={"host": "localhost:9797", **headers})
        assert got.status_code == status
    assert watch.reloads == (status == 200)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://localhost/metrics", 200),
        ("HTTP://127.0.0.1:9797/metrics?collect[]=cpu", 200),
        ("https://localhost/metrics", 200),
        ("http://localhost", 200),
        ("http://localhost/-/healthy", 200),
        ("http://localhost/%6detrics", 200),
        ("http://localhost/nothing", 404),
        ("http://evil.example/metrics", 421),
        ("http://user@localhost/metrics", 421),
        ("ftp://localhost/metrics", 404),
    ],
)
def test_an_absolute_request_url_determines_the_host(target: str, status: int) -> None:
    with on_loopback(FakeWatch()) as server:
        got = answer(server, f"GET {target} HTTP/1.1\nHost: localhost\nConnection: close\n\n")
    assert got.startswith(f"HTTP/1.1 {status} ".encode())


def test_the_host_header_does_not_override_the_host_of_an_absolute_url() -> None:
    with on_loopback(FakeWatch()) as server:
        request = "GET http://localhost/metrics HTTP/1.1\nHost: evil.example\nConnection: close\n\n"
        assert answer(server, request).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("order", [("Content-Length: 5", "Transfer-Encoding: chunked"), None], ids=["CL.TE", "TE.CL"])
def test_a_request_with_two_body_lengths_closes_the_connection(order: tuple[str, str] | None) -> None:
    first, second = order or ("Transfer-Encoding: chunked", "Content-Length: 5")
    watch = FakeWatch()
    with serving(watch, limits=Limits(idle=3600, sweep=0.05)) as server, server.connect() as client:
        request = f"POST /nothing HTTP/1.1\nHost: localhost\n{first}\n{second}\n\n0\n\n"
        client.sendall(request.replace("\n", "\r\n").encode())
        assert is_closed(client)
    assert watch.asked == []
