"""Query Grafana and Prometheus over HTTP with JSON, with a one-line error for each kind of failure."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, NoReturn

from deckwatch.config.client_tls import client_context, tls_failure

_MAX_ANSWER = 64 * 1024 * 1024
_CHECK = "Check the URL, and that it is running."


class ApiError(Exception):
    """The service is unreachable, or refuses the request. The message is one line and contains no secret."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follow no redirects: they would send the token elsewhere, and turn a POST into a GET."""

    def redirect_request(self, *_: Any) -> None:
        return None


class JsonApi:
    """A service at a base URL. `name` is what messages call it; a user and password in the URL become basic auth.

    Raises ValueError when the URL is none.
    """

    def __init__(self, name: str, url: str, token: str = "", timeout: float = 10.0) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("expected a URL like http://127.0.0.1:3000")
        host = parts.netloc.rpartition("@")[2]
        _ = parts.port  # raises ValueError for anything but a number
        if any(not 0x21 <= ord(character) <= 0x7E for character in host + parts.path):
            raise ValueError("it contains an invalid character")
        self._base = f"{parts.scheme}://{host}{parts.path.rstrip('/')}"
        self._title = f"{name} at {self._base}"
        self._timeout = timeout
        self._secrets = [
            secret for secret in (token, parts.password and urllib.parse.unquote(parts.password)) if secret
        ]
        self._headers = {"Accept": "application/json", "User-Agent": "deckwatch"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        elif parts.username:
            pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
            self._headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        handlers: list[Any] = [_NoRedirect]
        if parts.scheme == "https":
            handlers.append(urllib.request.HTTPSHandler(context=client_context()))
        self._opener = urllib.request.build_opener(*handlers)

    def get(self, path: str, accepted: tuple[int, ...] = (200,)) -> tuple[int, Any]:
        """Return status and content. Raises ApiError unless the status is an accepted one and the content is JSON."""
        return self._ask(urllib.request.Request(self._base + path, headers=self._headers), accepted)

    def post(self, path: str, content: Any, accepted: tuple[int, ...] = (200,)) -> tuple[int, Any]:
        """As `get`, with JSON in the request."""
        headers = {**self._headers, "Content-Type": "application/json"}
        body = json.dumps(content).encode()
        return self._ask(urllib.request.Request(self._base + path, body, headers), accepted)

    def post_form(self, path: str, form: dict[str, str]) -> Any:
        """Return the content of the answer to a form, which has room for long queries."""
        body = urllib.parse.urlencode(form).encode()
        return self._ask(urllib.request.Request(self._base + path, body, self._headers), (200,))[1]

    def fail(self, why: str) -> NoReturn:
        """Raise ApiError with this reason, without the secrets that it may repeat."""
        for secret in self._secrets:
            why = why.replace(secret, "***")
        raise ApiError(f"{self._title} {' '.join(why.split())[:300]}")

    def _ask(self, request: urllib.request.Request, accepted: tuple[int, ...]) -> tuple[int, Any]:
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                status, headers, body = answer.status, answer.headers, answer.read(_MAX_ANSWER + 1)
        except urllib.error.HTTPError as error:
            with error:
                status, headers, body = error.code, error.headers, self._body_of(error)
        except urllib.error.URLError as error:
            reason = _reason(error.reason) if isinstance(error.reason, OSError) else str(error.reason)
            # A TLS failure names what to check.
            self.fail(f"is unreachable: {reason}" if ". Check " in reason else f"is unreachable: {reason}. {_CHECK}")
        except (OSError, http.client.HTTPException) as error:
            self.fail(f"is unreachable: {_reason(error)}. {_CHECK}")
        if len(body) > _MAX_ANSWER:
            self.fail(f"sent more than {_MAX_ANSWER} bytes. Check the URL.")
        if 300 <= status < 400:
            self.fail(f"redirects to {headers.get('Location', 'nowhere')}. Use that URL.")
        if status == 401:
            self.fail(
                "refused the credentials (HTTP 401). Check the token or password."
                if self._secrets
                else "requires authentication (HTTP 401)."
            )
        if status == 403:
            self.fail(f"denied access (HTTP 403): {_message(body)}. Check the permissions of the token.")
        try:
            content = json.loads(body)
        except ValueError:
            self.fail(f"answered HTTP {status} without JSON. Check the URL.")
        if status not in accepted:
            self.fail(f"answered HTTP {status}: {_message(body)}")
        return status, content

    def _body_of(self, error: urllib.error.HTTPError) -> bytes:
        try:
            return error.read(_MAX_ANSWER + 1)
        except (OSError, http.client.HTTPException) as broken:
            self.fail(f"closed the connection during its answer (HTTP {error.code}): {_reason(broken)}. {_CHECK}")


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, ssl.SSLError):
        return tls_failure(error, ca="SSL_CERT_FILE", name="the URL")
    strerror = error.strerror if isinstance(error, OSError) else None
    return strerror or str(error) or type(error).__name__


def _message(body: bytes) -> str:
    """The service's own error message: Grafana's `message`, Prometheus' `error`."""
    try:
        content = json.loads(body)
    except ValueError:
        return "no reason given"
    said = content.get("message") or content.get("error") if isinstance(content, dict) else None
    return str(said) if said else "no reason given"
