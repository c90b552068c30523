"""Every rejected request and every aborted connection is counted by its reason, and visible on the page."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING

import bcrypt
import httpx
import pytest

from agent.serving import PATIENT, SHORT, FakeWatch, Server, is_closed, serving
from certificates import Authority
from deckwatch.http.limits import Limits
from deckwatch.http.rejections import Rejections
from deckwatch.http.request_target import HostNames
from deckwatch.http.web_config import WebConfigFile
from services import agent, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GET = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"


@contextlib.contextmanager
def counted(
    web: WebConfigFile | None = None, limits: Limits = PATIENT, body: bytes = b"up 1\n", lifecycle: bool = False
) -> Iterator[tuple[Server, Rejections]]:
    rejections = Rejections()
    with serving(FakeWatch(body), web, limits, lifecycle, hosts=HostNames(()), rejections=rejections) as server:
        yield server, rejections


def test_an_accepted_request_is_not_counted() -> None:
    with counted() as (server, rejections), server.client() as client:
        for path in ("/metrics", "/", "/nothing", "/metrics?target=nobody"):
            client.get(path)
    assert rejections.by_reason() == {}


def test_requests_of_foreign_hosts_and_sites_are_counted() -> None:
    with counted(lifecycle=True) as (server, rejections), server.client() as client:
        client.get("/metrics", headers={"host": "evil.example"})
        client.post("/-/reload", headers={"origin": "http://evil.example"})
    assert rejections.by_reason() == {"cross_site": 1, "host_not_allowed": 1}


def test_a_disabled_reload_is_counted() -> None:
    with counted() as (server, rejections), server.client() as client:
        client.post("/-/reload")
    assert rejections.by_reason() == {"reload_disabled": 1}


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (b"\x00\x01\x02\r\n\r\n", "malformed"),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "malformed"),
        (b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", "too_large"),
        (b"GET /" + b"a" * 20_000, "too_large"),
    ],
)
def test_malformed_requests_are_counted(request_: bytes, reason: str) -> None:
    with counted() as (server, rejections), server.connect() as client:
        client.sendall(request_)
        assert is_closed(client)
    assert rejections.by_reason() == {reason: 1}


def test_a_request_that_is_never_completed_is_counted_and_an_idle_connection_is_not() -> None:
    with counted(limits=SHORT) as (server, rejections), server.connect() as slow, server.connect() as idle:
        slow.sendall(GET[:-2])
        assert is_closed(slow)
        assert is_closed(idle)
    assert rejections.by_reason() == {"slow_request": 1}


def test_a_response_that_is_never_read_is_counted() -> None:
    with counted(limits=SHORT, body=b"a" * 16_000_000) as (server, rejections), server.connect() as client:
        client.sendall(GET)
        until(lambda: rejections.by_reason() == {"slow_reader": 1})


def test_responses_over_the_memory_limit_are_counted() -> None:
    limits = dataclasses.replace(PATIENT, response_bytes=1_000_000)
    with counted(limits=limits, body=b"a" * 16_000_000) as (server, rejections), server.connect() as slow:
        slow.sendall(GET)
        assert slow.recv(1) == b"H"
        with server.client() as client:
            assert client.get("/metrics", headers={"accept-encoding": "identity"}).status_code == 503
        assert rejections.by_reason() == {"busy": 1}


def test_connections_over_the_limit_are_counted() -> None:
    limits = dataclasses.replace(PATIENT, connections=2)
    with counted(limits=limits) as (server, rejections), contextlib.ExitStack() as open_ones:
        for _ in range(3):
            open_ones.enter_context(server.connect())
        until(lambda: rejections.by_reason() == {"connection_limit": 1})


def test_handshakes_over_the_limit_and_plain_http_are_counted(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("web")
    (tmp_path / "web.yml").write_text(f"tls_server_config: {{cert_file: {certificate}, key_file: {key}}}\n")
    limits = dataclasses.replace(PATIENT, handshakes=1)
    with counted(WebConfigFile(tmp_path / "web.yml"), limits) as (server, rejections):
        with server.connect() as client:
            client.sendall(GET)
            assert client.recv(8) == b"HTTP/1.0"
        with server.connect(), server.connect():
            until(lambda: rejections.by_reason() == {"handshake_limit": 1, "plain_http": 1})


def test_a_running_agent_exports_rejections_and_shows_them_on_the_page(tmp_path: Path) -> None:
    hashed = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
    (tmp_path / "web.yml").write_text("")
    with agent(tmp_path, "interval: 1s\nweb_config: web.yml\nexporters: {}\n") as program:
        before = httpx.get(program.url + "/metrics", trust_env=False, timeout=60).text
        assert 'deckwatch_http_rejections_total{reason="unauthorized"} 0' in before
        (tmp_path / "web.yml").write_text(f"basic_auth_users:\n  alice: '{hashed}'\n")

        def get(path: str, password: str) -> httpx.Response:
            return httpx.get(program.url + path, auth=("alice", password), trust_env=False, timeout=60)

        until(lambda: get("/metrics", "wrong").status_code == 401)
        until(lambda: 'deckwatch_http_rejections_total{reason="unauthorized"} 1' in get("/metrics", "right").text)
        assert "unauthorized 1." in get("/", "right").text
        assert get("/api/v1/status", "right").json()["rejections"] == {"unauthorized": 1}
