"""HTTP probes: one request, its redirects, and what the response must be."""

from __future__ import annotations

import base64
import email.utils
import re
import time
import zlib
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin

import orjson

from deckwatch.exporter import Gauge, Malformed, split_http_url

from .certificates import tls_samples
from .network import Address, Connection, ProbeFailed

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from urllib.parse import SplitResult

    from deckwatch.exporter import Sample, Samples
    from deckwatch_exporters.clients.stream import Deadline

    from .network import Resolver
    from .settings import ProbeSettings

DURATION = Gauge(
    "probe_http_duration_seconds",
    "Duration of a phase of the request, summed over all redirects, in seconds.",
    ["phase"],
)
STATUS = Gauge("probe_http_status_code", "Status code of the response; 0 without a response.")
CONTENT_LENGTH = Gauge("probe_http_content_length", "Content-Length of the response, in bytes; -1 if it has none.")
BODY_LENGTH = Gauge("probe_http_uncompressed_body_length", "Length of the body that was read, in bytes.")
REDIRECTS = Gauge("probe_http_redirects", "Number of redirects.")
SSL = Gauge("probe_http_ssl", "Whether the last request used TLS (1) or not (0).")
VERSION = Gauge("probe_http_version", "HTTP version of the response.")
MODIFIED = Gauge(
    "probe_http_last_modified_timestamp_seconds", "Time in the response's Last-Modified header, in Unix seconds."
)

_PHASES = ("resolve", "connect", "tls", "processing", "transfer")
_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REDIRECTS = 10
_CHUNK = 64 * 1024
_SHOWN = 100  # characters of a malformed header


@dataclass
class HttpResult:
    """What an HTTP probe has measured so far; `activity` is what it is doing."""

    address: Address = field(default_factory=Address)
    phases: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_PHASES, 0.0))
    status: int = 0
    content_length: int | None = 0
    body_length: int = 0
    redirects: int = 0
    is_tls: bool = False
    version: float = 0.0
    modified: float | None = None
    malformed: tuple[Malformed, ...] = ()  # headers of the last response
    tls: tuple[Sample | Malformed, ...] = ()
    activity: str = ""

    def samples(self) -> Samples:
        yield from self.address.samples()
        for phase, seconds in self.phases.items():
            yield DURATION(seconds, phase=phase)
        yield STATUS(self.status)
        if self.content_length is not None:
            yield CONTENT_LENGTH(self.content_length)
        yield BODY_LENGTH(self.body_length)
        yield REDIRECTS(self.redirects)
        yield SSL(int(self.is_tls))
        yield VERSION(self.version)
        if self.modified is not None:
            yield MODIFIED(self.modified)
        yield from self.malformed
        yield from self.tls


