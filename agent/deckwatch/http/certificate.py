"""Certificate expiry, read from DER (RFC 5280, section 4.1): the `ssl` module has no public API to parse a file."""

from __future__ import annotations

import binascii
import re
from datetime import UTC, datetime

_PEM = re.compile(
    rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----.+?-----END (?:X509 |TRUSTED )?CERTIFICATE-----", re.S
)
_SEQUENCE, _VERSION, _UTC_TIME = 0x30, 0xA0, 0x17


def earliest_expiry(pem: bytes) -> float | None:
    """Return when the first certificate of a chain to expire does so, in Unix seconds; None if it cannot be parsed."""
    try:
        return min(map(_expiry, _PEM.findall(pem)), default=None)
    except (ValueError, IndexError):
        return None


def _expiry(pem: bytes) -> float:
    encoded = b"".join(line for line in pem.splitlines()[1:-1] if b":" not in line)
    try:
        der = binascii.a2b_base64(encoded)
    except binascii.Error as wrong:
        raise ValueError(str(wrong)) from wrong
    position = _content(der, _content(der, 0))  # enter Certificate, then TBSCertificate
    if der[position] == _VERSION:
        position = _end(der, position)
    for _ in range(3):  # serial number, signature algorithm, issuer
        position = _end(der, position)
    if der[position] != _SEQUENCE:
        raise ValueError("no validity")
    not_after = _end(der, _content(der, position))
    text = der[_content(der, not_after) : _end(der, not_after)].decode("ascii")
    if der[not_after] == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _content(der: bytes, position: int) -> int:
    """Return where the content of the element at `position` begins."""
    length = der[position + 1]
    return position + 2 + (length & 0x7F if length & 0x80 else 0)


def _end(der: bytes, position: int) -> int:
    """Return where the element at `position` ends."""
    start = _content(der, position)
    length = int.from_bytes(der[position + 2 : start]) if start > position + 2 else der[position + 1]
    if start + length > len(der):
        raise ValueError("truncated certificate")
    return start + length
