"""The exporter-toolkit's web configuration file: TLS, client certificates, users, headers, rate limit.

The file that people have for the Go exporters works unchanged (format: docs/web-configuration.md of
prometheus/exporter-toolkit). It is read again when it or a certificate changes; a file that became wrong leaves the
last good one in force.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from deckwatch.basic_auth import BasicAuth, TooManyChecks
from deckwatch.config import ConfigError, Problem, Secret, Settings, parse_duration
from deckwatch.config.load import validated
from deckwatch.config.source import read

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = logging.getLogger("deckwatch.http")

_TLS_VERSIONS = {"TLS10": "TLSv1", "TLS11": "TLSv1_1", "TLS12": "TLSv1_2", "TLS13": "TLSv1_3"}
_CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}
_CHECK_EVERY = 1.0  # seconds between two looks at the files


def _openssl_cipher(name: str) -> str:
    """OpenSSL's name of a cipher suite of TLS 1.2 that Go, and so the file, names as IANA does."""
    body = name.removeprefix("TLS_")
    exchange, found, cipher = body.partition("_WITH_")
    if not found:
        if body.startswith(("AES_", "CHACHA20_")):
            return ""  # a suite of TLS 1.3: always on, there is nothing to choose
        raise ValueError("a cipher suite such as TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256")
    cipher = cipher.removesuffix("_SHA256") if "CHACHA20" in cipher else cipher
    cipher = cipher.replace("AES_128", "AES128").replace("AES_256", "AES256").replace("_CBC", "")
    parts = [*([] if exchange == "RSA" else exchange.split("_")), *cipher.split("_")]
    return "-".join(parts)


class TlsSettings(Settings):
    cert: str | None = None
    key: Secret | None = None
    client_ca: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    client_ca_file: str | None = None
    client_auth_type: Literal[
        "",
        "NoClientCert",
        "RequestClientCert",
        "RequireAnyClientCert",
        "VerifyClientCertIfGiven",
        "RequireAndVerifyClientCert",
    ] = "NoClientCert"
    client_allowed_sans: tuple[str, ...] = ()
    min_version: Literal["TLS10", "TLS11", "TLS12", "TLS13"] = "TLS12"
    max_version: Literal["TLS10", "TLS11", "TLS12", "TLS13"] = "TLS13"
    cipher_suites: tuple[Annotated[str, AfterValidator(_openssl_cipher)], ...] = ()
    prefer_server_cipher_suites: bool = True
    curve_preferences: tuple[Literal["CurveP256", "CurveP384", "CurveP521", "X25519"], ...] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> TlsSettings:
        if bool(self.cert) == bool(self.cert_file) or bool(self.key) == bool(self.key_file):
            raise ValueError(
                "a certificate and a key, each either inline (cert, key) or as a file (cert_file, key_file)"
            )
        if self.client_auth_type in ("RequestClientCert", "RequireAnyClientCert"):
            raise ValueError(
                "client_auth_type RequireAndVerifyClientCert: certificates that nobody verifies protect nothing"
            )
        verifies = self.client_auth_type in ("VerifyClientCertIfGiven", "RequireAndVerifyClientCert")
        if verifies != bool(self.client_ca or self.client_ca_file):
            raise ValueError("client_ca_file together with client_auth_type RequireAndVerifyClientCert")
        if self.client_allowed_sans and self.client_auth_type != "RequireAndVerifyClientCert":
            raise ValueError("client_allowed_sans together with client_auth_type RequireAndVerifyClientCert")
        if len(self.curve_preferences) > 1:
            raise ValueError("one curve at the most in curve_preferences: Python's TLS takes no list")
        return self


class HttpSettings(Settings):
    #: Taken for the file's sake; HTTP/2 is not offered, and every client speaks HTTP/1.1.
    http2: bool = True
    headers: dict[
        Literal[
            "Content-Security-Policy",
            "X-Frame-Options",
            "X-Content-Type-Options",
            "X-XSS-Protection",
            "Strict-Transport-Security",
        ],
        Annotated[str, Field(pattern=r"^[\x20-\x7e]*$")],
    ] = Field(default_factory=dict)


