"""Error messages of real failed TLS handshakes."""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING

import pytest

from certificates import Authority
from deckwatch.exporter import client_context, tls_failure

if TYPE_CHECKING:
    from pathlib import Path


def _failure(context: ssl.SSLContext, server: ssl.SSLContext) -> str:
    """Perform a TLS handshake in memory and read once. Return the client's error message."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    other = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        try:
            client.do_handshake()
            client.read()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            return tls_failure(error, ca="the CA", name="the name", certificate="the certificate")
        with contextlib.suppress(ssl.SSLError):  # a TLS alert informs the client
            other.do_handshake()
    assert client.version(), "the handshake did not end"
    return ""


def test_a_missing_client_certificate_is_reported(tmp_path: Path) -> None:
    ours = Authority(tmp_path)
    server = ours.serving()
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(ours.file)
    error = _failure(client_context(str(ours.file)), server)
    assert (
        error == "TLS failed: the server refused the client certificate (certificate required). Check the certificate"
    )


def test_a_client_certificate_of_an_unknown_authority_is_reported(tmp_path: Path) -> None:
    ours, other = Authority(tmp_path), Authority(tmp_path, "other")
    server = ours.serving()
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(ours.file)
    certificate, key = map(str, other.issue("client"))
    error = _failure(client_context(str(ours.file), certificate, key), server)
    assert error == "TLS failed: the server refused the client certificate (unknown ca). Check the certificate"


def test_a_server_that_does_not_speak_tls_is_reported() -> None:
    to_client = ssl.MemoryBIO()
    to_client.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    client = client_context().wrap_bio(to_client, ssl.MemoryBIO(), server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLError) as failure:
        client.do_handshake()
    error = tls_failure(failure.value)
    assert error == "TLS failed: the server does not speak TLS on this port. Check url"


def test_without_verification_any_server_is_accepted(tmp_path: Path) -> None:
    ours = Authority(tmp_path)
    server = ours.serving(expired=True)
    assert "certificate has expired" in _failure(client_context(str(ours.file)), server)
    assert _failure(client_context(verify=False), server) == ""
