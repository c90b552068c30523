"""A reload of the web configuration never removes protection, and closes connections that lost access."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

import bcrypt
import httpx
import pytest

from agent.serving import FakeWatch, Server, is_closed, rewrite, serving
from certificates import Authority
from deckwatch.http.app import create_app
from deckwatch.http.limits import Limits
from deckwatch.http.web_config import WebConfigFile
from deckwatch.http.web_metrics import WebConfigCollector

if TYPE_CHECKING:
    import socket
    from pathlib import Path

USERS = f"basic_auth_users: {{alice: '{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}'}}\n"
FILES = "cert_file: web.crt, key_file: web.key"
TLS = f"tls_server_config: {{{FILES}}}\n"
CLIENTS = "client_ca_file: ca.pem, client_auth_type: RequireAndVerifyClientCert"
MUTUAL_TLS = f"tls_server_config: {{{FILES}, {CLIENTS}}}\n"
NAMES = f"tls_server_config: {{{FILES}, {CLIENTS}, client_allowed_sans: [127.0.0.1]}}\n"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path)
    authority.issue("web")
    return authority


def web_file(folder: Path, text: str) -> WebConfigFile:
    (folder / "web.yml").write_text(text)
    return WebConfigFile(folder / "web.yml", check_every=0.0)


def value(file: WebConfigFile, metric: str) -> float:
    (found,) = (
        sample.value
        for sample in WebConfigCollector(file).collect()
        if sample.series.metric.name == f"deckwatch_web_{metric}"
    )
    return float(found)


def status_of(server: Server, authority: Authority, path: str = "/metrics", auth: bool = False) -> int:
    """Return the status of a response over TLS with a client certificate; 0 without a response."""
    context = authority.trusting(*authority.issue("client")) if server.url.startswith("https") else True
    try:
        with server.client(verify=context) as client:
            return client.get(path, auth=("alice", "secret") if auth else None).status_code
    except httpx.TransportError:
        return 0


@pytest.mark.parametrize(
    ("before", "after", "lost"),
    [
        (USERS, "", "all users"),
        (USERS, "# a comment\n", "all users"),
        (USERS, "basic_auth_users:\n", "all users"),
        (USERS, "basic_auth_users: {}\n", "all users"),
        (USERS, "rate_limit: {interval: 0}\n", "all users"),
        (TLS, "", "TLS"),
        (TLS + USERS, "", "TLS, all users"),
        (TLS + USERS, TLS, "all users"),
        (TLS + USERS, USERS, "TLS"),
        (TLS + USERS, "tls_server_config: {min_version: TLS12}\n" + USERS, "TLS"),
        (MUTUAL_TLS, TLS, "the verification of client certificates"),
        (MUTUAL_TLS, MUTUAL_TLS.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven"), "the verification"),
        (NAMES, MUTUAL_TLS, "the list of allowed client names"),
    ],
    ids=[
        *("users: empty", "users: comment", "users: no value", "users: none", "users: another key"),
        *("TLS: empty", "both: empty", "both: no users", "both: no TLS", "both: TLS without a certificate"),
        *("client certificates: not asked for", "client certificates: optional", "client names: any"),
    ],
)
def test_a_reload_that_would_remove_protection_is_rejected_and_reported(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture, before: str, after: str, lost: str
) -> None:
    file = web_file(tmp_path, before)
    watch = FakeWatch()
    authenticates = "basic_auth_users" in before
    with serving(create_app(watch, problems=file.problems), file) as server:
        server.url = ("https" if "cert_file" in before else "http") + f"://127.0.0.1:{server.port}"
        assert status_of(server, authority, auth=authenticates) == 200
        assert value(file, "config_last_reload_successful") == 1
        rewrite(tmp_path / "web.yml", after)
        with caplog.at_level(logging.ERROR, "deckwatch.http"):
            for _ in range(3):
                assert status_of(server, authority, auth=authenticates) == 200
        if authenticates:
            assert status_of(server, authority) == 401
        if "cert_file" in before:
            with server.client() as client:
                assert client.get(f"http://127.0.0.1:{server.port}/metrics").status_code == 400
        (record,) = caplog.records
        assert f"would remove {lost}" in record.getMessage()
        assert "Restart Deckwatch" in record.getMessage()
        assert value(file, "config_last_reload_successful") == 0
        context = authority.trusting(*authority.issue("client")) if server.url.startswith("https") else True
        with server.client(verify=context, auth=("alice", "secret")) as client:
            assert f"would remove {lost}" in client.get("/").text
            assert f"would remove {lost}" in client.get("/api/v1/status").json()["problems"][0]
            assert f"would remove {lost}" in client.get("/health/detailed").json()["problems"][0]
            assert client.get("/health").json()["status"] == "degraded"
        rewrite(tmp_path / "web.yml", before)
        assert status_of(server, authority, auth=authenticates) == 200
        assert value(file, "config_last_reload_successful") == 1
        assert file.problems() == ()
    assert WebConfigFile(tmp_path / "web.yml").problems() == ()


def test_a_restart_applies_what_a_reload_rejects(authority: Authority, tmp_path: Path) -> None:
    rewrite(tmp_path / "web.yml", "")
    with serving(FakeWatch(), WebConfigFile(tmp_path / "web.yml")) as server:
        assert status_of(server, authority) == 200


def test_a_partially_written_file_never_removes_protection(authority: Authority, tmp_path: Path) -> None:
    text = f"""\