def _interval(value: Any) -> float:
    return 0.0 if value in (0, "0", "0s") else parse_duration(value)


class RateLimitSettings(Settings):
    interval: Annotated[float, BeforeValidator(_interval)] = 0.0
    burst: Annotated[int, Field(ge=0)] = 0


BcryptHash = Annotated[str, Field(pattern=r"^\$2[abxy]?\$\d\d\$[./A-Za-z0-9]{53}$")]


class WebSettings(Settings):
    tls_server_config: TlsSettings | None = None
    http_server_config: HttpSettings = HttpSettings()
    basic_auth_users: dict[str, BcryptHash] = Field(default_factory=dict)
    rate_limit: RateLimitSettings = RateLimitSettings()


class TokenBucket:
    """Lets one request pass every `interval` seconds, and `burst` of them at once."""

    def __init__(self, interval: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = interval
        self._burst = max(1, burst)
        self._clock = clock
        self._tokens = float(self._burst)
        self._filled = clock()

    def take(self) -> bool:
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._filled) / self._interval)
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class _Rules:
    """A valid file, as what it asks for. Raises ConfigError."""

    def __init__(self, path: Path) -> None:
        source = read(path, None)
        values = {} if source.values is None else source.values
        if not isinstance(values, dict):
            source.blame((), "expected keys such as tls_server_config and basic_auth_users")
            raise ConfigError(source.problems)
        # A hash of null or nothing at all is the same as no key.
        settings = validated(
            source, WebSettings, {key: value for key, value in values.items() if value is not None}, ()
        )
        if source.problems or settings is None:
            raise ConfigError(source.problems)
        tls = settings.tls_server_config
        self.allowed_sans = frozenset(tls.client_allowed_sans) if tls else frozenset()
        self.files = _files(path.parent, tls) if tls else []
        try:
            self.tls = _context(path.parent, tls) if tls else None
        except (OSError, ValueError) as failure:  # ssl.SSLError is an OSError
            why = getattr(failure, "strerror", None) or str(failure)
            file = getattr(failure, "filename", None)
            where = f"{file}: " if file else ""
            raise ConfigError(
                [Problem(str(path), source.line(("tls_server_config",)), "tls_server_config", where + why)]
            ) from None
        self.auth = BasicAuth(settings.basic_auth_users) if settings.basic_auth_users else None
        self.headers = tuple(
            (name.lower().encode("ascii"), value.encode("ascii"))
            for name, value in settings.http_server_config.headers.items()
            if value
        )
        limit = settings.rate_limit
        self.bucket = TokenBucket(limit.interval, limit.burst) if limit.interval else None


class WebConfigFile:
    """The file as it is in force. `None` means none: plain HTTP for everybody. Raises ConfigError at the start."""

    def __init__(self, path: str | Path | None) -> None:
        self._path = Path(path) if path is not None else None
        self._rules = _Rules(self._path) if self._path is not None else None
        self._signature = self._look()
        self._looked = time.monotonic()

    @property
    def uses_tls(self) -> bool:
        return self._rules is not None and self._rules.tls is not None

    def tls_context(self) -> ssl.SSLContext | None:
        """The context for a connection that comes now; None for plain HTTP."""
        self._renew()
        return self._rules.tls if self._rules is not None else None

    def admits(self, certificate: Mapping[str, Any] | None) -> bool:
        """Whether a verified client certificate (as `ssl.getpeercert()` gives it) bears an allowed name."""
        if self._rules is None or not self._rules.allowed_sans:
            return True
        names = {value for _, value in (certificate or {}).get("subjectAltName", ())}
        return not names.isdisjoint(self._rules.allowed_sans)

    def guard(self, app: ASGIApp) -> ASGIApp:
        """`app` behind the rate limit and the users, with the headers added."""
        if self._path is None:
            return app

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            self._renew()
            rules = self._rules
            if scope["type"] != "http" or rules is None:
                await app(scope, receive, send)
                return
            if rules.headers:
                send = _with_headers(send, rules.headers)
            if rules.bucket is not None and not rules.bucket.take():
                await _refuse(send, 429, "too many requests")
            elif rules.auth is None:
                await app(scope, receive, send)
            else:
                await _authenticated(rules.auth, app, scope, receive, send)

        return guarded

    def _renew(self) -> None:
        now = time.monotonic()
        if self._path is None or now - self._looked < _CHECK_EVERY:
            return
        self._looked = now
        signature = self._look()
        if signature == self._signature:
            return
        self._signature = signature
        try:
            rules = _Rules(self._path)
        except ConfigError as wrong:
            _log.error("web config not reloaded, the old one stays: %s", wrong, extra={"event": "web_config.failed"})
            return
        if self._rules is not None and self._rules.auth is not None:
            self._rules.auth.close()
        self._rules = rules
        self._signature = self._look()
        _log.info("web config reloaded", extra={"event": "web_config.reloaded"})

    def _look(self) -> tuple[object, ...]:
        files = [self._path, *(self._rules.files if self._rules is not None else [])] if self._path else []
        return tuple(_stamp(file) for file in files if file is not None)


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def _files(folder: Path, tls: TlsSettings) -> list[Path]:
    return [folder / name for name in (tls.cert_file, tls.key_file, tls.client_ca_file) if name]


