"""The exporter-toolkit's web configuration file: TLS, client certificates, users, headers, rate limit.

The file that people have for the Go exporters works unchanged (format: docs/web-configuration.md of
prometheus/exporter-toolkit). It is read again when it or a certificate changes; a file that became wrong leaves the
last good one in force.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from deckwatch.config import ConfigError, Settings, parse_duration
from deckwatch.config.load import validated
from deckwatch.config.source import read
from deckwatch.http.basic_auth import BasicAuth, TooManyChecks
from deckwatch.http.headers import SECURITY_HEADERS

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from deckwatch.config.source import Source

_log = logging.getLogger("deckwatch.http")

_TLS_VERSIONS = {"TLS10": "TLSv1", "TLS11": "TLSv1_1", "TLS12": "TLSv1_2", "TLS13": "TLSv1_3"}
_CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}
# Go's names (crypto/tls.CipherSuites) and OpenSSL's. Those of TLS 1.3 are always on: there is nothing to choose.
_TLS13_CIPHERS = frozenset(("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"))
_CIPHERS = {
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
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",  # Go's older releases know these too
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
}
_CHECK_EVERY = 1.0  # seconds between two looks at the files
_LOOK_PATIENCE = 0.5  # seconds that a request waits for a look


def _cipher(name: str) -> str:
    if name not in _CIPHERS and name not in _TLS13_CIPHERS:
        raise ValueError(f"one of {', '.join((*_CIPHERS, *sorted(_TLS13_CIPHERS)))}")
    return name


def _client_auth_type(name: str) -> str:
    if name in ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert"):
        raise ValueError(
            "RequireAndVerifyClientCert; a certificate that is asked for but not verified cannot be had in Python "
            "and protects nothing"
        )
    known = ("NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert")
    if name and name not in known:
        raise ValueError(f"one of {', '.join(known)}")
    return name or "NoClientCert"


class Pem(SecretStr):
    """A private key in the file. A class of its own: `key_file` is watched for changes, not read in as a secret."""


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
        """As in the toolkit, versions and ciphers alone do not switch TLS on."""
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
            raise ValueError("one curve at the most in curve_preferences: Python's TLS takes no list")
        return self


_HEADER_VALUES = {"X-Frame-Options": ("deny", "sameorigin"), "X-Content-Type-Options": ("nosniff",)}


def _header_values(headers: dict[str, str]) -> dict[str, str]:
    for name, allowed in _HEADER_VALUES.items():
        if headers.get(name, "") not in ("", *allowed):
            raise ValueError(f"{name} to be {' or '.join(allowed)}")
    return headers


class HttpSettings(Settings):
    #: Taken for the file's sake; HTTP/2 is not offered, and every client speaks HTTP/1.1.
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
    """A valid file, as what it asks for. Raises ConfigError; `seen` gets every file that was looked into."""

    def __init__(self, path: Path, seen: _Seen) -> None:
        seen.note(path)
        source = read(path, None)
        values = {} if source.values is None else source.values
        if not isinstance(values, dict):
            source.blame((), "expected keys such as tls_server_config and basic_auth_users")
            raise ConfigError(source.problems)
        values = {key: value for key, value in values.items() if value is not None}  # a key without a value
        values["basic_auth_users"] = _users(source, values.get("basic_auth_users", {}))
        settings = validated(source, WebSettings, values, ())
        if source.problems or settings is None:
            raise ConfigError(source.problems)
        tls = settings.tls_server_config
        if tls is not None and not tls.is_enabled:
            tls = None
        self.allowed_sans = frozenset(map(_canonical, tls.client_allowed_sans)) if tls else frozenset()
        self.tls = _tls(source, path.parent, tls, seen) if tls else None
        self.auth = BasicAuth(settings.basic_auth_users) if settings.basic_auth_users else None
        self.headers = tuple(
            (name.lower().encode("ascii"), value.encode("ascii"))
            for name, value in settings.http_server_config.headers.items()
            if value
        )
        limit = settings.rate_limit
        self.bucket = TokenBucket(limit.interval, limit.burst) if limit.interval else None


def _users(source: Source, users: Any) -> dict[str, str]:
    """The users with a valid hash. What stands there instead of one may be a password: no message shows it."""
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


class _Seen:
    """Files, and what they were like before they were read: a change while they are read is a change."""

    def __init__(self) -> None:
        self._stamps: dict[Path, tuple[int, int, int, int] | None] = {}

    def note(self, file: Path) -> None:
        self._stamps[file] = _stamp(file)

    def has_changed(self) -> bool:
        return any(_stamp(file) != stamp for file, stamp in self._stamps.items())


class WebConfigFile:
    """The file as it is in force. `None` means none: plain HTTP for everybody. Raises ConfigError at the start."""

    def __init__(self, path: str | Path | None, check_every: float = _CHECK_EVERY) -> None:
        self._path = Path(path) if path is not None else None
        self._check_every = check_every
        self._seen = _Seen()
        self._rules = _Rules(self._path, self._seen) if self._path is not None else None
        self._looked = time.monotonic()
        self._is_looking = False

    @property
    def uses_tls(self) -> bool:
        return self._rules is not None and self._rules.tls is not None

    def tls_context(self) -> ssl.SSLContext | None:
        """The context for a connection that comes now; None for plain HTTP."""
        return self._rules.tls if self._rules is not None else None

    def admits(self, certificate: Mapping[str, Any] | None) -> bool:
        """Whether a verified client certificate (as `ssl.getpeercert()` gives it) bears an allowed name."""
        if self._rules is None or not self._rules.allowed_sans:
            return True
        names = {_canonical(value) for _, value in (certificate or {}).get("subjectAltName", ())}
        return not names.isdisjoint(self._rules.allowed_sans)

    def guard(self, app: ASGIApp) -> ASGIApp:
        """`app` behind the rate limit and the users, with the headers added."""
        if self._path is None:
            return app

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            await self.refresh()
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

    async def refresh(self) -> None:
        """Take over what changed in the files; looks at most once a second.

        It is a thread that looks: a disk that hangs costs one request half a second, and the others nothing.
        """
        now = time.monotonic()
        if self._path is None or self._is_looking or now - self._looked < self._check_every:
            return
        self._looked, self._is_looking = now, True
        loop = asyncio.get_running_loop()
        looked = asyncio.Event()
        seen = self._seen

        def done(found: _Found | None) -> None:
            self._is_looking = False
            if found is not None:
                self._take_over(found)
            looked.set()

        def look() -> None:
            found = None
            try:
                found = _found(self._path, seen) if self._path is not None else None
            finally:
                with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                    loop.call_soon_threadsafe(done, found)

        threading.Thread(target=look, name="web-config", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(looked.wait(), _LOOK_PATIENCE)

    def _take_over(self, found: _Found) -> None:
        self._seen = found.seen
        if found.rules is None:
            _log.error(
                "web config not reloaded, the old one stays: %s", found.wrong, extra={"event": "web_config.failed"}
            )
            return
        if self._rules is not None and self._rules.auth is not None:
            self._rules.auth.close()
        self._rules = found.rules
        _log.info("web config reloaded", extra={"event": "web_config.reloaded"})


class _Found(NamedTuple):
    seen: _Seen
    rules: _Rules | None
    wrong: str


def _found(path: Path, before: _Seen) -> _Found | None:
    """What the files say now, or None where nothing has changed."""
    if not before.has_changed():
        return None
    seen = _Seen()
    try:
        return _Found(seen, _Rules(path, seen), "")
    except ConfigError as wrong:
        return _Found(seen, None, str(wrong))


def _stamp(file: Path) -> tuple[int, int, int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size


def _canonical(name: str) -> str:
    """A subject alternative name as Go compares it; OpenSSL writes IPv6 addresses out in full."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name


