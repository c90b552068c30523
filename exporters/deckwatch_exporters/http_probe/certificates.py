"""What a TLS connection shows: its version and cipher, and the certificates of the server."""

from __future__ import annotations

import hashlib
import re
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from deckwatch.exporter import Gauge, Malformed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Samples

EARLIEST_EXPIRY = Gauge(
    "probe_ssl_earliest_cert_expiry",
    "Time when the first certificate that the server sent expires, in Unix seconds.",
    unit="seconds",
)
EARLIEST_LIFETIME = Gauge(
    "probe_ssl_earliest_cert_lifetime_seconds",
    "Time from the beginning to the end of validity of the certificate that expires first.",
)
CHAIN_EXPIRY = Gauge(
    "probe_ssl_last_chain_expiry_timestamp_seconds",
    "Time when the verified chain of certificates expires, in Unix seconds.",
)
CHAIN_INFO = Gauge(
    "probe_ssl_last_chain_info",
    "The server's certificate; the value is always 1.",
    ["fingerprint_sha256", "subject", "issuer", "subjectalternative", "serialnumber"],
)
TLS_VERSION = Gauge("probe_tls_version_info", "The TLS version of the connection; the value is always 1.", ["version"])
TLS_CIPHER = Gauge("probe_tls_cipher_info", "The TLS cipher of the connection; the value is always 1.", ["cipher"])

_DER = 2  # _ssl.ENCODING_DER
_DER_VERSION, _DER_UTC_TIME = 0xA0, 0x17
# The attributes of a name and their order, as Go's crypto/x509/pkix prints them.
_NAMES = {
    "serialNumber": "SERIALNUMBER",
    "commonName": "CN",
    "postalCode": "POSTALCODE",
    "streetAddress": "STREET",
    "stateOrProvinceName": "ST",
    "localityName": "L",
    "organizationalUnitName": "OU",
    "organizationName": "O",
    "countryName": "C",
}
_OPENSSL_CIPHER = re.compile(r"(?:(.+)-)?(AES|CAMELLIA)(128|256)-(?:(GCM)-)?(SHA(?:256|384)?)")


def tls_samples(connection: ssl.SSLSocket, *, cipher: bool) -> Samples:
    """Yield the figures of a connection after its handshake."""
    yield TLS_VERSION(1, version=(connection.version() or "unknown").replace("TLSv", "TLS ", 1))
    if cipher and (used := connection.cipher()):
        yield TLS_CIPHER(1, cipher=iana_name(used[0]))
    # Public in Python 3.13 and later, as methods of the socket that return DER.
    session: Any = connection._sslobj  # type: ignore[attr-defined]  # the only access to the chain before 3.13
    sent = session.get_unverified_chain() or []
    if not sent:
        return
    try:
        first = min((it.public_bytes(_DER) for it in sent), key=expiry)
        yield EARLIEST_EXPIRY(expiry(first))
        if connection.context.verify_mode != ssl.CERT_NONE and (chain := session.get_verified_chain()):
            yield CHAIN_EXPIRY(min(expiry(it.public_bytes(_DER)) for it in chain))
        yield EARLIEST_LIFETIME(lifetime(first))
    except ValueError as wrong:
        yield Malformed("certificate: notAfter", str(wrong))
    try:
        leaf = sent[0].get_info()
    except (ValueError, ssl.SSLError) as wrong:  # for example, a name that is not UTF-8
        yield Malformed("certificate: names", str(wrong))
        leaf = {}
    yield CHAIN_INFO(
        1,
        fingerprint_sha256=hashlib.sha256(sent[0].public_bytes(_DER)).hexdigest(),
        subject=_name(leaf.get("subject", ())),
        issuer=_name(leaf.get("issuer", ())),
        subjectalternative=",".join(value for kind, value in leaf.get("subjectAltName", ()) if kind == "DNS"),
        serialnumber=str(leaf.get("serialNumber", "")).lower(),
    )


def iana_name(cipher: str) -> str:
    """The registered name of a cipher that OpenSSL names in its own way before TLS 1.3."""
    if cipher.startswith("TLS_"):
        return cipher
    if cipher.endswith("-CHACHA20-POLY1305"):
        return f"TLS_{cipher.removesuffix('-CHACHA20-POLY1305').replace('-', '_')}_WITH_CHACHA20_POLY1305_SHA256"
    match = _OPENSSL_CIPHER.fullmatch(cipher)
    if match is None:
        return cipher
    exchange, kind, bits, mode, digest = match.groups()
    return f"TLS_{(exchange or 'RSA').replace('-', '_')}_WITH_{kind}_{bits}_{mode or 'CBC'}_{digest}"


def expiry(der: bytes) -> float:
    """The end of a certificate's validity (RFC 5280, section 4.1), in Unix seconds. Raises ValueError."""
    _, end = _validity(der)
    return _seconds(*end)


def lifetime(der: bytes) -> float:
    """The time from the beginning to the end of a certificate's validity, in seconds. Raises ValueError."""
    beginning, end = _validity(der)
    return _seconds(*end) - _seconds(*beginning)


def _validity(der: bytes) -> tuple[tuple[int, bytes], tuple[int, bytes]]:
    """The tags and contents of a certificate's notBefore and notAfter. Raises ValueError."""
    try:
        (_, certificate), *_ = _elements(der)
        (_, signed), *_ = _elements(certificate)
        # Serial number, signature, issuer, validity.
        validity = [content for tag, content in _elements(signed) if tag != _DER_VERSION][3]
        beginning, end = _elements(validity)
    except (IndexError, ValueError):
        raise ValueError("no validity") from None
    return beginning, end


def _seconds(tag: int, content: bytes) -> float:
    text = content.decode("latin-1")
    if tag == _DER_UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    if not re.fullmatch(r"[0-9]{14}Z", text):
        raise ValueError(ascii(text[:50]))
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The tag and the content of each element in DER (ITU-T X.690). Raises IndexError."""
    position = 0
    while position < len(data):
        tag, length = data[position], data[position + 1]
        position += 2
        if length > 0x80:
            size = length - 0x80
            length = int.from_bytes(data[position : position + size], "big")
            position += size
        yield tag, data[position : position + length]
        position += length


def _name(parts: Any) -> str:
    values: dict[str, list[str]] = {}
    for part in parts:
        for kind, value in part:
            values.setdefault(kind, []).append(re.sub(r'([,+"\\<>;])', r"\\\1", value))
    return ",".join(
        "+".join(f"{short}={it}" for it in values[kind]) for kind, short in _NAMES.items() if kind in values
    )
