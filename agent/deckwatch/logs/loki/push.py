"""Pushes to Loki over HTTP and interprets the response.

`POST /loki/api/v1/push` (https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs). The connection
stays open between pushes. Results contain no secrets.
"""

from __future__ import annotations

import base64
import email.utils
import http.client
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import orjson
from isal import isal_zlib

from deckwatch import __version__
from deckwatch.config.client_tls import client_context, tls_failure
from deckwatch.config.log_settings_parts import TENANT_LABEL
from deckwatch.config.secret_files import FileSecret
from deckwatch.logs.loki import protobuf
from deckwatch.logs.loki.connection import Connection, Deadline
from deckwatch.logs.loki.proxy import Proxy
from deckwatch.logs.loki.refusals import Refusals, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from threading import Event

    from deckwatch.config.log_settings import LokiSettings
    from deckwatch.logs.loki.batch import Part

_PATH = "/loki/api/v1/push"
_MAX_RESPONSE = 8 * 1024 * 1024  # a 400 lists each second of a backlog that is too old
_MAX_TEXT = 500  # characters of a response that an error quotes

#: The streams of a push: labels and parts in order.
Streams = list[tuple[dict[str, str], list["Part"]]]


@dataclass(frozen=True)
class Accepted:
    """Loki stored the whole push."""


@dataclass(frozen=True)
class Retry:
    """The same push may succeed later: in `after` seconds, if given. `reason` is used as a label value."""

    reason: str
    text: str
    after: float | None = None


@dataclass(frozen=True)
class Rejected:
    """A 400 response: Loki stored everything except `refusals`, or nothing if these are empty.

    `plain` is whether the response is plain text, as Loki's own are, and not a proxy's page.
    """

    text: str
    refusals: Refusals
    plain: bool


@dataclass(frozen=True)
class TooLarge:
    """Loki stored nothing. A smaller push may succeed."""

    text: str


@dataclass(frozen=True)
class NewStreamRefused:
    """Loki has as many streams as the tenant may have. It stored those that it had before."""

    text: str


Result = Accepted | Retry | Rejected | TooLarge | NewStreamRefused


def json_pieces(streams: Streams) -> Iterator[bytes | memoryview]:
    """Yield the body of a push, assembled from spooled parts."""
    if not streams:
        yield b'{"streams":[]}'
        return
    before = b'{"streams":[{"stream":'
    for labels, parts in streams:
        yield before + orjson.dumps(labels) + b',"values":['
        yield parts[0].values
        for part in parts[1:]:
            yield b","
            yield part.values
        before = b']},{"stream":'
    yield b"]}]}"


def _gzipped(pieces: Iterable[bytes | memoryview]) -> bytes:
    # In pieces, because a single body would be copied twice. 31 selects the gzip format, as in zlib.
    packer = isal_zlib.compressobj(1, isal_zlib.DEFLATED, 31)
    packed = [packer.compress(piece) for piece in pieces]
    return b"".join((*packed, packer.flush()))


