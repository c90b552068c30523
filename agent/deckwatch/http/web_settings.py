"""Settings model of the exporter-toolkit's web configuration file.

Format: docs/web-configuration.md of prometheus/exporter-toolkit.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from deckwatch.config import Settings, parse_duration

if TYPE_CHECKING:
    from deckwatch.config.source import Source

# Go's names (crypto/tls.CipherSuites) and OpenSSL's. TLS 1.3 suites are always enabled and cannot be configured.
TLS13_CIPHERS = frozenset(("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"))
CIPHERS = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",  # these four only in older Go releases
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
}


def _cipher(name: str) -> str:
    if name not in CIPHERS and name not in TLS13_CIPHERS:
        raise ValueError(f"one of {', '.join((*CIPHERS, *sorted(TLS13_CIPHERS)))}")
    return name


def _client_auth_type(name: str) -> str:
    if name in ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert"):
        raise ValueError(
            "RequireAndVerifyClientCert, because Python's TLS does not support requesting a certificate without "
            "verifying it"
        )
    known = ("NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert")
    if name and name not in known:
        raise ValueError(f"one of {', '.join(known)}")
    return name or "NoClientCert"


class Pem(SecretStr):
    """An inline private key. Not a plain SecretStr: `key_file` is watched for changes instead of read as a secret."""


class TlsSettings(Settings):
    cert: str | None = None
    key: Pem | None = None
    client_ca: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    client_ca_file: str | None = None
    client_auth_type: Annotated[str, AfterValidator(_client_auth_type)] = "NoClientCert"
    client_allowed_sans: tuple[str, ...] = ()
    min_version: Literal["TLS10", "TLS11", "TLS12", "TLS13"] = "TLS12"
    max_version: Literal["TLS10", "TLS11", "TLS12", "TLS13"] = "TLS13"
    cipher_suites: tuple[Annotated[str, AfterValidator(_cipher)], ...] = ()
    prefer_server_cipher_suites: bool = True
    curve_preferences: tuple[Literal["CurveP256", "CurveP384", "CurveP521", "X25519"], ...] = ()

    @property
    def is_enabled(self) -> bool:
        """Whether TLS is enabled. As in the toolkit, versions and ciphers alone do not enable it."""
        named = (self.cert, self.key, self.cert_file, self.key_file, self.client_ca, self.client_ca_file)
        return any(named) or self.client_auth_type != "NoClientCert"

    @model_validator(mode="after")
    def _fits_together(self) -> TlsSettings:
        if not self.is_enabled:
            return self
        if bool(self.cert) == bool(self.cert_file) or bool(self.key) == bool(self.key_file):
            raise ValueError(
                "a certificate and a key, each either inline (cert, key) or as a file (cert_file, key_file)"
            )
        if self.client_ca and self.client_ca_file:
            raise ValueError("either client_ca or client_ca_file")
        verifies = self.client_auth_type != "NoClientCert"
        if verifies != bool(self.client_ca or self.client_ca_file):
            raise ValueError("client_ca_file together with client_auth_type RequireAndVerifyClientCert")
        if self.client_allowed_sans and self.client_auth_type != "RequireAndVerifyClientCert":
            raise ValueError("client_allowed_sans together with client_auth_type RequireAndVerifyClientCert")
        if self.min_version > self.max_version:
            raise ValueError("a min_version that is not above max_version")
        if len(self.curve_preferences) > 1:
            raise ValueError("at most one curve in curve_preferences, because Python's TLS does not support a list")
        return self


_HEADER_VALUES = {"X-Frame-Options": ("deny", "sameorigin"), "X-Content-Type-Options": ("nosniff",)}


def _header_values(headers: dict[str, str]) -> dict[str, str]:
    for name, allowed in _HEADER_VALUES.items():
        if headers.get(name, "") not in ("", *allowed):
            raise ValueError(f"{name} to be {' or '.join(allowed)}")
    return headers


class HttpSettings(Settings):
    #: Accepted for compatibility and ignored: the server supports only HTTP/1.1.
    http2: bool = True
    headers: Annotated[
        dict[
            Literal[
                "Content-Security-Policy",
                "X-Frame-Options",
                "X-Content-Type-Options",
                "X-XSS-Protection",
                "Strict-Transport-Security",
            ],
            Annotated[str, Field(pattern=r"^[\x20-\x7e]*$")],
        ],
        AfterValidator(_header_values),
    ] = Field(default_factory=dict)


def _interval(value: Any) -> float:
    return 0.0 if value in (0, "0", "0s") else parse_duration(value)


class RateLimitSettings(Settings):
    interval: Annotated[float, BeforeValidator(_interval)] = 0.0
    burst: Annotated[int, Field(ge=0)] = 0


_BCRYPT_HASH = re.compile(r"\$2[abxy]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}")


class WebSettings(Settings):
    tls_server_config: TlsSettings | None = None
    http_server_config: HttpSettings = HttpSettings()
    basic_auth_users: dict[str, str] = Field(default_factory=dict)
    rate_limit: RateLimitSettings = RateLimitSettings()


def valid_users(source: Source, users: Any) -> dict[str, str]:
    """Return the users with a valid hash. An invalid value may be a password, so messages never show it."""
    valid: dict[str, str] = {}
    if not isinstance(users, dict):
        source.blame(("basic_auth_users",), "expected a mapping of user names to bcrypt hashes")
        return valid
    for user, value in users.items():
        if isinstance(value, str) and _BCRYPT_HASH.fullmatch(value):
            valid[user] = value
        else:
            what = "found a value (not shown); expected a bcrypt hash, as `htpasswd -nBC 10 USER` prints it"
            source.blame(("basic_auth_users", user), what)
    return valid
