"""The middleware that applies the web configuration file: rate limit, users and headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.http.basic_auth import BasicAuth, TooManyChecks
from deckwatch.http.headers import SECURITY_HEADERS

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from deckwatch.http.web_config import WebConfigFile


def guarded(app: ASGIApp, web: WebConfigFile) -> ASGIApp:
    """`app` behind the rate limit and the users, with the headers added."""
    if not web.is_configured:
        return app

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        await web.refresh()
        rules = web.rules
        if scope["type"] != "http" or rules is None:
            await app(scope, receive, send)
            return
        if rules.headers:
            send = _with_headers(send, rules.headers)
        if rules.bucket is not None and not rules.bucket.take():
            await _refuse(send, 429, "too many requests")
        elif rules.auth is None:
            await app(scope, receive, send)
        else:
            await _authenticated(rules.auth, app, scope, receive, send)

    return guard


def _with_headers(send: Send, headers: tuple[tuple[bytes, bytes], ...]) -> Send:
    names = {name for name, _ in headers}

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [(name, value) for name, value in message["headers"] if name.lower() not in names]
            message["headers"] = [*kept, *headers]
        await send(message)

    return send_with_headers


async def _authenticated(auth: BasicAuth, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    authorization = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    try:
        admitted = await auth.admits(authorization.decode("latin-1"))
    except TooManyChecks:
        await _refuse(send, 503, "too many passwords to verify; try again")
        return
    if admitted:
        await app(scope, receive, send)
    else:
        await _refuse(send, 401, "unauthorized", (b"www-authenticate", b'Basic realm="deckwatch", charset="UTF-8"'))


async def _refuse(send: Send, status: int, why: str, *headers: tuple[bytes, bytes]) -> None:
    body = f"{why}\n".encode()
    start = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        *SECURITY_HEADERS,
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})