class Pusher:
    """Pushes to one destination over one connection. Used by one thread.

    Raises ValueError for invalid settings and OSError for TLS files that cannot be read.
    """

    def __init__(self, settings: LokiSettings, stop: Event) -> None:
        url = urlsplit(settings.url)
        if not url.hostname:
            raise ValueError("url: the host name is missing. Use a URL such as http://127.0.0.1:3100.")
        path = url.path.rstrip("/")
        self._target = path if path.endswith("/push") else path + _PATH
        if url.query:
            self._target += "?" + url.query
        self._address = url.hostname, url.port or (443 if url.scheme == "https" else 80)
        tls = settings.tls
        self._context = (
            client_context(tls.ca_file, tls.cert_file, tls.key_file, verify=not tls.insecure_skip_verify)
            if url.scheme == "https"
            else None
        )
        self._server_name = tls.server_name or url.hostname
        self._timeout = settings.timeout
        self._stop = stop
        self._connection: Connection | None = None
        self._proxy = Proxy.at(settings.proxy_url.get_secret_value()) if settings.proxy_url else None
        extra = {name: value.get_secret_value() for name, value in settings.headers.items()}
        self._headers = {"User-Agent": f"deckwatch/{__version__}"} | extra
        if self._proxy is not None and url.scheme == "http":
            # The proxy receives the whole URL. With TLS, it only connects, and sees no header of the push.
            self._target = f"http://{url.netloc.rpartition('@')[2]}{self._target}"
            self._headers |= self._proxy.headers
        if settings.encoding == "protobuf":
            self._headers["Content-Type"] = "application/x-protobuf"
            snappy = protobuf.snappy()
            self._encode: Callable[[Streams], bytes] = lambda streams: snappy(protobuf.push_request(streams))
        else:
            self._headers |= {"Content-Type": "application/json", "Content-Encoding": "gzip"}
            self._encode = lambda streams: _gzipped(json_pieces(streams))
        if settings.tenant:
            self._headers["X-Scope-OrgID"] = _header_value("tenant", settings.tenant)
        self._settings, self._url = settings, url
        self._secrets: tuple[str, ...] = tuple(extra.values())
        if self._proxy is not None and self._proxy.authorization:
            self._secrets += (self._proxy.authorization.partition(" ")[2],)
        secrets = (settings.password, settings.bearer_token)
        self._file_secret = next((secret for secret in secrets if isinstance(secret, FileSecret)), None)
        self._credential = next((secret.get_secret_value() for secret in secrets if secret is not None), "")
        self._authorize()

    def _authorize(self) -> None:
        """Set the Authorization header from the current credential."""
        authorization = _authorization(self._settings, self._credential, self._url.username, self._url.password)
        if authorization:
            self._headers["Authorization"] = authorization
            known = self._credential.strip(), unquote(self._url.password or ""), authorization.partition(" ")[2]
            self._secrets += tuple(filter(None, known))

    def _takes_new_credential(self) -> bool:
        """Read the file of the token or password again. Return whether it has changed to something usable."""
        if self._file_secret is None or (found := self._file_secret.read_again()) in (self._credential, ""):
            return False
        before, self._credential = self._credential, found
        try:
            self._authorize()
        except ValueError:  # it is being written
            self._credential = before
            return False
        return True

    def push(self, streams: Streams, tenant: str | None = None) -> Result:
        """Push and wait for the response: at most the configured timeout, or one second after a stop request.

        `tenant` replaces the one of the settings.
        """
        body = self._encode(streams)
        result = self._sent(body, tenant)
        if isinstance(result, Retry) and result.reason == "unauthorized" and self._takes_new_credential():
            result = self._sent(body, tenant)
        return result

    def _sent(self, body: bytes, tenant: str | None) -> Result:
        headers = self._headers if tenant is None else self._headers | {"X-Scope-OrgID": tenant}
        deadline = Deadline(self._timeout, self._stop)
        fresh = self._connection is None
        result = self._exchange(body, headers, deadline)
        if result is None and not fresh:
            # The server closed the idle connection, which says nothing about this push. Try a new connection.
            result = self._exchange(body, headers, deadline)
        return result or Retry("connection", "the server closed the connection without a response")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _exchange(self, body: bytes, headers: dict[str, str], deadline: Deadline) -> Result | None:
        """Send the request once. Return None if the connection closed without a response."""
        try:
            if self._connection is None:
                self._connection = Connection(self._address, self._context, self._server_name, deadline, self._proxy)
            response, raw = self._connection.post(self._target, body, headers, deadline, _MAX_RESPONSE + 1)
        except TimeoutError as error:
            self.close()
            return Retry("timeout", str(error) or f"timed out after {self._timeout:g} s")
        except (
            http.client.RemoteDisconnected,
            ConnectionResetError,
            BrokenPipeError,
            ssl.SSLEOFError,
            ssl.SSLZeroReturnError,
        ):
            self.close()
            return None
        except ssl.SSLError as error:
            self.close()
            return Retry("tls", tls_failure(error, name="url or tls.server_name"))
        except OSError as error:
            self.close()
            return Retry("connection", error.strerror or str(error))
        except http.client.HTTPException as error:
            self.close()
            return Retry("protocol", f"invalid HTTP response ({type(error).__name__})")
        if response.will_close or len(raw) > _MAX_RESPONSE:
            self.close()
        text = raw[:_MAX_RESPONSE].decode("utf-8", "replace")
        for secret in self._secrets:  # a proxy may echo request headers
            text = text.replace(secret, "***")
        return interpret(response.status, text, response.headers)