def _context(folder: Path, tls: TlsSettings) -> ssl.SSLContext:
    import ssl  # only those who use TLS pay for it

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = getattr(ssl.TLSVersion, _TLS_VERSIONS[tls.min_version])
    context.maximum_version = getattr(ssl.TLSVersion, _TLS_VERSIONS[tls.max_version])
    ciphers = ":".join(filter(None, tls.cipher_suites))
    if ciphers:
        context.set_ciphers(ciphers)
    if not tls.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    if tls.curve_preferences:
        context.set_ecdh_curve(_CURVES[tls.curve_preferences[0]])
    _load_certificate(context, folder, tls)
    if tls.client_ca_file or tls.client_ca:
        cafile = str(folder / tls.client_ca_file) if tls.client_ca_file else None
        context.load_verify_locations(cafile=cafile, cadata=tls.client_ca)
        required = tls.client_auth_type == "RequireAndVerifyClientCert"
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return context


def _load_certificate(context: ssl.SSLContext, folder: Path, tls: TlsSettings) -> None:
    """OpenSSL takes files only: what stands in the config goes through ones that no file system sees."""
    descriptors = []

    def path_of(inline: str | None, file: str | None) -> str:
        if inline is None:
            return str(folder / (file or ""))
        descriptor = os.memfd_create("deckwatch-tls")
        descriptors.append(descriptor)
        os.write(descriptor, inline.encode())
        return f"/proc/self/fd/{descriptor}"

    try:
        key = tls.key.get_secret_value() if tls.key is not None else None
        certificate_file, key_file = path_of(tls.cert, tls.cert_file), path_of(key, tls.key_file)
        for file in (certificate_file, key_file):
            os.close(os.open(file, os.O_RDONLY))  # OpenSSL does not say which file it could not read
        context.load_cert_chain(certificate_file, key_file)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _with_headers(send: Send, headers: tuple[tuple[bytes, bytes], ...]) -> Send:
    names = {name for name, _ in headers}

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [(name, value) for name, value in message["headers"] if name.lower() not in names]
            message["headers"] = [*kept, *headers]
        await send(message)

    return send_with_headers


async def _authenticated(auth: BasicAuth, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    authorization = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    try:
        admitted = await auth.admits(authorization.decode("latin-1"))
    except TooManyChecks:
        await _refuse(send, 503, "too many passwords to verify; try again")
        return
    if admitted:
        await app(scope, receive, send)
    else:
        await _refuse(send, 401, "unauthorized", (b"www-authenticate", b'Basic realm="deckwatch", charset="UTF-8"'))


async def _refuse(send: Send, status: int, why: str, *headers: tuple[bytes, bytes]) -> None:
    body = f"{why}\n".encode()
    start = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})