# who may scrape
rate_limit: {{interval: 1ms, burst: 100000}}
tls_server_config:
  cert_file: web.crt
  key_file: web.key
  client_ca_file: ca.pem
  client_auth_type: RequireAndVerifyClientCert
{USERS}"""
    file = web_file(tmp_path, text)
    context = authority.trusting(*authority.issue("client"))
    with serving(FakeWatch(), file) as server:
        for length in (*range(0, len(text), 7), len(text)):
            rewrite(tmp_path / "web.yml", text[:length])
            with server.client(verify=context) as client:
                assert client.get("/metrics").status_code == 401
                assert client.get("/metrics", auth=("alice", "secret")).status_code == 200
            with pytest.raises(httpx.TransportError), server.client(verify=authority.trusting()) as client:
                client.get("/metrics")


OTHER_USER = f"basic_auth_users: {{bob: '{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}'}}\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", TLS),
        (TLS, MUTUAL_TLS),
        (MUTUAL_TLS, MUTUAL_TLS.replace("ca.pem", "other.pem")),
        (NAMES, NAMES.replace("127.0.0.1", "other.example")),
        (USERS, OTHER_USER),
    ],
    ids=["plain text", "without a certificate", "another authority", "another name", "another user"],
)
def test_connections_are_closed_when_they_lose_access(
    authority: Authority, tmp_path: Path, before: str, after: str
) -> None:
    Authority(tmp_path, "other")
    file = web_file(tmp_path, before)
    certificate = authority.issue("client") if "client_ca" in before else ()
    request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic YWxpY2U6c2VjcmV0\r\n\r\n"
    with serving(FakeWatch(), file, Limits(sweep=0.05)) as server, contextlib.ExitStack() as open_ones:

        def connect() -> socket.socket:
            connection = open_ones.enter_context(server.connect())
            if "cert_file" not in before:
                return connection
            context = authority.trusting(*certificate)
            return open_ones.enter_context(context.wrap_socket(connection, server_hostname="127.0.0.1"))

        idle, asking, unused = connect(), connect(), connect()
        for connection in (idle, asking):
            connection.sendall(request)
            assert answer_on(connection).startswith(b"HTTP/1.1 200")
        rewrite(tmp_path / "web.yml", after)
        asking.sendall(request)
        answer = answer_on(asking)
        assert answer.startswith((b"HTTP/1.1 421", b"HTTP/1.1 401"))
        assert b"connection: close" in answer
        for connection in (idle, asking, unused):
            assert is_closed(connection)


def answer_on(connection: socket.socket) -> bytes:
    connection.settimeout(30)
    answer = b""
    while not answer.partition(b"\r\n\r\n")[2].endswith(b"\n"):
        part = connection.recv(65536)
        assert part, answer
        answer += part
    return answer


def test_a_response_in_progress_is_aborted_when_its_connection_loses_access(
    authority: Authority, tmp_path: Path
) -> None:
    file = web_file(tmp_path, "")
    with serving(FakeWatch(b"x" * 20_000_000), file, Limits(sweep=0.05)) as server, server.connect() as reader:
        reader.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert reader.recv(12) == b"HTTP/1.1 200"
        rewrite(tmp_path / "web.yml", TLS)
        with server.client(verify=authority.trusting()) as client:
            assert client.get(f"https://127.0.0.1:{server.port}/metrics").status_code == 200
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while part := reader.recv(1 << 20):
                received += len(part)
        assert received < 20_000_000
