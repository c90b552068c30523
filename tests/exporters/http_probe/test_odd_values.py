"""Odd headers, certificates and DNS answers: each affects only its own series, and the probe still has a result."""

from __future__ import annotations

import base64
import ssl
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from certificates import Authority
from probed_site import name_server, probe, site, tcp_server

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from deckwatch.testing import Collected

#: Series that are different in each run.
_TIMES = ("duration", "lookup_time", "ip_addr_hash")
EVERY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _values(collected: Collected) -> dict[str, float]:
    return {name: value for name, value in collected.values.items() if not any(part in name for part in _TIMES)}


def _answer(*headers: bytes) -> Collected:
    """Probe a server that answers with these headers."""

    def talk(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + b"".join(it + b"\r\n" for it in headers) + b"\r\nok")

    with tcp_server(talk) as port:
        return probe(f"http://127.0.0.1:{port}/", timeout="10s")


GOOD = (b"Content-Length: 2", b"Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT", b"Server: x")
LENGTH, MODIFIED = "probe_http_content_length", "probe_http_last_modified_timestamp_seconds"


@pytest.mark.parametrize(
    "odd",
    [
        b"",
        b"-5",
        b"(null)",
        b"18446744073709551617",
        b"\xff\xfe",
        b"Wed, 99 Oct 99999 07:28:00 GMT",
        b"1e3",
        b"0x2",
        b"2, 2",
    ],
)  # fmt: skip
@pytest.mark.parametrize(("header", "series"), [("Content-Length", LENGTH), ("Last-Modified", MODIFIED)])
def test_an_odd_header_affects_only_its_series_and_is_counted(odd: bytes, header: str, series: str) -> None:
    base = _values(_answer(*GOOD))
    found = _answer(*(f"{header}: ".encode() + odd if it.startswith(header.encode()) else it for it in GOOD))

    assert series in base
    values = _values(found)
    if header == "Content-Length" and odd.isdigit():  # the body is shorter
        assert found.failed.startswith("the server closed the connection")
        values["probe_success"] = 1
    assert values == {name: value for name, value in base.items() if name != series}
    assert found.malformed == [header]


def test_missing_repeated_reordered_and_new_headers_change_nothing_else() -> None:
    base = _values(_answer(*GOOD))

    assert _values(_answer(GOOD[0], GOOD[2])) == {name: it for name, it in base.items() if name != MODIFIED}
    assert _values(_answer(*GOOD[1:])) == {**base, LENGTH: -1}  # it has none
    assert _values(_answer(*GOOD, *GOOD, b"X-New: \xff", b"X-New: (null)")) == base
    assert _values(_answer(*reversed(GOOD))) == base


class TlsSite:
    """A certificate that a test can damage; the server uses it, and the probe does not verify it."""

    def __init__(self, folder: Path) -> None:
        names = (x509.DNSName("api.example"), x509.DNSName("www.example"))
        certificate, self._key = Authority(folder).issue("server", *names)
        self.der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
        self._folder = folder
        self.base = self.collect(self.der)

    def collect(self, der: bytes) -> Collected:
        """Raises ssl.SSLError if OpenSSL does not serve the certificate."""
        file = self._folder / "odd.crt"
        file.write_text(f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(der).decode()}-----END CERTIFICATE-----\n")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file, self._key)
        with site(context) as port:
            return probe(f"https://127.0.0.1:{port}/health", tls={"verify": False})


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsSite:
    return TlsSite(tmp_path_factory.mktemp("tls"))


EXPIRY, INFO = "probe_ssl_earliest_cert_expiry", "probe_ssl_last_chain_info"
LIFETIME = "probe_ssl_earliest_cert_lifetime_seconds"


def _expiry_in(der: bytes) -> bytes:
    """Return the second time in the certificate: notAfter, as YYMMDDHHMMSSZ."""
    first = der.index(b"\x17\x0d")
    second = der.index(b"\x17\x0d", first + 1) + 2
    return der[second : second + 13]


@pytest.mark.parametrize("odd", [b"991399000000Z", b"(null)(null)Z", b"\xff" * 13, b"-50101000000Z", b"2601010000000"])
def test_a_certificate_with_an_odd_time_has_no_expiry(tls: TlsSite, odd: bytes) -> None:
    assert _values(tls.base)[EXPIRY] > 0

    found = tls.collect(tls.der.replace(_expiry_in(tls.der), odd))

    assert found.failed == ""
    assert found.malformed == ["certificate: notAfter"]
    assert _names(found) == _names(tls.base) - {EXPIRY, LIFETIME}


def test_a_certificate_with_an_undecodable_name_keeps_its_expiry_and_fingerprint(tls: TlsSite) -> None:
    found = tls.collect(tls.der.replace(b"api.example", b"\xff\xfei.example"))

    assert found.failed == ""
    assert found.malformed == ["certificate: names"]
    assert _names(found) == _names(tls.base)
    assert _values(found)[EXPIRY] == _values(tls.base)[EXPIRY]


@given(data=st.data())
@EVERY
def test_any_damage_to_a_certificate_affects_only_its_series(tls: TlsSite, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(tls.der) - 1))
    odd = data.draw(st.binary(min_size=1, max_size=4))
    der = tls.der[:position] + odd + tls.der[position + len(odd) :]
    try:
        found = tls.collect(der[: len(tls.der)])
    except ssl.SSLError:
        assume(False)
    if not found.failed:
        assert _names(tls.base) - _names(found) <= {EXPIRY, LIFETIME, INFO}


def _names(collected: Collected) -> set[str]:
    return {name.partition("{")[0] for name in collected.values}


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_any_answer_of_a_name_server_is_a_result(data: st.DataObject) -> None:
    changes = data.draw(
        st.lists(st.tuples(st.integers(2, 80), st.binary(min_size=1, max_size=6)), min_size=1, max_size=3)
    )

    def damaged(answer: bytes) -> bytes:
        for position, odd in changes:  # the identifier of the query stays
            answer = answer[:position] + odd + answer[position + len(odd) :]
        return answer

    with name_server(damaged) as port:
        found = probe(f"dns://127.0.0.1:{port}/example.org?type=SOA", timeout="200ms")

    assert {"probe_dns_answer_rrs", "probe_dns_query_succeeded", "probe_dns_duration_seconds"} <= _names(found)


@pytest.mark.parametrize("serial", [0, 2**32 - 1])
def test_any_serial_is_exported(serial: int) -> None:
    with name_server(lambda answer: answer.replace((2026).to_bytes(4, "big"), serial.to_bytes(4, "big"))) as port:
        assert probe(f"dns://127.0.0.1:{port}/example.org?type=SOA").value("probe_dns_serial") == serial


@pytest.mark.parametrize("name", [".", "example.org.", "example.org"])
def test_a_name_can_be_the_root_or_end_with_a_dot(name: str) -> None:
    with name_server() as port:
        assert probe(f"dns://127.0.0.1:{port}/{name}?type=A").failed == ""


@pytest.mark.parametrize("name", ["a..b", "a" * 64 + ".org", "..", "-" * 253])
def test_a_name_that_cannot_be_asked_for_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a URL such as dns://"):
        probe(f"dns://127.0.0.1/{name}")
