"""Creates TLS contexts from the web configuration file."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.config import ConfigError
from deckwatch.config.regular_file import read_regular_file
from deckwatch.http.certificate import earliest_expiry
from deckwatch.http.web_settings import CIPHERS, Pem

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from pathlib import Path

    from deckwatch.config.source import Source
    from deckwatch.http.watched_files import WatchedFiles
    from deckwatch.http.web_settings import TlsSettings

_VERSIONS = {"TLS10": "TLSv1", "TLS11": "TLSv1_1", "TLS12": "TLSv1_2", "TLS13": "TLSv1_3"}
_CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}


_MAX_FILE_BYTES = 1024 * 1024  # certificates and keys are a few kilobytes


class ServerTls(NamedTuple):
    """The server's TLS context and facts about it."""

    context: ssl.SSLContext
    expires: float | None  # Unix seconds; the earliest expiry in the server's chain
    client_authorities: bytes  # PEM; empty if client certificates are not verified


def server_tls(source: Source, folder: Path, tls: TlsSettings, seen: WatchedFiles) -> ServerTls:
    """Load the certificates and create the context. Raises ConfigError; each problem names the key of the file."""
    material: dict[str, bytes] = {}
    for key, marker in (("cert", "CERTIFICATE"), ("key", "PRIVATE KEY"), ("client_ca", "CERTIFICATE")):
        inline, name = getattr(tls, key), getattr(tls, f"{key}_file")
        where = ("tls_server_config", f"{key}_file" if name else key)
        if name:
            seen.note(folder / name)
            try:
                material[key] = read_regular_file(folder / name, _MAX_FILE_BYTES)
            except OSError as failure:
                source.blame(where, f"cannot read {name!r}: {failure.strerror}")
                continue
        elif inline:
            material[key] = (inline.get_secret_value() if isinstance(inline, Pem) else inline).encode()
        else:
            continue
        if f"{marker}-----".encode() not in material[key]:
            source.blame(where, f"{name!r} contains no PEM {marker}" if name else f"contains no PEM {marker}")
    if source.problems:
        raise ConfigError(source.problems)
    try:
        context = _context(tls, material)
        return ServerTls(context, earliest_expiry(material["cert"]), material.get("client_ca", b""))
    except (OSError, ValueError) as failure:  # ssl.SSLError is an OSError
        reason = getattr(failure, "reason", None)
        why = reason.lower().replace("_", " ") if reason else str(failure)
        source.blame(("tls_server_config",), f"cannot set up TLS: {why}")
        raise ConfigError(source.problems) from None


def _context(tls: TlsSettings, material: Mapping[str, bytes]) -> ssl.SSLContext:
    import ssl  # loaded only if TLS is configured

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ciphers = [CIPHERS[name] for name in tls.cipher_suites if name in CIPHERS]
    for name, cipher in zip(filter(CIPHERS.__contains__, tls.cipher_suites), ciphers, strict=True):
        try:
            context.set_ciphers(cipher)
        except ssl.SSLError:
            raise ValueError(f"this host's OpenSSL does not support the cipher suite {name}") from None
    chosen = ":".join(ciphers) or "DEFAULT"
    lowest = tls.min_version
    if lowest in ("TLS10", "TLS11"):
        chosen += ":@SECLEVEL=0"  # OpenSSL 3 supports these versions only at this security level
    if tls.cipher_suites and not ciphers:
        lowest = "TLS13"  # only TLS 1.3 suites are configured
    if chosen != "DEFAULT":
        context.set_ciphers(chosen)
    context.minimum_version = getattr(ssl.TLSVersion, _VERSIONS[lowest])
    context.maximum_version = getattr(ssl.TLSVersion, _VERSIONS[tls.max_version])
    if not tls.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    if tls.curve_preferences:
        context.set_ecdh_curve(_CURVES[tls.curve_preferences[0]])
    _load_certificate(context, material["cert"], material["key"])
    if "client_ca" in material:
        context.load_verify_locations(cadata=material["client_ca"].decode("ascii", "replace"))
        required = tls.client_auth_type == "RequireAndVerifyClientCert"
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return context


def _load_certificate(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Load from memory files, because Python's `ssl` accepts only paths and the files were already read."""
    with contextlib.ExitStack() as files:
        paths = []
        for part in (certificate, key):
            descriptor = os.memfd_create("deckwatch-tls")
            files.callback(os.close, descriptor)
            os.write(descriptor, part)
            paths.append(f"/proc/self/fd/{descriptor}")
        # Without a password argument, OpenSSL prompts on the terminal for an encrypted key's password.
        context.load_cert_chain(paths[0], paths[1], password="")
