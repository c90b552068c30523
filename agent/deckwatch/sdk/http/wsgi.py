"""Middleware for WSGI applications, with the routes and errors of Flask."""

import sys
from collections.abc import Callable, Iterable
from typing import Any

from deckwatch.sdk.http.bodies import MeasuredBody, content_length
from deckwatch.sdk.http.requests import SLOW, UNMATCHED, requests

Environ = dict[str, Any]
App = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]
_MEASURED = "deckwatch.measured"  # in the environ: an outer middleware measures this request
_ERROR = "deckwatch.error"  # in the environ: the exception that Flask answered


class WsgiMiddleware:
    """Measure the requests of a WSGI application: `app.wsgi_app = deckwatch.WsgiMiddleware(app.wsgi_app)` for Flask.

    Requests that take `slow_request_seconds` or longer are logged.
    """

    def __init__(self, app: App, *, slow_request_seconds: float = SLOW) -> None:
        self.app = app
        self._requests = requests()
        self._slow_after = slow_request_seconds
        flask = sys.modules.get("flask")
        if flask is not None:
            flask.got_request_exception.connect(_note_error)

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if self._requests is None or _MEASURED in environ:
            return self.app(environ, start_response)
        environ[_MEASURED] = True
        request = self._requests.begin(environ["REQUEST_METHOD"], self._slow_after)
        request.received = content_length(environ.get("CONTENT_LENGTH"))
        length: str | None = None
        route = UNMATCHED

        def end() -> None:
            request.error = request.error or environ.pop(_ERROR, None)
            request.end(route, environ.get("PATH_INFO", ""), environ.get("HTTP_TRACEPARENT", ""))

        def measured_start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            nonlocal length, route
            route = _route(environ)  # later, Flask has removed its request
            request.status = int(status[:3])
            length = next((value for name, value in headers if name.lower() == "content-length"), None)
            return start_response(status, headers, *exc_info)

        try:
            body = self.app(environ, measured_start)
        except BaseException as error:
            request.error = error if isinstance(error, Exception) else None
            end()
            raise
        if isinstance(body, list | tuple):
            request.sent = sum(map(len, body))
            end()
            return body
        file_wrapper = environ.get("wsgi.file_wrapper")
        if isinstance(file_wrapper, type) and isinstance(body, file_wrapper):  # the server sends the file by itself
            request.sent = content_length(length)
            end()
            return body
        return MeasuredBody(request, end, body)


def _route(environ: Environ) -> str:
    rule = getattr(environ.get("werkzeug.request"), "url_rule", None)
    return str(rule.rule) if rule is not None else UNMATCHED


def _note_error(_app: Any, exception: Exception, **_: Any) -> None:
    """Flask answers exceptions itself, so that they do not reach the middleware."""
    flask = sys.modules["flask"]
    flask.request.environ[_ERROR] = exception
