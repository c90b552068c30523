"""Creates certificate authorities and certificates."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from pathlib import Path

_DAY = datetime.timedelta(days=1)


class Authority:
    """A certificate authority in a folder; `issuer` makes it an intermediate one.

    Its certificates have the extensions that RFC 5280 (section 4.2.1) requires. With `identified=False`, they have only
    the names and the CA flag, like those of many private authorities.
    """

    def __init__(
        self, folder: Path, name: str = "ca", *, issuer: Authority | None = None, identified: bool = True
    ) -> None:
        self.folder = folder
        self.file = folder / f"{name}.pem"
        self._identified = identified
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _common_name(f"Deckwatch test {name}")
        signer = issuer or self
        builder = signer._builder(self._name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        if identified:
            builder = builder.add_extension(_key_usage("key_cert_sign", "crl_sign"), critical=True)
        self.file.write_bytes(signer._signed(builder))

    def issue(
        self, name: str, *names: x509.GeneralName, password: bytes | None = None, days: int = 1
    ) -> tuple[Path, Path]:
        """Create certificate and key files that expire in `days`, for 127.0.0.1 unless other names are given."""
        key = ec.generate_private_key(ec.SECP256R1())
        end = datetime.datetime.now(datetime.UTC) + days * _DAY
        builder = self._builder(_common_name(name), key.public_key(), end)
        names = names or (x509.IPAddress(ipaddress.ip_address("127.0.0.1")),)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if self._identified:
            purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            builder = (
                builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                .add_extension(_key_usage("digital_signature"), critical=True)
                .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            )
        files = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        files[0].write_bytes(self._signed(builder))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption(),
            )
        )
        return files

    def serving(self, *names: x509.GeneralName, expired: bool = False) -> ssl.SSLContext:
        """Return a server context with a certificate for 127.0.0.1 unless other names are given."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*map(str, self.issue("server", *names, days=-1 if expired else 1)))
        return context

    def trusting(self, *certificate: Path) -> ssl.SSLContext:
        """Return a client context that trusts this authority, optionally with a client certificate and key."""
        context = ssl.create_default_context(cafile=str(self.file))
        if certificate:
            context.load_cert_chain(*map(str, certificate))
        return context

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, end: datetime.datetime | None = None
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        end = end or now + _DAY
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(now, end) - 2 * _DAY)
            .not_valid_after(end)
        )
        if not self._identified:
            return builder
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False).add_extension(
            signer, critical=False
        )

    def _signed(self, builder: x509.CertificateBuilder) -> bytes:
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _key_usage(*usages: str) -> x509.KeyUsage:
    known = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{usage: usage in usages for usage in known})
