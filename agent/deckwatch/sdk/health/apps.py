"""The health endpoints as ASGI and WSGI applications and as Django URLs."""

import json
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import Any

Reply = tuple[HTTPStatus, Any]  # and the body, to be sent as JSON
_HEADERS = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))
_REFUSED: Reply = HTTPStatus.METHOD_NOT_ALLOWED, {"error": "use GET"}


def _endpoint(path: str) -> str:
    """The endpoint that a path names, with or without the prefix `/health` that a framework may have removed."""
    parts = path.strip("/").split("/")
    return "/".join(parts[1:] if parts[0] == "health" else parts)


def _encoded(body: Any) -> bytes:
    return json.dumps(body).encode() + b"\n"


class HealthAsgiApp:
    def __init__(self, reply: Callable[[str, str], Awaitable[Reply]]) -> None:
        self._reply = reply

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        del receive
        if scope["type"] != "http":
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        is_read = scope["method"] in ("GET", "HEAD")
        query = scope.get("query_string", b"").decode("latin-1")
        status, body = await self._reply(_endpoint(path), query) if is_read else _REFUSED
        headers = [(name.lower().encode(), value.encode()) for name, value in _HEADERS]
        await send({"type": "http.response.start", "status": int(status), "headers": headers})
        await send({"type": "http.response.body", "body": _encoded(body) if scope["method"] != "HEAD" else b""})


class HealthWsgiApp:
    def __init__(self, reply: Callable[[str, str], Reply]) -> None:
        self._reply = reply

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        is_read = environ["REQUEST_METHOD"] in ("GET", "HEAD")
        query = environ.get("QUERY_STRING", "")
        status, body = self._reply(_endpoint(environ.get("PATH_INFO", "")), query) if is_read else _REFUSED
        start_response(f"{int(status)} {status.phrase}", list(_HEADERS))
        return [_encoded(body) if environ["REQUEST_METHOD"] != "HEAD" else b""]


def django_urlpatterns(reply: Callable[[str, str], Reply]) -> list[Any]:
    from django.http import HttpRequest, HttpResponse  # type: ignore[import-untyped]  # Django has no types
    from django.urls import path  # type: ignore[import-untyped]  # Django has no types

    def view(request: HttpRequest, endpoint: str = "") -> HttpResponse:
        is_read = request.method in ("GET", "HEAD")
        status, body = reply(endpoint.strip("/"), request.META.get("QUERY_STRING", "")) if is_read else _REFUSED
        return HttpResponse(_encoded(body), status=int(status), headers=dict(_HEADERS))

    return [path("health", view), path("health/", view), path("health/<path:endpoint>", view)]
