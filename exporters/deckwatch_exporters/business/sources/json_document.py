"""Figures in a JSON document: a query is a JMESPath expression.

A number gives one row, an object one row with its members as columns, and a list of objects a row for each.
"""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

import orjson

from deckwatch.exporter import Malformed, Unreachable, client_context, tls_failure
from deckwatch_exporters.business.rows import QueryFailed, Table

if TYPE_CHECKING:
    from deckwatch_exporters.business.settings import HttpSettings

_MAX_BODY = 10 * 1024 * 1024
_FRESH = 1.0  # seconds for which the queries of one run share a document
_CHUNK = 65_536
_SHOWN = 100  # characters of an item that is not an object


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follow no redirects: they would send the token to another host."""

    def redirect_request(self, *_: Any) -> None:
        return None


class JsonDocument:
    def __init__(self, settings: HttpSettings, timeout: float) -> None:
        self._settings = settings
        self._timeout = timeout
        handlers: list[Any] = [_NoRedirect]
        if settings.url.startswith("https:"):
            handlers.append(urllib.request.HTTPSHandler(context=client_context()))
        self._opener = urllib.request.build_opener(*handlers)
        self._document: Any = None
        self._read_at = float("-inf")
        parts = urllib.parse.urlsplit(settings.url)
        self._where = f"{parts.scheme}://{parts.netloc}{parts.path}"  # a query string may hold a token

    def run(self, query: str, limit: int) -> Table:
        import jmespath

        try:
            expression = jmespath.compile(query)
        except jmespath.exceptions.JMESPathError as wrong:
            raise QueryFailed(f"not a JMESPath expression: {str(wrong).splitlines()[0]}") from None
        if time.monotonic() - self._read_at > _FRESH:
            self._document = self._fetch()
            self._read_at = time.monotonic()
        try:
            found = expression.search(self._document)
        except jmespath.exceptions.JMESPathError as wrong:
            raise QueryFailed(f"{str(wrong).splitlines()[0]}. Check the expression.") from None
        return _table(found, query, limit)

    def columns(self, query: str) -> tuple[str, ...]:
        return self.run(query, 1).columns

    def close(self) -> None:
        self._document = None

    def _fetch(self) -> Any:
        headers = {"Accept": "application/json", "User-Agent": "deckwatch", **self._settings.headers}
        if self._settings.bearer_token is not None:
            headers["Authorization"] = f"Bearer {self._settings.bearer_token.get_secret_value()}"
        deadline = time.monotonic() + self._timeout
        body = b""
        try:
            request = urllib.request.Request(self._settings.url, headers=headers)
            with self._opener.open(request, timeout=self._timeout) as answer:
                while chunk := answer.read1(_CHUNK):
                    body += chunk
                    if len(body) > _MAX_BODY:
                        raise Unreachable(f"{self._where} sent more than {_MAX_BODY} bytes.")
                    if time.monotonic() > deadline:
                        raise Unreachable(f"{self._where} did not finish its answer within {self._timeout:g} s.")
        except urllib.error.HTTPError as error:
            error.close()
            hint = " Check the bearer_token." if error.code in (401, 403) else ""
            raise Unreachable(f"{self._where} answered HTTP {error.code}.{hint}") from None
        except (OSError, http.client.HTTPException) as failure:
            reason = failure.reason if isinstance(failure, urllib.error.URLError) else failure
            raise Unreachable(f"{self._where} is unreachable: {_reason(reason)}.") from None
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            raise Unreachable(f"{self._where} did not answer with JSON. Check the URL.") from None


def _reason(failure: Any) -> str:
    import ssl

    if isinstance(failure, ssl.SSLError):
        return tls_failure(failure, ca="SSL_CERT_FILE", name="the URL")
    if isinstance(failure, TimeoutError):
        return "timed out"
    return (failure.strerror if isinstance(failure, OSError) else None) or str(failure) or type(failure).__name__


def _table(found: Any, query: str, limit: int) -> Table:
    if found is None:
        return Table(("value",), [(None,)])  # unknown, as a NULL
    if isinstance(found, dict):
        found = [found]
    if not isinstance(found, list):
        return Table(("value",), [(found,)])
    objects = [item for item in found if isinstance(item, dict)]
    if found and not objects:
        raise QueryFailed(f"{query} gives a list of {type(found[0]).__name__}. Select a number or objects.")
    columns = tuple(dict.fromkeys(key for item in objects for key in item))
    rows = [tuple(item.get(column) for column in columns) for item in objects[:limit]]
    malformed = tuple(
        Malformed(f"{query}: item {number} is not an object", repr(item)[:_SHOWN])
        for number, item in enumerate(found, 1)
        if not isinstance(item, dict)
    )
    return Table(columns, rows, is_cut=len(objects) > limit, malformed=malformed)
