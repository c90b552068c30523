"""Middleware for ASGI applications: FastAPI, Starlette, Litestar and others."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from deckwatch.sdk.http.asgi_routes import route_of
from deckwatch.sdk.http.requests import CLIENT_CLOSED, SLOW, requests

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
_MEASURED = "deckwatch.measured"  # in the scope: an outer middleware measures this request


class AsgiMiddleware:
    """Measure the requests of an ASGI application: `app.add_middleware(deckwatch.AsgiMiddleware)`.

    Requests that take `slow_request_seconds` or longer are logged.
    """

    def __init__(self, app: App, *, slow_request_seconds: float = SLOW) -> None:
        self.app = app
        self._requests = requests()
        self._slow_after = slow_request_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        requests = self._requests
        if requests is None or scope["type"] != "http" or _MEASURED in scope:
            await self.app(scope, receive, send)
            return
        scope[_MEASURED] = True
        request = requests.begin(scope["method"], self._slow_after)
        root = scope.get("app") or self.app
        mounted_at = scope.get("root_path", "")

        def end() -> None:
            traceparent = next((value for name, value in scope["headers"] if name == b"traceparent"), b"")
            request.end(route_of(scope, root, mounted_at), scope["path"], traceparent.decode("latin-1"))

        async def measured_receive() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                request.received += len(message.get("body") or b"")
            elif not request.is_ended:
                request.is_disconnected = True
            return message

        async def measured_send(message: Message) -> None:
            try:
                await send(message)
            except OSError:  # since version 2.4 of ASGI: the client has disconnected
                request.is_disconnected = True
                raise
            if message["type"] == "http.response.start":
                request.status = message["status"]
            elif message["type"] == "http.response.body":
                request.sent += len(message.get("body") or b"")
                if not message.get("more_body") and not request.is_ended:
                    end()

        try:
            await self.app(scope, measured_receive, measured_send)
        except Exception as error:
            # After a disconnect, frameworks raise errors, such as Starlette's ClientDisconnect.
            if not (request.is_disconnected and (isinstance(error, OSError) or "Disconnect" in type(error).__name__)):
                if request.is_ended:  # a background task
                    request.count_late_error(error, route_of(scope, root, mounted_at))
                request.error = error
            raise
        except BaseException:  # the task was canceled
            request.status = request.status or CLIENT_CLOSED
            raise
        finally:
            if not request.is_ended:
                end()
