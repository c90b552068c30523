"""What a span says about a call of a dependency, by OpenTelemetry's stable and its earlier semantic conventions.

https://opentelemetry.io/docs/specs/semconv/
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from deckwatch.sdk import declared
from deckwatch.sdk.declared import Declared
from deckwatch.sdk.logs.events import Category

_CACHES = ("redis", "valkey", "memcached")
_WORD = re.compile(r"(?:/\*.*?\*/|--[^\n]*\n|\W)*([A-Za-z]+)", re.DOTALL)
_MAX_STATEMENT = 1000  # characters that are searched for the first word


class Call(NamedTuple):
    """One call: its histogram with the values of its labels, and how it is named in the log."""

    metric: Declared
    labels: tuple[str, ...]
    category: Category
    system: str
    operation: str


def call_of(span: Any) -> Call | None:
    """The call that a span describes; None for other spans, such as requests that the application receives."""
    attributes = span.attributes or {}
    match span.kind.name:
        case "CLIENT":
            system = _first(attributes, "db.system.name", "db.system")
            if system:
                return _database(span, attributes, system)
            method = _first(attributes, "http.request.method", "http.method")
            return _http(span, attributes, method) if method else None
        case "PRODUCER" | "CONSUMER":
            return _message(span, attributes)
    return None


def _database(span: Any, attributes: Mapping[str, Any], system: str) -> Call:
    statement = _first(attributes, "db.operation.name", "db.operation", "db.query.text", "db.statement") or span.name
    found = _WORD.match(statement[:_MAX_STATEMENT])  # some instrumentations give "SELECT database" as the operation
    operation = found[1] if found else ""
    if system in _CACHES:
        operation = "pipeline" if "db.redis.pipeline_length" in attributes else operation.lower()
        return Call(declared.CACHE_DURATION, (system, "", operation), "database", system, operation)
    operation = operation.upper()
    namespace = _first(attributes, "db.namespace", "db.name")
    labels = system, operation, namespace, _error(span, attributes)
    return Call(declared.DB_DURATION, labels, "database", system, operation)


def _http(span: Any, attributes: Mapping[str, Any], method: str) -> Call:
    server = _first(attributes, "server.address", "net.peer.name", "http.host")
    if not server:
        server = _host(_first(attributes, "url.full", "http.url"))
    status = _first(attributes, "http.response.status_code", "http.status_code")
    labels = method.upper(), server, status, _error(span, attributes)
    return Call(declared.HTTP_CLIENT_DURATION, labels, "http", server, method.upper())


def _message(span: Any, attributes: Mapping[str, Any]) -> Call | None:
    action = _first(attributes, "celery.action")
    system = _first(attributes, "messaging.system") or ("celery" if action else "")
    if not system:
        return None
    operation = _first(attributes, "messaging.operation.name", "messaging.operation") or action
    destination = _first(attributes, "messaging.destination.name", "messaging.destination")
    metric = declared.MESSAGE_SENT if span.kind.name == "PRODUCER" else declared.MESSAGE_PROCESSED
    return Call(metric, (system, operation, destination, _error(span, attributes)), "database", system, operation)


def _first(attributes: Mapping[str, Any], *names: str) -> str:
    """The first attribute that is set, as text."""
    for name in names:
        value = attributes.get(name)
        if value is not None and value != "":
            return str(value)
    return ""


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _error(span: Any, attributes: Mapping[str, Any]) -> str:
    """The type of the error; '' if the call succeeded, `_OTHER` if it is not known."""
    kind = _first(attributes, "error.type")
    if kind or span.status.status_code.name != "ERROR":
        return kind
    for event in span.events:
        if event.name == "exception" and event.attributes:
            return str(event.attributes.get("exception.type", "_OTHER")).rpartition(".")[2]
    return "_OTHER"