def interpret(status: int, text: str, headers: Any) -> Result:
    """Interpret a response. `headers.get(name)` must be case-insensitive."""
    brief = " ".join(text[:_MAX_TEXT].split())
    if status in (200, 201, 202, 204):
        if _is_a_page(text, str(headers.get("Content-Type", ""))):
            return Retry("not_loki", f"status {status} with a web page. Check url: a portal or a proxy answers there")
        return Accepted()
    if status == 413:
        return TooLarge(brief)
    if status == 400:
        if "rate limit exceeded" in text.lower():
            # The response may also list refusals. Retry all: rate-limited entries can still be stored, and Loki
            # stores repeated entries once.
            return Retry("rate_limited", brief, retry_after(headers.get("Retry-After")))
        refusals = parse(text)
        return Rejected(brief, refusals, str(headers.get("Content-Type", "")).startswith("text/plain"))
    if status == 429 and "active stream limit exceeded" in text.lower():
        return NewStreamRefused(brief)
    if status == 429:
        return Retry("rate_limited", brief, retry_after(headers.get("Retry-After")))
    if status in (401, 403):
        return Retry("unauthorized", f"status {status}")  # the text may echo credentials
    if 300 <= status < 400:
        return Retry("redirect", f"status {status}: redirects are not followed. Set url to the redirect's target.")
    reason = "server_error" if status >= 500 else f"status_{status}"
    return Retry(reason, f"status {status}: {brief}", retry_after(headers.get("Retry-After")))


def _is_a_page(text: str, content_type: str) -> bool:
    """Whether a web page says that all is well: a login portal stores no logs. Loki answers without content."""
    start = text[:256].lstrip("\ufeff \t\r\n").lower()
    return bool(start) and ("html" in content_type.lower() or start.startswith(("<!doctype", "<html")))


def retry_after(value: str | None) -> float | None:
    """Return the seconds of a Retry-After header, which is a number or a date (RFC 9110, 10.2.3)."""
    if not value:
        return None
    value = value.strip()
    if value.isascii() and value.isdecimal():
        return float(value[:9])
    try:
        moment = email.utils.parsedate_to_datetime(value)
        return max(0.0, moment.timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _authorization(
    settings: LokiSettings, credential: str, url_user: str | None, url_password: str | None
) -> str | None:
    if settings.bearer_token is not None:
        return "Bearer " + _header_value("bearer_token", credential.strip())
    user, password = settings.username, credential
    if user is None and url_user is not None:
        user, password = unquote(url_user), unquote(url_password or "")
    if user is None:
        return None
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _header_value(name: str, value: str) -> str:
    if not value.isascii() or not value.isprintable():
        # The value may be a secret, so the message does not contain it.
        raise ValueError(f"{name}: contains characters that are not printable ASCII. HTTP headers do not allow them.")
    return value


def by_tenant(parts: Sequence[Part]) -> dict[str | None, list[Part]]:
    """Separate parts by the tenant in their labels, which is removed; None stands for that of the destination."""
    found: dict[str | None, list[Part]] = {}
    for part in parts:
        if TENANT_LABEL in part.labels:
            labels = dict(part.labels)
            found.setdefault(labels.pop(TENANT_LABEL), []).append(part._replace(labels=labels))
        else:
            found.setdefault(None, []).append(part)
    return found


def group(parts: Sequence[Part], extra: dict[str, str]) -> Streams:
    """Group parts by stream, in order. `extra` labels are added unless the part has a label with that name."""
    streams: dict[bytes, tuple[dict[str, str], list[Part]]] = {}
    for part in parts:
        labels = dict(sorted((extra | part.labels).items())) if extra else part.labels
        streams.setdefault(orjson.dumps(labels), (labels, []))[1].append(part)
    return list(streams.values())
