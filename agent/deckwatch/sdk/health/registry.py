"""`deckwatch.health`: register checks, and serve what they found."""

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from deckwatch.sdk.declared import HTTP_REQUESTS
from deckwatch.sdk.health.apps import HealthAsgiApp, HealthWsgiApp, Reply, django_urlpatterns
from deckwatch.sdk.health.checks import Check, Result
from deckwatch.sdk.http.requests import SLOW, requests
from deckwatch.sdk.library_metrics import counter_of

_TOP_ERRORS = 10


class Health:
    """The checks of an application.

    /health, /health/readiness: 503 if a critical check fails. /health/liveness: 200 while the process answers.
    /health/detailed, /health/dependencies: the result of each check. /health/metrics: requests and most frequent errors
    of the process. /health/slow-requests?threshold=1.0: its recent slow requests.
    """

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}
        self._started = time.time()

    def register(
        self,
        name: str,
        check: Callable[[], Any],
        *,
        timeout: float = 2.0,
        cache_seconds: float = 5.0,
        critical: bool = True,
    ) -> None:
        """Add a check, or replace the one with this name.

        `check` is a function or coroutine function: it fails if it raises, returns False or exceeds `timeout` seconds.
        If a check that is not critical fails, the application is degraded but stays ready.
        """
        self._checks[name] = Check(name, check, timeout, cache_seconds, critical)

    def asgi_app(self) -> HealthAsgiApp:
        """An ASGI application: `app.add_route("/health{rest:path}", health.asgi_app())`."""
        return HealthAsgiApp(self.reply_async)

    def wsgi_app(self) -> HealthWsgiApp:
        """A WSGI application, for `werkzeug.middleware.dispatcher` and others."""
        return HealthWsgiApp(self.reply)

    def clear_errors(self) -> None:
        """Empty the list of the most frequent errors of this process, such as after a fix. Metrics are not changed."""
        if (measured := requests()) is not None:
            measured.errors.clear()

    @property
    def urlpatterns(self) -> list[Any]:
        """Patterns of Django URLs: `path("", include(health.urlpatterns))`."""
        return django_urlpatterns(self.reply)

    def run(self) -> dict[str, Result]:
        """The result of each check. Checks run at the same time."""
        checks = list(self._checks.values())
        deadlines = {check: time.monotonic() + check.timeout for check in checks}
        found = {check: check.cached() for check in checks}
        runs = {check: check.start() for check in checks if found[check] is None}
        return {check.name: found[check] or check.result(runs[check], deadlines[check]) for check in checks}

    async def run_async(self) -> dict[str, Result]:
        """The result of each check, in an event loop."""
        import asyncio

        checks = list(self._checks.values())
        results = await asyncio.gather(*(check.result_async() for check in checks))
        return {check.name: result for check, result in zip(checks, results, strict=True)}

    def reply(self, endpoint: str, query: str) -> Reply:
        return self._reply(endpoint, query, self.run() if _needs_checks(endpoint) else {})

    async def reply_async(self, endpoint: str, query: str) -> Reply:
        return self._reply(endpoint, query, await self.run_async() if _needs_checks(endpoint) else {})

    def _reply(self, endpoint: str, query: str, results: dict[str, Result]) -> Reply:
        match endpoint:
            case "" | "readiness":
                status, failing = self._judge(results)
                return _status_of(status), {"status": status, "failing": failing}
            case "liveness":
                return HTTPStatus.OK, {"status": "ok"}
            case "detailed":
                status, failing = self._judge(results)
                body = {"status": status, "failing": failing, "checks": self._details(results), **self._process()}
                return _status_of(status), body
            case "dependencies":
                return HTTPStatus.OK, self._details(results)
            case "metrics":
                return HTTPStatus.OK, {**self._process(), **_request_figures()}
            case "slow-requests":
                return _slow_requests(query)
        return HTTPStatus.NOT_FOUND, {"error": "no such endpoint"}

    def _judge(self, results: dict[str, Result]) -> tuple[str, list[str]]:
        failing = [name for name, result in results.items() if not result.is_ok]
        if any(self._checks[name].is_critical for name in failing):
            return "failing", failing
        return "degraded" if failing else "ok", failing

    def _details(self, results: dict[str, Result]) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "status": "ok" if result.is_ok else "failing",
                "critical": self._checks[name].is_critical,
                "error": result.error or None,
                "duration_seconds": round(result.duration, 6),
                "checked_at": result.time,
            }
            for name, result in results.items()
        ]

    def _process(self) -> dict[str, Any]:
        return {"pid": os.getpid(), "uptime_seconds": round(time.time() - self._started, 3)}


def _needs_checks(endpoint: str) -> bool:
    return endpoint in ("", "readiness", "detailed", "dependencies")


def _status_of(status: str) -> HTTPStatus:
    return HTTPStatus.SERVICE_UNAVAILABLE if status == "failing" else HTTPStatus.OK


def _request_figures() -> dict[str, Any]:
    by_class: dict[str, int] = {}
    measured = requests()
    if measured is None:
        return {"requests": by_class, "top_errors": []}
    for metric in counter_of(HTTP_REQUESTS).collect():
        for sample in metric.samples:
            if sample.name == HTTP_REQUESTS.name:
                kind = f"{sample.labels['status'][0]}xx"
                by_class[kind] = by_class.get(kind, 0) + int(sample.value)
    return {"requests": by_class, "top_errors": [asdict(it) for it in measured.errors.most_frequent(_TOP_ERRORS)]}


def _slow_requests(query: str) -> Reply:
    given = parse_qs(query).get("threshold", [str(SLOW)])[-1]
    try:
        threshold = float(given)
    except ValueError:
        return HTTPStatus.BAD_REQUEST, {"error": "threshold is not a number of seconds"}
    measured = requests()
    slow = [asdict(it) for it in measured.slow if it.duration >= threshold] if measured is not None else []
    return HTTPStatus.OK, sorted(slow, key=lambda it: -it["duration"])


health = Health()
