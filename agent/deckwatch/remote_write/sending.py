"""Posts write requests to one receiver, and interprets its answers."""

from __future__ import annotations

import base64
import http.client
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from deckwatch import __version__
from deckwatch.config.client_tls import client_context, tls_failure
from deckwatch.config.secret_files import FileSecret
from deckwatch.logs.loki.connection import Connection, Deadline
from deckwatch.logs.loki.push import retry_after

if TYPE_CHECKING:
    from threading import Event

    from deckwatch.config.remote_write_settings import RemoteWriteSettings

_MAX_ANSWER = 64 * 1024
_MAX_TEXT = 300  # characters of an answer that an error quotes
_CONTENT = {
    "1.0": ("application/x-protobuf", "0.1.0"),
    "2.0": ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0"),
}
#: Answers to what the samples are; sending them again would change nothing.
_REFUSED = frozenset((400, 409, 413, 422))


@dataclass(frozen=True)
class Sent:
    """What became of a request. `reason` is "" when it was stored; `is_final` when it must not be sent again."""

    reason: str = ""
    text: str = ""
    is_final: bool = False
    after: float | None = None  # seconds that the receiver asks to wait


class Sender:
    """Sends over one connection. Used by one thread. Raises OSError for TLS files that cannot be read."""

    def __init__(self, settings: RemoteWriteSettings, stop: Event) -> None:
        url = urlsplit(settings.url)
        self._settings = settings
        self._stop = stop
        self._target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        self._address = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
        tls = settings.tls
        self._context = (
            client_context(tls.ca_file, tls.cert_file, tls.key_file, verify=not tls.insecure_skip_verify)
            if url.scheme == "https"
            else None
        )
        self._server_name = tls.server_name or url.hostname or ""
        self._user, self._url_password = settings.username or unquote(url.username or ""), unquote(url.password or "")
        secret = settings.password or settings.bearer_token
        self._file = secret if isinstance(secret, FileSecret) else None
        self._credential = secret.get_secret_value().strip() if secret is not None else ""
        self._connection: Connection | None = None

    def send(self, protocol: str, body: bytes) -> Sent:
        """Send a compressed request of a version of the protocol."""
        sent = self._sent(protocol, body)
        if sent.reason == "unauthorized" and self._file is not None:
            found = self._file.read_again().strip()
            if found and found != self._credential and found.isascii() and found.isprintable():
                self._credential = found
                return self._sent(protocol, body)
        return sent

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _headers(self, protocol: str) -> dict[str, str]:
        kind, version = _CONTENT[protocol]
        headers = {
            "User-Agent": f"deckwatch/{__version__}",
            "Content-Type": kind,
            "Content-Encoding": "snappy",
            "X-Prometheus-Remote-Write-Version": version,
        }
        if self._settings.bearer_token is not None:
            headers["Authorization"] = f"Bearer {self._credential}"
        elif self._user or self._credential:
            pair = f"{self._user}:{self._credential or self._url_password}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        return headers | {name: value.get_secret_value() for name, value in self._settings.headers.items()}

    def _sent(self, protocol: str, body: bytes) -> Sent:
        deadline = Deadline(self._settings.timeout, self._stop)
        headers = self._headers(protocol)
        is_fresh = self._connection is None
        sent = self._exchange(body, headers, deadline)
        if sent is None and not is_fresh:
            # The receiver closed the idle connection, which says nothing about this request.
            sent = self._exchange(body, headers, deadline)
        return sent or Sent("connection", "the server closed the connection without a response")

    def _exchange(self, body: bytes, headers: dict[str, str], deadline: Deadline) -> Sent | None:
        try:
            if self._connection is None:
                self._connection = Connection(self._address, self._context, self._server_name, deadline)
            answer, raw = self._connection.post(self._target, body, headers, deadline, _MAX_ANSWER)
        except TimeoutError as error:
            self.close()
            return Sent("timeout", str(error) or f"timed out after {self._settings.timeout:g} s")
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
            self.close()
            return None
        except ssl.SSLError as error:
            self.close()
            return Sent("tls", tls_failure(error, name="url or tls.server_name"))
        except OSError as error:
            self.close()
            return Sent("connection", error.strerror or str(error))
        except http.client.HTTPException as error:
            self.close()
            return Sent("protocol", f"invalid HTTP response ({type(error).__name__})")
        if answer.will_close or len(raw) >= _MAX_ANSWER:
            self.close()
        text = " ".join(raw.decode("utf-8", "replace").split())[:_MAX_TEXT]
        authorization = headers.get("Authorization", "").partition(" ")[2]
        for secret in filter(None, (self._credential, self._url_password, authorization)):
            text = text.replace(secret, "***")  # a proxy may repeat what it got
        return interpreted(
            answer.status, text, answer.headers.get("Content-Type", ""), answer.headers.get("Retry-After")
        )


def interpreted(status: int, text: str, content_type: str, wait: str | None) -> Sent:
    """What an answer means."""
    if status in (200, 202, 204):
        if content_type.startswith("text/html") or text[:1] == "<":
            return Sent(
                "not_a_receiver", f"status {status} with a web page. Check url: a portal or a proxy answers there"
            )
        return Sent()
    said = f"status {status}" + (f": {text}" if text and not text.startswith("<") else "")
    if status in (401, 403):
        return Sent("unauthorized", f"{said}. Check username, password or bearer_token")
    if status == 404:
        return Sent("not_found", f"{said}. Check the path of url; for Prometheus it is /api/v1/write, with "
                    "--web.enable-remote-write-receiver")  # fmt: skip
    if status == 415:
        return Sent("unsupported", f"{said}. The receiver does not know this version: set protocol to 1.0 or 2.0")
    if status in _REFUSED:
        return Sent("refused", said, is_final=True)
    if status == 429:
        return Sent("rate_limited", said, after=retry_after(wait))
    return Sent("server_error" if status >= 500 else "refused", said, after=retry_after(wait))
