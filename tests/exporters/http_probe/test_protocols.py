"""Probes beyond plain requests: STARTTLS, client certificates, gzip, DNS over TCP."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from certificates import Authority
from probed_site import dns_answer, probe, site, tcp_server
from services import deckwatch_command

if TYPE_CHECKING:
    from pathlib import Path

#: The beginning of a conversation with a mail server (RFC 3207).
STARTTLS = [{"expect": "^220 "}, {"send": "STARTTLS"}, {"expect": "^220 "}, {"starttls": True}]


@pytest.mark.parametrize("injected", [b"", b"250 hello\r\n"])
def test_starttls_continues_over_tls_and_forgets_what_came_in_plain_text(tmp_path: Path, injected: bytes) -> None:
    authority = Authority(tmp_path)
    context = authority.serving()

    def mail(connection: socket.socket) -> None:
        connection.sendall(b"220 mail.example ESMTP\r\n")
        if not connection.recv(100).startswith(b"STARTTLS"):
            return
        connection.sendall(b"220 go ahead\r\n" + injected)
        with context.wrap_socket(connection, server_side=True) as secure:
            if secure.recv(100).startswith(b"EHLO") and not injected:
                secure.sendall(b"250 hello\r\n")

    with tcp_server(mail) as port:
        tls = {"ca_file": str(authority.file)}
        steps = [*STARTTLS, {"send": "EHLO probe"}, {"expect": "^250 "}]
        found = probe(f"tcp://127.0.0.1:{port}", steps=steps, tls=tls)
        if injected:
            assert "without a line that matches ^250 " in found.failed
            return
        assert found.failed == ""
        assert found.value("probe_ssl_earliest_cert_expiry") > 0
        refused = probe(f"tcp://127.0.0.1:{port}", steps=steps)
        assert "Check tls.ca_file" in refused.failed


def test_a_server_without_starttls_is_named() -> None:
    def mail(connection: socket.socket) -> None:
        connection.sendall(b"220 mail\r\n502 no such command\r\n")
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):  # a socket that is closed with unread data loses what it sent
            pass

    with tcp_server(mail) as port:
        failed = probe(f"tcp://127.0.0.1:{port}", steps=STARTTLS).failed

    assert "without a line that matches ^220 " in failed


def test_a_server_that_verifies_clients_is_probed_with_a_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = authority.serving()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.file)
    certificate, key = authority.issue("probe")
    with site(context) as port:
        url, trusted = f"https://127.0.0.1:{port}/health", {"ca_file": str(authority.file)}
        own = {"cert_file": str(certificate), "key_file": str(key)}
        assert probe(url, tls={**trusted, **own}).failed == ""
        refused = probe(url, tls=trusted).failed
        assert (
            refused
            == "TLS failed: the server refused the client certificate (certificate required). Check tls.cert_file"
        )
        missing = probe(url, tls={**trusted, "cert_file": str(tmp_path / "none"), "key_file": str(key)}).failed
        assert "No such file" in missing


def test_a_compressed_body_is_checked_as_text_within_the_limit() -> None:
    with site() as port:
        url = f"http://127.0.0.1:{port}/packed"
        found = probe(url, headers={"Accept-Encoding": "gzip"}, expect={"body": "athe end$"})
        assert found.failed == ""
        assert found.value("probe_http_uncompressed_body_length") == 1_000_007
        assert found.value("probe_http_content_length") < 10_000
        small = probe(url, body_size_limit="100KB", expect={"body": "the end$"})
        assert small.failed == "the body is longer than body_size_limit (100000 bytes)"


def test_a_dns_probe_works_over_tcp() -> None:
    def serve(connection: socket.socket) -> None:
        (length,) = struct.unpack("!H", connection.recv(2))
        if (answer := dns_answer(connection.recv(length))) is not None:
            connection.sendall(struct.pack("!H", len(answer)) + answer)
        else:
            connection.recv(1)

    with tcp_server(serve) as port:
        url = f"dns://127.0.0.1:{port}"
        found = probe(f"{url}/example.org?type=A&protocol=tcp", expect={"answer": "10.1.2.3"})
        assert (found.failed, found.value("probe_dns_answer_rrs")) == ("", 1)
        assert "waiting for the answer" in probe(f"{url}/silent.org?protocol=tcp", timeout="200ms").failed


def test_check_names_the_reason_of_a_failing_probe(tmp_path: Path) -> None:
    with site() as port:
        probes = [
            {"name": "well", "url": f"http://127.0.0.1:{port}/health"},
            {"name": "ill", "url": f"http://127.0.0.1:{port}/broken"},
        ]
        file = tmp_path / "deckwatch.yml"
        file.write_text(json.dumps({"exporters": {"http_probe": probes}}))
        done = subprocess.run(
            deckwatch_command("check", "--config", str(file), "--state-dir", str(tmp_path / "state")),
            capture_output=True,
            text=True,
            check=False,
        )

    (line,) = [line for line in done.stdout.splitlines() if "503" in line]
    assert "ill" in line
    assert "HTTP status 503, expected 2xx" in line
