"""Requests of random parts: without valid credentials, nothing is served and the server keeps working."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import bcrypt
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.serving import FakeWatch, Server, serving
from deckwatch.http.limits import Limits
from deckwatch.http.request_target import HostNames
from deckwatch.http.web_config import WebConfigFile
from services import until

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Short, because incomplete requests wait for it. A closed connection is a correct result too.
IMPATIENT = Limits(idle=0.1, write=60, sweep=0.02)
EXAMPLES = settings(
    max_examples=5000 if os.environ.get("DECKWATCH_SOAK") else 60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

METHODS = st.sampled_from([b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS", b"CONNECT", b"PRI", b"get", b"G\x00T", b""])
TARGETS = st.sampled_from([
    b"/metrics", b"/", b"/-/reload", b"/-/healthy", b"/api/v1/status", b"/sd", b"//metrics", b"/%6detrics",
    b"/./metrics",
    b"/metrics?collect[]=a&collect[]=%ff", b"http://localhost/metrics", b"http://alice:right@localhost/metrics",
    b"http://[::1]:9797/", b"http://[", b"*", b"localhost:9797", b"/\xff", b"/metrics#", b"", b"/" + b"a" * 20_000,
])  # fmt: skip
VERSIONS = st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9", b"http/1.1", b""])
HEADERS = st.sampled_from([
    b"Host: localhost", b"Host: evil.example", b"Host:", b"Host: localhost@evil.example",
    b"Authorization: Basic YWxpY2U=", b"Authorization: Basic YWxpY2U6", b"Authorization: Basic ====",
    b"Authorization: basic YWxpY2U6d3Jvbmc=", b"Authorization: Bearer right", b"Authorization: Basic " + b"Y" * 4000,
    b"Proxy-Authorization: Basic YWxpY2U6cmlnaHQ=", b"X-Forwarded-For: 127.0.0.1", b"X-Original-URL: /-/healthy",
    b"Content-Length: 3", b"Content-Length: -1", b"Content-Length: 99999999999999999999", b"Content-Length: 3, 3",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding : chunked",
    b"Connection: close", b"Connection: Upgrade", b"Upgrade: h2c", b"Upgrade: websocket", b"Expect: 100-continue",
    b"Origin: null", b"a" * 300 + b": b", b" folded", b": no name", b"no colon", b"N\x00L: 1", b"\xff: \xfe",
])  # fmt: skip
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\n", b"\r"])
BODIES = st.sampled_from(
    [b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"-1\r\n", b"ffffffffffffffffff\r\n", b"0;" + b"a" * 9000]
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    first = b" ".join((draw(METHODS), draw(TARGETS), draw(VERSIONS)))
    end = draw(ENDS)
    return end.join([first, *draw(st.lists(HEADERS, max_size=8)), b"", b""]) + draw(BODIES)


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory, watch: FakeWatch) -> Iterator[Server]:
    file = tmp_path_factory.mktemp("web") / "web.yml"
    file.write_text(f"basic_auth_users:\n  alice: '{bcrypt.hashpw(b'right', bcrypt.gensalt(4)).decode()}'\n")
    with serving(watch, WebConfigFile(file), IMPATIENT, lifecycle=True, hosts=HostNames(())) as running:
        yield running


@pytest.fixture
def watch() -> FakeWatch:
    return FakeWatch()


@EXAMPLES
@given(sent=st.lists(requests() | st.binary(max_size=200), min_size=1, max_size=3))
def test_no_request_without_credentials_is_served(server: Server, watch: FakeWatch, sent: list[bytes]) -> None:
    received = b""
    with server.connect() as client, contextlib.suppress(OSError):
        client.settimeout(60)
        for part in sent:
            client.sendall(part)
        while part := client.recv(65536):
            received += part
    assert received == b"" or received.startswith((b"HTTP/1.1 4", b"HTTP/1.1 100 ")), received[:200]
    assert b"HTTP/1.1 2" not in received
    assert watch.asked == []
    assert watch.reloads == 0


def test_a_client_with_credentials_is_served_after_malformed_requests(server: Server, watch: FakeWatch) -> None:
    for part in (b"\x16\x03\x01", b"GET / HTTP/1.1\r\nTransfer-Encoding: x\r\n\r\n", b"\r\n" * 100, b"A" * 30_000):
        with server.connect() as client, contextlib.suppress(OSError):
            client.sendall(part)

    def is_served() -> bool:
        with contextlib.suppress(httpx.TransportError):  # closed as idle on a busy host
            return httpx.get(f"{server.url}/metrics", auth=("alice", "right"), trust_env=False).status_code == 200
        return False

    until(is_served)
    assert watch.asked