class HttpProbe:
    """Sends the request of the settings. `context()` returns the TLS context."""

    def __init__(self, settings: ProbeSettings, resolver: Resolver, context: Callable[[], ssl.SSLContext]) -> None:
        self._settings = settings
        self._resolver = resolver
        self._context = context

    def run(self, result: HttpResult, deadline: Deadline) -> None:
        """Fill the result. Raises ProbeFailed, TimeoutError."""
        url, method, body = self._settings.parts, self._settings.method, self._body()
        while True:
            connection = self._connect(url, result, deadline)
            try:
                response, started = self._request(connection, url, method, body, result)
                target = _redirect(response, url)
                if target is None:
                    self._check(response, started, result)
                    return
            finally:
                connection.close()
            result.redirects += 1
            if not self._settings.follow_redirects or result.redirects > _MAX_REDIRECTS:
                self._expect_status(result.status)
                if self._settings.follow_redirects:
                    raise ProbeFailed(f"more than {_MAX_REDIRECTS} redirects")
                return
            url = target
            if response.status in (301, 302, 303):
                method, body = "HEAD" if method == "HEAD" else "GET", b""

    def _body(self) -> bytes:
        return self._settings.body.get_secret_value().encode() if self._settings.body else b""

    def _connect(self, url: SplitResult, result: HttpResult, deadline: Deadline) -> Connection:
        host = url.hostname or ""
        is_first, phases = not result.redirects, result.phases
        result.is_tls, result.tls = False, ()
        result.activity = f"resolving {host}"
        began = time.perf_counter()
        addresses = self._resolver.addresses(host, _port(url), self._settings.ip_protocol, deadline)
        resolved = time.perf_counter()
        phases["resolve"] += resolved - began
        address = result.address if is_first else Address()
        address.lookup = resolved - began
        result.activity = f"connecting to {host}:{_port(url)}"
        connection = Connection(addresses, address, deadline)
        connected = time.perf_counter()
        phases["connect"] += connected - resolved
        if url.scheme == "https":
            result.activity = f"waiting for the TLS handshake with {host}:{_port(url)}"
            try:
                connection.start_tls(self._context(), self._server_name(host) if is_first else host)
                result.is_tls = True
                result.tls = tuple(tls_samples(connection.socket, cipher=True))  # type: ignore[arg-type]  # a TLS socket now
            except BaseException:
                connection.close()
                raise
            phases["tls"] += time.perf_counter() - connected
        return connection

    def _server_name(self, host: str) -> str:
        given = {name.lower(): value.get_secret_value() for name, value in self._settings.headers.items()}
        return self._settings.tls.server_name or given.get("host", host)

    def _request(
        self, connection: Connection, url: SplitResult, method: str, body: bytes, result: HttpResult
    ) -> tuple[HTTPResponse, float]:
        """The response without its body, and when its first byte arrived."""
        result.activity = "waiting for the response"
        began = time.perf_counter()
        connection.send(self._request_head(url, method, body) + body)
        response = HTTPResponse(connection, method=method)  # type: ignore[arg-type]  # it only calls makefile()
        try:
            response.begin()
        except HTTPException as failure:
            raise ProbeFailed(f"the response is not HTTP ({type(failure).__name__})") from None
        started = connection.first_byte or time.perf_counter()
        result.phases["processing"] += started - began
        result.status = response.status
        result.version = response.version / 10
        result.content_length, result.modified = _content_length(response), _modified(response)
        result.malformed = tuple(
            Malformed(name, response.headers[name][:_SHOWN])
            for name, value in (("Content-Length", result.content_length), ("Last-Modified", result.modified))
            if value is None and name in response.headers
        )
        return response, started

    def _request_head(self, url: SplitResult, method: str, body: bytes) -> bytes:
        settings = self._settings
        headers = {"host": url.netloc.rpartition("@")[2], "user-agent": "Deckwatch", "accept-encoding": "identity"}
        # Headers and credentials are for the configured server, not for one that it redirects to.
        if _origin(url) == _origin(settings.parts):
            headers |= {name.lower(): value.get_secret_value() for name, value in settings.headers.items()}
            if settings.bearer_token is not None:
                headers["authorization"] = f"Bearer {settings.bearer_token.get_secret_value()}"
            elif settings.credentials is not None:
                encoded = base64.b64encode(":".join(settings.credentials).encode()).decode()
                headers["authorization"] = f"Basic {encoded}"
        headers["connection"] = "close"
        if body:
            headers["content-length"] = str(len(body))
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        lines = [f"{method} {path} HTTP/1.1", *(f"{name.title()}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("ascii")

    def _check(self, response: HTTPResponse, started: float, result: HttpResult) -> None:
        failure: ProbeFailed | None = None
        try:
            self._expect_status(response.status)
            self._expect_headers(response)
        except ProbeFailed as failed:
            failure = failed
        result.activity = "reading the body"
        body = self._read(response, result, keep=failure is None and self._settings.expect.reads_body)
        result.phases["transfer"] += time.perf_counter() - started
        if failure is not None:
            raise failure
        self._expect_body(body)
        if self._settings.expect.tls not in (None, result.is_tls):
            raise ProbeFailed("the last request used TLS" if result.is_tls else "the last request did not use TLS")

    def _read(self, response: HTTPResponse, result: HttpResult, *, keep: bool) -> bytes:
        limit = self._settings.body_size_limit
        kept = []
        encoding = (response.headers["Content-Encoding"] or "identity").lower()
        unzip = zlib.decompressobj(47) if keep and encoding in ("gzip", "deflate") else None
        try:
            while chunk := response.read1(_CHUNK):
                if unzip is not None:
                    chunk = unzip.decompress(chunk, limit + 1)
                result.body_length += len(chunk)
                if result.body_length > limit:
                    raise ProbeFailed(f"the body is longer than body_size_limit ({limit} bytes)")
                if keep:
                    kept.append(chunk)
        except (HTTPException, ValueError, zlib.error) as failure:
            raise ProbeFailed(f"the body is malformed ({type(failure).__name__})") from None
        missing = getattr(response, "length", None)
        if missing:  # read1() returns the end of the connection like the end of the body
            raise ProbeFailed(f"the server closed the connection {missing} bytes before the end of the body")
        return b"".join(kept)

    def _expect_status(self, status: int) -> None:
        if not self._settings.expect.accepts(status):
            raise ProbeFailed(f"HTTP status {status}, expected {', '.join(self._settings.expect.status)}")

    def _expect_headers(self, response: HTTPResponse) -> None:
        for name, pattern in self._settings.expect.headers.items():
            values = response.headers.get_all(name)
            if not values:
                raise ProbeFailed(f"the response has no header {name}", is_regex=True)
            if not any(pattern.search(value) for value in values):
                raise ProbeFailed(f"the header {name} does not match {pattern.pattern}", is_regex=True)

    def _expect_body(self, body: bytes) -> None:
        expect = self._settings.expect
        if expect.body or expect.body_not:
            text = body.decode("utf-8", "replace")
            if expect.body and not expect.body.search(text):
                raise ProbeFailed(f"the body does not match {expect.body.pattern}", is_regex=True)
            if expect.body_not and expect.body_not.search(text):
                raise ProbeFailed(f"the body matches {expect.body_not.pattern}", is_regex=True)
        if expect.json_expression and not _holds(expect.json_expression, body):
            raise ProbeFailed(f"{expect.json_expression} is not true for the body")


def _holds(expression: str, body: bytes) -> bool:
    import jmespath

    try:
        found: Any = jmespath.search(expression, orjson.loads(body))
    except orjson.JSONDecodeError:
        raise ProbeFailed("the body is not JSON") from None
    except (jmespath.exceptions.JMESPathError, RecursionError, TypeError) as failure:
        raise ProbeFailed(f"cannot evaluate {expression} ({type(failure).__name__})") from None
    # False values as JMESPath defines them: 0 is true.
    return found is not None and found is not False and found not in ("", [], {})


def _redirect(response: HTTPResponse, url: SplitResult) -> SplitResult | None:
    """Where the response redirects to; None if it does not. Raises ProbeFailed."""
    location = response.headers["Location"]
    if response.status not in _REDIRECTS or not location:
        return None
    try:
        target = urljoin(url.geturl(), quote(location, safe="/:?#[]@!$&'()*+,;=%~-._")).partition("#")[0]
        return split_http_url(target)
    except ValueError:
        raise ProbeFailed("a redirect to something other than a URL of http or https") from None


def _origin(url: SplitResult) -> tuple[str, str | None, int]:
    return url.scheme, url.hostname, _port(url)


def _port(url: SplitResult) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _content_length(response: HTTPResponse) -> int | None:
    """-1 if the response has none; None if the header is malformed."""
    if response.status in (204, 304):
        return 0
    text = response.headers["Content-Length"]
    if text is None or response.chunked:
        return -1
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _modified(response: HTTPResponse) -> float | None:
    """The time of the Last-Modified header; None if it is missing or malformed."""
    try:
        return email.utils.parsedate_to_datetime(response.headers["Last-Modified"]).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
