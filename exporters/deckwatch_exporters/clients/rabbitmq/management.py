"""RabbitMQ's management API over one kept HTTP connection. h11 parses HTTP.

https://www.rabbitmq.com/docs/http-api-reference
"""

from __future__ import annotations

import importlib
from base64 import b64encode
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from deckwatch.exporter import Missing, client_context
from deckwatch_exporters.clients.stream import LinkClosed, LinkError, Stream

from .session import ConnectionFailed, grant_vhost, wrong_login

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from deckwatch_exporters.clients.stream import Deadline

    from .settings import ConnectionSettings

_PORTS = {"http": 80, "https": 443}
_LARGEST_ANSWER = 64 * 1024 * 1024
#: What to do when something else answers.
CHECK = "Check management_url, which must be the management API of RabbitMQ (port 15672)"


class NotFound(Exception):
    """The server has no such object."""


class Management:
    """The management API of one target. Its methods raise ConnectionFailed, Missing and NotFound."""

    def __init__(self, settings: ConnectionSettings, address: SplitResult) -> None:
        self._settings = settings
        self._host = address.hostname or "localhost"
        self._port = address.port or _PORTS[address.scheme]
        self._is_tls = address.scheme == "https"
        self._prefix = address.path.rstrip("/").removesuffix("/api")
        host = f"[{self._host}]" if ":" in self._host else self._host
        self._where = f"{host}:{self._port}"
        self._http: _Http | None = None

    def __str__(self) -> str:
        return self._where

    def get(self, *segments: str, query: str, deadline: Deadline) -> Any:
        """The parsed JSON at a path; `segments` are not encoded yet."""
        path = "/".join(quote(segment, safe="") for segment in segments)
        target = f"{self._prefix}/api/{path}?{query}"
        try:
            status, kind, body = self._request(target, deadline)
        except LinkError as failure:
            raise self._failed(str(failure)) from None
        except TimeoutError:
            raise self._failed(f"no answer within {self._settings.timeout:g} s") from None
        return self._parsed(status, kind, body)

    def close(self) -> None:
        http, self._http = self._http, None
        if http is not None:
            http.close()

    def _request(self, target: str, deadline: Deadline) -> tuple[int, str, bytes]:
        user, password = self._settings.credentials
        headers = [
            ("Host", self._where),
            ("Accept", "application/json"),
            ("User-Agent", "deckwatch"),
            ("Authorization", "Basic " + b64encode(f"{user}:{password}".encode()).decode()),
        ]
        if self._http is not None:
            try:
                return self._http.get(target, headers, deadline)
            except LinkClosed:
                # The server closes idle connections.
                self.close()
        tls, context = self._settings.tls, None
        if self._is_tls:
            try:
                context = client_context(tls.ca_file, tls.cert_file, tls.key_file, verify=tls.verify)
            except OSError as failure:
                raise LinkError(str(failure)) from None
        self._http = _Http(Stream((self._host, self._port), context, deadline))
        try:
            return self._http.get(target, headers, deadline)
        except LinkClosed as closed:
            raise LinkError(f"{closed}. {CHECK}") from None

    def _failed(self, why: str) -> ConnectionFailed:
        self.close()
        return ConnectionFailed(f"{self._where}: {why}")

    def _parsed(self, status: int, kind: str, body: bytes) -> Any:
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            answer = None
        if answer is None or not isinstance(answer, dict | list):
            shown = kind.partition(";")[0] or "no content type"
            raise self._failed(f"HTTP {status} with {shown} instead of JSON. {CHECK}")
        if status == 200:
            return answer
        reason = str(answer.get("reason") or answer.get("error") or "") if isinstance(answer, dict) else ""
        if status in (401, 403):
            raise self._refused(status, reason)
        if status == 404:
            raise NotFound(reason)
        raise self._failed(f"HTTP {status} ({reason[:200]}). {CHECK}")

    def _refused(self, status: int, reason: str) -> Exception:
        user, vhost = self._settings.credentials[0], self._settings.virtual_host
        text = reason.lower()
        if "management user" in text:
            return Missing(f"{user} may not use the management API", f"rabbitmqctl set_user_tags {user} management")
        if "virtual host" in text or "vhost" in text:
            return Missing(f"{user} may not access the virtual host {vhost!r}", grant_vhost(vhost, user))
        if status == 403:
            return Missing(
                f"{user} may not read the management API ({reason[:200]})",
                f"rabbitmqctl set_user_tags {user} monitoring",
            )
        return self._failed(wrong_login(user))


class _Http:
    """An open HTTP/1.1 connection. Raises LinkError and TimeoutError."""

    def __init__(self, stream: Stream) -> None:
        self._h11 = importlib.import_module("h11")
        self._stream = stream
        self._state = self._h11.Connection(self._h11.CLIENT)

    def close(self) -> None:
        self._stream.close()

    def get(self, target: str, headers: list[tuple[str, str]], deadline: Deadline) -> tuple[int, str, bytes]:
        """Status, content type and body of the response."""
        h11 = self._h11
        if self._state.our_state is h11.DONE and self._state.their_state is h11.DONE:
            self._state.start_next_cycle()
        elif self._state.our_state is not h11.IDLE:
            raise LinkClosed("the server closed the connection")
        try:
            request = self._state.send(h11.Request(method="GET", target=target, headers=headers))
            self._stream.send(request + self._state.send(h11.EndOfMessage()), deadline)
            return self._response(deadline)
        except h11.LocalProtocolError as wrong:
            raise LinkError(f"the request is not valid HTTP: {wrong}") from None
        except h11.RemoteProtocolError:
            raise LinkError(f"the answer is not HTTP. {CHECK}") from None

    def _response(self, deadline: Deadline) -> tuple[int, str, bytes]:
        h11 = self._h11
        status, kind, body = 0, "", bytearray()
        while True:
            event = self._state.next_event()
            if event is h11.NEED_DATA:
                try:
                    data = self._stream.receive(deadline)
                except LinkClosed:
                    if not status:
                        raise
                    data = b""  # the end of a body without a length
                self._state.receive_data(data)
            elif isinstance(event, h11.Response):
                status = event.status_code
                kind = next((value.decode("latin-1") for name, value in event.headers if name == b"content-type"), "")
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > _LARGEST_ANSWER:
                    raise LinkError(f"the answer is larger than {_LARGEST_ANSWER >> 20} MiB. {CHECK}")
            elif isinstance(event, h11.EndOfMessage):
                return status, kind, bytes(body)
