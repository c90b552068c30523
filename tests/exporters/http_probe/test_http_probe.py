"""Probes of real servers: what they measure, and the reason of each fault."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from certificates import Authority
from deckwatch.collection.registry import Registry
from deckwatch.config import ConfigError, load_config
from deckwatch_exporters.http_probe import certificates
from probed_site import name_server, probe, site, tcp_server
from services import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = "hunter2-s3cret"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with site() as found:
        yield found


def _silent(connection: socket.socket) -> None:
    connection.settimeout(60)
    while connection.recv(4096):
        pass


def test_a_probe_exports_what_it_measured(port: int) -> None:
    collected = probe(f"http://127.0.0.1:{port}/health")

    assert collected.failed == ""
    assert collected.value("probe_http_status_code") == 200
    assert collected.value("probe_http_content_length") == 28
    assert collected.value("probe_http_version") == 1.1
    assert collected.value("probe_http_last_modified_timestamp_seconds") == 1445412480
    assert collected.value("probe_ip_protocol") == 4
    assert collected.value("probe_duration_seconds") > 0


@pytest.mark.parametrize(("path", "settings", "reason"), [
    ("broken", {}, "HTTP status 503, expected 2xx"),
    ("health", {"expect": {"status": [204, "3xx"]}}, "HTTP status 200, expected 204, 3xx"),
    ("health", {"expect": {"body": "status.*down"}}, "the body does not match status.*down"),
    ("health", {"expect": {"body_not": "ok"}}, "the body matches ok"),
    ("health", {"expect": {"json_expression": "status == 'down'"}}, "status == 'down' is not true for the body"),
    ("broken", {"expect": {"status": 503, "json_expression": "a"}}, "the body is not JSON"),
    ("health", {"expect": {"headers": {"X-Version": "1"}}}, "the response has no header X-Version"),
    ("health", {"expect": {"tls": True}}, "the last request did not use TLS"),
    ("loop", {}, "HTTP status 302, expected 2xx"),
    ("loop", {"expect": {"status": 302}}, "more than 10 redirects"),
    ("hop", {"follow_redirects": False}, "HTTP status 302, expected 2xx"),
    ("away", {}, "a redirect to something other than a URL of http or https"),
    ("drip", {"timeout": "300ms"}, "timed out after 0.3 s while reading the body"),
    ("large", {}, "the body is longer than body_size_limit (2097152 bytes)"),
    ("short", {}, "the server closed the connection 5 bytes before the end of the body"),
])  # fmt: skip
def test_the_reason_of_a_failure_is_reported(port: int, path: str, settings: dict[str, Any], reason: str) -> None:
    assert probe(f"http://127.0.0.1:{port}/{path}", **settings).failed == reason


@pytest.mark.parametrize(("path", "settings"), [
    ("health", {"expect": {"status": 200, "body": '"ok"', "body_not": "down", "json_expression": "queue"}}),
    ("health", {"expect": {"headers": {"last-modified": "2015"}}}),
    ("hop", {}),
    ("hop", {"follow_redirects": False, "expect": {"status": 302}}),
])  # fmt: skip
def test_an_expected_response_succeeds(port: int, path: str, settings: dict[str, Any]) -> None:
    assert probe(f"http://127.0.0.1:{port}/{path}", **settings).failed == ""


def test_a_body_of_any_size_is_read_where_the_limit_allows(port: int) -> None:
    collected = probe(f"http://127.0.0.1:{port}/large", body_size_limit="200MB", timeout="60s")

    assert collected.failed == ""
    assert collected.value("probe_http_uncompressed_body_length") == 100_000_000


def test_the_request_is_sent_as_configured(port: int) -> None:
    url = f"http://127.0.0.1:{port}/echo"

    basic = {
        "username": "monitor",
        "password": SECRET,
        "expect": {"json_expression": "starts_with(authorization, 'Basic ')"},
    }
    assert probe(url, **basic).failed == ""
    bearer = {"bearer_token": SECRET, "expect": {"body": f"Bearer {SECRET}"}}
    assert probe(url, **bearer).failed == ""
    header = {"headers": {"X-Key": SECRET, "Host": "api.example"}, "expect": {"body": f"(?s)api.example.*{SECRET}"}}
    assert probe(url, **header).failed == ""
    assert probe(url, method="POST", body="a=b", expect={"body": "^a=b$"}).failed == ""


def test_headers_and_credentials_are_not_sent_to_another_server(port: int) -> None:
    collected = probe(
        f"http://127.0.0.1:{port}/elsewhere",
        bearer_token=SECRET,
        headers={"X-Key": SECRET},
        expect={"body": "user-agent", "body_not": f"{SECRET}|authorization"},
    )

    assert collected.failed == ""
    assert collected.value("probe_http_redirects") == 1


def test_a_server_that_listens_on_ipv6_only_is_reached() -> None:
    with site(v6=True) as port:
        assert probe(f"http://[::1]:{port}/health").value("probe_ip_protocol") == 6
        assert "has no address for ip_protocol ip4" in probe(f"http://[::1]:{port}/health", ip_protocol="ip4").failed


def test_certificates_that_are_not_trusted_are_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    trusted = {"tls": {"ca_file": str(authority.file)}}
    with site(authority.serving(expired=True)) as port:
        assert "certificate has expired" in probe(f"https://127.0.0.1:{port}/health", **trusted).failed
    with site(authority.serving(x509.DNSName("other.example"))) as port:
        assert "Check url" in probe(f"https://127.0.0.1:{port}/health", **trusted).failed
    with site(authority.serving()) as port:
        assert "Check tls.ca_file" in probe(f"https://127.0.0.1:{port}/health").failed
        assert "No such file" in probe(f"https://127.0.0.1:{port}/health", tls={"ca_file": "/missing.pem"}).failed


def test_the_expiry_of_certificates_is_exported(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with site(authority.serving(x509.DNSName("api.example"))) as port:
        tls = {"ca_file": str(authority.file), "server_name": "api.example"}
        for url in (f"https://127.0.0.1:{port}/health", f"tls://127.0.0.1:{port}"):
            collected = probe(url, tls=tls)
            assert collected.failed == ""
            left = collected.value("probe_ssl_earliest_cert_expiry") - time.time()
            assert collected.value("probe_ssl_earliest_cert_lifetime_seconds") > left
            assert 80_000 < left <= 86_400
            assert any('version="TLS 1.3"' in name for name in collected.values)
            assert any('subjectalternative="api.example"' in name for name in collected.values)
        assert probe(f"https://127.0.0.1:{port}/health", tls={"verify": False}).failed == ""


def test_a_server_that_says_nothing_costs_the_timeout_only() -> None:
    with tcp_server(_silent) as port:
        for url, activity in (
            (f"http://127.0.0.1:{port}/", "waiting for the response"),
            (f"https://127.0.0.1:{port}/", f"waiting for the TLS handshake with 127.0.0.1:{port}"),
            (f"tls://127.0.0.1:{port}", "waiting for the TLS handshake"),
        ):
            assert probe(url, timeout="200ms").failed == f"timed out after 0.2 s while {activity}"
        quiet = probe(f"tcp://127.0.0.1:{port}", timeout="200ms", steps=[{"expect": "^220"}])
        assert quiet.failed == "timed out after 0.2 s while waiting for a line that matches ^220"


def test_a_lookup_that_hangs_ends_with_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    ended, real = threading.Event(), socket.getaddrinfo

    def hanging(*arguments: Any, **options: Any) -> Any:
        return real(*arguments, **options) if options.get("flags") else ended.wait(60) and real(*arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    try:
        collected = probe("http://slow.example/", timeout="200ms")
    finally:
        ended.set()

    assert collected.failed == "timed out after 0.2 s while resolving slow.example"


def test_a_closed_port_and_an_answer_in_another_protocol_are_named() -> None:
    assert probe(f"tcp://127.0.0.1:{free_port()}").failed == "cannot connect to 127.0.0.1: Connection refused"
    with tcp_server(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")) as port:
        assert "is not HTTP" in probe(f"http://127.0.0.1:{port}/").failed


@pytest.mark.parametrize("answer", [
    b"", b"\0\xff\r\n\r\n", b"HTTP/1.1 abc OK\r\n\r\n", b"HTTP/9.9 200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200,
    b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000,
    b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: http://a:99999/\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: \xc3\xa4//\x01\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nno gzip",
    b"HTTP/1.1 503 Busy\r\nLast-Modified: Wed, 99 Oct 99999 07:28:00 GMT\r\nContent-Length: -3\r\n\r\n",
])  # fmt: skip
def test_a_malformed_response_fails_the_probe_and_not_the_collector(answer: bytes) -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(answer)

    with tcp_server(talk) as port:
        assert probe(f"http://127.0.0.1:{port}/", timeout="10s", expect={"body": "x"}).failed != ""


def test_a_conversation_over_tcp_sends_and_expects_lines() -> None:
    def redis(connection: socket.socket) -> None:
        connection.sendall(b"220 ready\r\n")
        if b"PING" in connection.recv(100):
            connection.sendall(b"+PONG\r\n")

    with tcp_server(redis) as port:
        talk = [{"expect": "^220 "}, {"send": "PING"}, {"expect": r"^\+PONG$"}]
        assert probe(f"tcp://127.0.0.1:{port}", steps=talk).failed == ""
        wrong = probe(f"tcp://127.0.0.1:{port}", steps=[{"send": "QUIT"}, {"expect": "^221"}])
        assert wrong.value("probe_failed_due_to_regex") == 1
        assert "without a line that matches ^221" in wrong.failed


def test_a_dns_probe_checks_the_answer() -> None:
    with name_server() as port:
        url = f"dns://127.0.0.1:{port}"
        found = probe(f"{url}/example.org?type=A", expect={"answer": r"^10\."})
        assert found.failed == ""
        assert found.value("probe_dns_answer_rrs") == 1
        assert found.value("probe_dns_query_succeeded") == 1
        assert probe(f"{url}/example.org?type=SOA").value("probe_dns_serial") == 2026
        assert probe(f"{url}/missing.org").failed == "response code NXDOMAIN, expected NOERROR"
        assert probe(f"{url}/missing.org", expect={"rcode": "NXDOMAIN"}).failed == ""
        assert probe(f"{url}/example.org", expect={"answer": "^192"}).failed == "no record of the answer matches ^192"
        hung = probe(f"{url}/silent.org", timeout="200ms").failed
        assert hung == f"timed out after 0.2 s while waiting for the answer of 127.0.0.1:{port}"


@pytest.mark.parametrize("settings", [
    {"url": "dns://10.0.0.2"},
    {"url": "dns://10.0.0.2/example.org?type=NONSENSE"},
    {"url": "dns://10.0.0.2/example.org", "expect": {"status": 200}},
    {"url": "http://api.example", "expect": {"rcode": "NXDOMAIN"}},
    {"url": f"https://user:{SECRET}@api.example@evil/"},
    {"url": "ftp://api.example/"},
    {"url": "tcp://api.example"},
    {"url": "tcp://api.example:70000"},
    {"url": "tcp://api.example:80", "headers": {"A": "b"}},
    {"url": "http://api.example", "steps": [{"send": "x"}]},
    {"url": "http://api.example", "headers": {"A": f"{SECRET}\r\nB: c"}},
    {"url": "http://api.example", "headers": {"A b": SECRET}},
    {"url": f"http://user:{SECRET}@api.example", "bearer_token": SECRET},
    {"url": "http://api.example", "expect": {"json_expression": "a ="}},
    {"url": "http://api.example", "expect": {"status": 99}},
    {"url": "tcp://api.example:80", "steps": [{"send": "x", "expect": "y"}]},
])  # fmt: skip
def test_wrong_settings_are_refused_without_quoting_secrets(tmp_path: Path, settings: dict[str, Any]) -> None:
    file = tmp_path / "deckwatch.yml"
    file.write_text(json.dumps({"exporters": {"http_probe": [{"name": "api", **settings}]}}))
    with pytest.raises(ConfigError) as refused:
        load_config(file, {}, Registry.installed())
    assert SECRET not in str(refused.value)


def test_no_reason_contains_a_secret() -> None:
    url = f"http://user:{SECRET}@127.0.0.1:{free_port()}/{SECRET}?key={SECRET}"

    assert SECRET not in probe(url, headers={"X-Key": SECRET}).failed


@pytest.mark.parametrize(("openssl", "registered"), [
    ("TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"),
    ("ECDHE-RSA-AES128-GCM-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
    ("AES128-SHA", "TLS_RSA_WITH_AES_128_CBC_SHA"),
    ("ECDHE-RSA-AES256-SHA384", "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384"),
])  # fmt: skip
def test_ciphers_have_their_registered_names(openssl: str, registered: str) -> None:
    assert certificates.iana_name(openssl) == registered
