"""Middleware for Django."""

import sys
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings  # type: ignore[import-untyped]  # Django has no types
from django.core.exceptions import MiddlewareNotUsed  # type: ignore[import-untyped]  # as above
from django.core.signals import got_request_exception  # type: ignore[import-untyped]  # as above

from deckwatch.sdk.http.bodies import AsyncMeasuredBody, MeasuredBody, content_length
from deckwatch.sdk.http.requests import CLIENT_CLOSED, SLOW, UNMATCHED, Request, requests

_ERROR = "deckwatch_error"  # an attribute of the request: the exception that Django answered


class DjangoMiddleware:
    """Measure the requests of a Django project: `"deckwatch.DjangoMiddleware"`, first in `MIDDLEWARE`.

    Requests that take `DECKWATCH_SLOW_REQUEST_SECONDS` (settings, default 1) or longer are logged.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        found = requests()
        if found is None:
            raise MiddlewareNotUsed("other metrics have the names of Deckwatch's")
        self._requests = found
        self._get_response = get_response
        self._slow_after = float(getattr(settings, "DECKWATCH_SLOW_REQUEST_SECONDS", SLOW))
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)
        got_request_exception.connect(_note_error)

    def __call__(self, django_request: Any) -> Any:
        request = self._requests.begin(django_request.method or "", self._slow_after)
        request.received = content_length(django_request.META.get("CONTENT_LENGTH"))
        if self._is_async:
            return self._answer_async(django_request, request, self._get_response(django_request))
        try:
            response = self._get_response(django_request)
        except BaseException as error:
            _end_without_response(django_request, request, error)
            raise
        return _measured(django_request, request, response)

    async def _answer_async(self, django_request: Any, request: Request, answer: Awaitable[Any]) -> Any:
        try:
            response = await answer
        except BaseException as error:  # Django cancels a view when its client disconnects
            request.is_disconnected = not isinstance(error, Exception)
            _end_without_response(django_request, request, error)
            raise
        return _measured(django_request, request, response)


def _measured(django_request: Any, request: Request, response: Any) -> Any:
    """The response, which ends the request when it is complete."""
    request.status = response.status_code
    if not response.streaming:
        request.sent = len(response.content)
        _end(django_request, request)
    elif getattr(response, "file_to_stream", None) is not None:  # the server may send the file by itself
        request.sent = content_length(response.headers.get("Content-Length"))
        _end(django_request, request)
    else:
        kind = AsyncMeasuredBody if response.is_async else MeasuredBody
        response.streaming_content = kind(request, lambda: _end(django_request, request), response.streaming_content)
    return response


def _end_without_response(django_request: Any, request: Request, error: BaseException) -> None:
    if isinstance(error, Exception):
        request.error = error
    else:
        request.status = CLIENT_CLOSED
    _end(django_request, request)


def _end(django_request: Any, request: Request) -> None:
    match = django_request.resolver_match
    request.error = request.error or getattr(django_request, _ERROR, None)
    request.end(
        f"/{match.route}" if match is not None else UNMATCHED,
        django_request.path,
        django_request.META.get("HTTP_TRACEPARENT", ""),
    )


def _note_error(request: Any = None, **_: Any) -> None:
    """Django answers exceptions itself, so that they do not reach the middleware."""
    if request is not None:
        setattr(request, _ERROR, sys.exc_info()[1])
