"""Middleware that applies the web configuration file: rate limit, basic authentication and headers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from deckwatch.http.basic_auth import BasicAuth, Credentials, credentials_in
from deckwatch.http.headers import SECURITY_HEADERS
from deckwatch.http.password_checks import LONGEST_PASSWORD

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from deckwatch.http.rejections import Rejections
    from deckwatch.http.web_config import WebConfigFile


#: Key in a scope's `state`: the rules that were active when the connection was accepted.
ACCEPTED_UNDER = "accepted_under"
_CHALLENGE = (b"www-authenticate", b'Basic realm="deckwatch", charset="UTF-8"')


def guarded(app: ASGIApp, web: WebConfigFile, rejections: Rejections) -> ASGIApp:
    """Wrap `app` with the rate limit, authentication and additional headers."""
    if not web.is_configured:
        return app

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        await web.refresh()
        while True:
            rules = web.rules
            if scope["type"] != "http" or rules is None:
                break
            accepted_under = scope.get("state", {}).get(ACCEPTED_UNDER)
            headers = rules.headers if accepted_under is rules else (*rules.headers, (b"connection", b"close"))
            guarded_send = _with_headers(send, headers) if headers else send
            if not web.allows_connection(accepted_under):
                rejections.count("connection_not_allowed")
                await _refuse(guarded_send, 421, "the TLS settings have changed; connect again")
                return
            if rules.bucket is not None and not rules.bucket.take():
                rejections.count("rate_limited")
                await _refuse(guarded_send, 429, "too many requests")
                return
            admitted = await _admits(rules.auth, scope, receive) if rules.auth is not None else True
            if admitted is None:
                return
            if web.rules is not rules:  # reloaded during the password check
                continue
            if not admitted:
                rejections.count("unauthorized")
                await _refuse(guarded_send, 401, _why_unauthorized(scope), _CHALLENGE)
                return
            send = guarded_send
            break
        await app(scope, receive, send)

    return guard


def _with_headers(send: Send, headers: tuple[tuple[bytes, bytes], ...]) -> Send:
    names = {name for name, _ in headers}

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [(name, value) for name, value in message["headers"] if name.lower() not in names]
            message["headers"] = [*kept, *headers]
        await send(message)

    return send_with_headers


async def _admits(auth: BasicAuth, scope: Scope, receive: Receive) -> bool | None:
    """Return whether the credentials are valid; None if the client disconnected before the check finished."""
    credentials = _credentials(scope)
    if credentials is None:
        return False
    known = auth.recall(credentials)
    if known is not None:
        return known
    check = asyncio.ensure_future(auth.check(credentials, scope["client"][0] if scope["client"] else ""))
    disconnect = asyncio.ensure_future(_wait_for_disconnect(receive))
    try:
        await asyncio.wait((check, disconnect), return_when=asyncio.FIRST_COMPLETED)
        return check.result() if check.done() else None
    finally:
        check.cancel()
        disconnect.cancel()


def _credentials(scope: Scope) -> Credentials | None:
    header = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    return credentials_in(header.decode("latin-1"))


def _why_unauthorized(scope: Scope) -> str:
    credentials = _credentials(scope)
    if credentials is not None and len(credentials.password) > LONGEST_PASSWORD:
        return f"unauthorized: the password is longer than {LONGEST_PASSWORD} bytes, which bcrypt does not support"
    return "unauthorized"


async def _wait_for_disconnect(receive: Receive) -> None:
    """Wait until the client closes the connection. Discards the request body: no endpoint reads one."""
    while (await receive())["type"] != "http.disconnect":
        pass


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