def _tls(source: Source, folder: Path, tls: TlsSettings, seen: _Seen) -> ssl.SSLContext:
    """The context; what is wrong with a file is said under the key that names it."""
    material = {}
    for key, marker in (("cert", "CERTIFICATE"), ("key", "PRIVATE KEY"), ("client_ca", "CERTIFICATE")):
        inline, name = getattr(tls, key), getattr(tls, f"{key}_file")
        where = ("tls_server_config", f"{key}_file" if name else key)
        if name:
            seen.note(folder / name)
            try:
                material[key] = (folder / name).read_bytes()
            except OSError as failure:
                source.blame(where, f"{name!r} cannot be read: {failure.strerror}")
                continue
        elif inline:
            material[key] = (inline.get_secret_value() if isinstance(inline, Pem) else inline).encode()
        else:
            continue
        if f"{marker}-----".encode() not in material[key]:
            source.blame(where, f"{name!r} holds no {marker} in PEM" if name else f"holds no {marker} in PEM")
    if source.problems:
        raise ConfigError(source.problems)
    try:
        return _context(tls, material)
    except (OSError, ValueError) as failure:  # ssl.SSLError is an OSError
        reason = getattr(failure, "reason", None)
        why = reason.lower().replace("_", " ") if reason else str(failure)
        source.blame(("tls_server_config",), f"TLS cannot be set up from it: {why}")
        raise ConfigError(source.problems) from None


def _context(tls: TlsSettings, material: Mapping[str, bytes]) -> ssl.SSLContext:
    import ssl  # only those who use TLS pay for it

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ciphers = [_CIPHERS[name] for name in tls.cipher_suites if name in _CIPHERS]
    for name, cipher in zip(filter(_CIPHERS.__contains__, tls.cipher_suites), ciphers, strict=True):
        try:
            context.set_ciphers(cipher)
        except ssl.SSLError:
            raise ValueError(f"this machine's OpenSSL does not offer the cipher suite {name}") from None
    chosen = ":".join(ciphers) or "DEFAULT"
    lowest = tls.min_version
    if lowest in ("TLS10", "TLS11"):
        chosen += ":@SECLEVEL=0"  # OpenSSL 3 offers these versions at this level only
    if tls.cipher_suites and not ciphers:
        lowest = "TLS13"  # only suites of 1.3 are wanted
    if chosen != "DEFAULT":
        context.set_ciphers(chosen)
    context.minimum_version = getattr(ssl.TLSVersion, _TLS_VERSIONS[lowest])
    context.maximum_version = getattr(ssl.TLSVersion, _TLS_VERSIONS[tls.max_version])
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
    """OpenSSL takes files only: they are read once, and handed on as files that no other process sees."""
    with contextlib.ExitStack() as files:
        paths = []
        for part in (certificate, key):
            descriptor = os.memfd_create("deckwatch-tls")
            files.callback(os.close, descriptor)
            os.write(descriptor, part)
            paths.append(f"/proc/self/fd/{descriptor}")
        # Without a password of ours OpenSSL would ask for an encrypted key's on the terminal, and wait.
        context.load_cert_chain(paths[0], paths[1], password="")


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
    start = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        *SECURITY_HEADERS,
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})
