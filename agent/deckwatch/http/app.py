"""The HTTP application: routes and their handlers. It queries the agent and has no knowledge of collectors.

`/metrics` bypasses routing because it receives almost all requests.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from deckwatch.collection.board import NO_TARGET, Selection, UnknownSelectionError
from deckwatch.http.headers import SECURITY_HEADERS
from deckwatch.http.limits import Limits
from deckwatch.http.negotiation import accepts_gzip, choose_format
from deckwatch.http.rejections import Rejections
from deckwatch.http.request_target import HostNames, in_origin_form, is_from_another_site
from deckwatch.http.responses import Responses
from deckwatch.status_page import page as pages

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from deckwatch.collection.status import AgentStatus


class Watch(Protocol):
    """The agent as the server sees it. All methods except `reload()` return immediately, from memory."""

    def scrape(self, selection: Selection, openmetrics: bool, compress: bool, client: str) -> Sequence[bytes]: ...

    def status(self) -> AgentStatus: ...

    def history(self, exporter: str, target: str, title: str) -> Sequence[float]: ...

    def targets(self) -> list[tuple[str, str]]: ...

    def ready(self) -> bool: ...

    def reload(self) -> str | None: ...


_TEXT = "text/plain; charset=utf-8"
_OWN = "deckwatch"  # the exporter that monitors the agent itself


_WRONG_HOST = (
    "host name not allowed: the agent listens on a loopback address and accepts only local host names; "
    "add the name to allowed_hosts in the config\n"
)


def create_app(
    watch: Watch,
    enable_lifecycle: bool = False,
    advertise: str = "",
    problems: Callable[[], tuple[str, ...]] = tuple,
    hosts: HostNames | None = None,
    limits: Limits | None = None,
    rejections: Rejections | None = None,
) -> ASGIApp:
    """Create the application.

    `enable_lifecycle` enables `/-/reload`. `advertise` (`host:port`) is the address that `/sd` returns. If it is empty,
    as it must be when the agent listens on all addresses, `/sd` returns the address from the request: a client that
    reached `/sd` there can reach `/metrics` there too. `problems()` returns the HTTP server's problems for the status.
    With `hosts`, requests for other host names are rejected. `rejections` counts what the server rejects.
    """
    rejections = rejections or Rejections()
    routes = Routes(watch, enable_lifecycle, advertise, problems, rejections)
    responses = Responses(limits or Limits(), rejections=rejections)
    others = Starlette(
        routes=[
            Route("/", routes.index),
            Route("/sd", routes.service_discovery),
            Route("/health", routes.health),
            Route("/health/liveness", routes.alive),
            Route("/health/readiness", routes.readiness),
            Route("/health/detailed", routes.detailed),
            Route("/health/dependencies", routes.dependencies),
            Route("/-/healthy", routes.alive),
            Route("/-/ready", routes.readiness),
            Route("/-/reload", routes.reload, methods=["POST", "PUT"]),
            Route("/api/v1/status", routes.status),
        ],
        exception_handlers={HTTPException: _one_line},
    )
    others.router.redirect_slashes = False  # a redirect would echo the client's Host header

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = in_origin_form(scope)
            if hosts is not None and not hosts.allow(scope):
                rejections.count("host_not_allowed")
                await PlainTextResponse(_WRONG_HOST, 421)(scope, receive, _sending(responses, scope, send))
                return
            if scope["path"] == "/metrics":
                await _metrics(watch, responses, scope, send)
                return
        await others(scope, receive, _sending(responses, scope, send))

    return application


async def _metrics(watch: Watch, responses: Responses, scope: Scope, send: Send) -> None:
    method = scope["method"]
    response_headers: list[tuple[bytes, bytes]] = [(b"vary", b"Accept, Accept-Encoding"), *SECURITY_HEADERS]
    status, content_type = 200, _TEXT
    parts: Sequence[bytes]
    if method not in ("GET", "HEAD"):
        status, parts = 405, (b"only GET and HEAD are allowed\n",)
        response_headers.append((b"allow", b"GET, HEAD"))
    else:
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:  # a list may be split across headers with the same name (RFC 9110, 5.3)
            headers[name] = headers[name] + b"," + value if name in headers else value
        chosen = choose_format(headers.get(b"accept", b"").decode("latin-1"))
        compress = accepts_gzip(headers.get(b"accept-encoding", b"").decode("latin-1"))
        agent = headers.get(b"user-agent", b"").decode("latin-1")
        try:
            parts = watch.scrape(
                _selection(scope["query_string"]),
                chosen.is_openmetrics,
                compress,
                f"{scope['client'][0] if scope['client'] else ''} {agent}",
            )
        except UnknownSelectionError as unknown:
            status, parts = 400, (f"{unknown}\n".encode(),)
        else:
            content_type = chosen.content_type
            if compress:
                response_headers.append((b"content-encoding", b"gzip"))
    response_headers += [
        (b"content-type", content_type.encode("latin-1")),
        (b"content-length", str(sum(map(len, parts))).encode("ascii")),
    ]
    await responses.send(
        scope, send, {"type": "http.response.start", "status": status, "headers": response_headers}, parts
    )


def _selection(query_string: bytes) -> Selection:
    query = parse_qsl(query_string.decode("latin-1"), keep_blank_values=True)
    return Selection(
        tuple(value for key, value in query if key == "collect[]"),
        next((value for key, value in query if key == "target"), None),
    )


def _sending(responses: Responses, scope: Scope, send: Send) -> Send:
    """Return a `send` for starlette, which sends one start message and one body message for each response."""
    start: Message = {}

    async def send_whole(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.update(message, headers=[*message["headers"], *SECURITY_HEADERS])
        else:
            await responses.send(scope, send, start, (message.get("body", b""),))

    return send_whole


async def _one_line(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    what = {404: "not found; see / for a list of pages", 405: "method not allowed"}
    headers = error.headers if isinstance(error, HTTPException) else None
    return PlainTextResponse(what.get(status, str(error)) + "\n", status, headers=headers)


def _json(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


class Routes:
    """All endpoints except `/metrics`."""

    def __init__(
        self,
        watch: Watch,
        enable_lifecycle: bool,
        advertise: str,
        problems: Callable[[], tuple[str, ...]],
        rejections: Rejections,
    ) -> None:
        self._rejections = rejections
        self._watch = watch
        self._problems = problems
        self._enable_lifecycle = enable_lifecycle
        self._advertise = advertise

    def _status(self) -> AgentStatus:
        status = self._watch.status()
        return dataclasses.replace(
            status, problems=(*status.problems, *self._problems()), rejections=self._rejections.by_reason()
        )

    async def index(self, request: Request) -> Response:
        query = request.query_params
        page = await run_in_threadpool(
            pages.status_page, self._status(), self._watch.history, query.get("q", ""), query.get("state", "")
        )
        return Response(
            page, media_type="text/html", headers={"content-security-policy": pages.CONTENT_SECURITY_POLICY}
        )

    async def service_discovery(self, request: Request) -> Response:
        """Return targets for Prometheus' http_sd: one group per named target, so that each has its own `instance`.

        https://prometheus.io/docs/prometheus/latest/http_sd/
        """
        server = ":".join(str(part) for part in request.scope["server"] or ())
        address = self._advertise or request.headers.get("host") or server
        common = {"__metrics_path__": "/metrics"}
        if request.scope["scheme"] == "https":
            common["__scheme__"] = "https"
        targets = self._watch.targets()
        rest = {"__param_target": NO_TARGET} if targets else {}  # named targets have their own groups
        own = {"targets": [address], "labels": {**common, **rest, "exporter": _OWN}}
        groups = [
            {
                "targets": [address],
                "labels": {**common, "__param_target": name, "instance": name, "exporter": exporter},
            }
            for exporter, name in targets
        ]
        return _json([own, *groups])

    async def health(self, _request: Request) -> Response:
        """Return 503 before the first collection, or if the agent cannot monitor itself; otherwise 200.

        A target that is down means `degraded` with 200: a 503 would make an orchestrator restart the agent, which
        fixes nothing and interrupts the monitoring of all other targets.
        """
        status = self._status()
        collectors = status.collectors
        failing = [collector.name for collector in collectors if collector.state in ("failing", "hung")]
        failing += [f"logs to {it.name}" for it in status.logs if it.state != "ok"]
        failing += [" ".join(it.name.split()) for it in status.journals if it.state == "failing"]
        failing += [f"remote_write to {it.name}" for it in status.remote_write if it.state != "ok"]
        if not self._watch.ready():
            return _json({"status": "starting", "failing": failing}, 503)
        if any(collector.exporter == _OWN and collector.name in failing for collector in collectors):
            return _json({"status": "failing", "failing": failing}, 503)
        return _json({"status": "degraded" if failing or status.problems else "ok", "failing": failing})

    async def alive(self, _request: Request) -> Response:
        return PlainTextResponse("Deckwatch is healthy.\n")

    async def readiness(self, _request: Request) -> Response:
        if self._watch.ready():
            return PlainTextResponse("Deckwatch is ready.\n")
        return PlainTextResponse("Deckwatch has not completed its first collection yet.\n", 503)

    async def detailed(self, _request: Request) -> Response:
        status = self._status()
        return _json(
            {
                "host": status.host,
                "targets": status.targets(),
                "logs": status.logs,
                "journals": status.journals,
                "remote_write": status.remote_write,
                "problems": status.problems,
            }
        )

    async def dependencies(self, _request: Request) -> Response:
        status = self._status()
        destinations = [
            {"exporter": kind, "target": it.name, "state": it.state, "errors": {"push": it.error} if it.error else {}}
            for kind, found in (("logs", status.logs), ("remote_write", status.remote_write))
            for it in found
        ]
        return _json([*(target for target in status.targets() if target.target), *destinations])

    async def status(self, _request: Request) -> Response:
        return _json(self._status())

    async def reload(self, request: Request) -> Response:
        if not self._enable_lifecycle:
            self._rejections.count("reload_disabled")
            return PlainTextResponse("reloading over HTTP is disabled; set enable_lifecycle: true in the config\n", 403)
        if is_from_another_site(request.scope):
            self._rejections.count("cross_site")
            return PlainTextResponse("cross-site requests cannot reload the config\n", 403)
        wrong = await run_in_threadpool(self._watch.reload)
        return PlainTextResponse(f"{wrong}\n", 500) if wrong else PlainTextResponse("config reloaded\n")
