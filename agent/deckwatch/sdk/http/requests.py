"""What all middleware measures of a request."""

import functools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from deckwatch.sdk import declared
from deckwatch.sdk.http.errors import TopErrors
from deckwatch.sdk.http.traces import Trace, current_trace, trace_of
from deckwatch.sdk.instruments import OTHER
from deckwatch.sdk.library_metrics import counter_of, gauge_of, histogram_of
from deckwatch.sdk.logs.events import event

UNMATCHED = "unmatched"
SLOW = 1.0  # seconds
CLIENT_CLOSED = 499  # nginx's status of a request that got no response because its client had gone
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"})
_MAX_CACHED = 10_000
_MAX_SLOW = 100
_MAX_PATH = 200  # characters

_log = logging.getLogger("deckwatch.http")


@dataclass(frozen=True)
class SlowRequest:
    """A request that took long. `time` is its end in Unix seconds, `duration` is in seconds."""

    time: float
    duration: float
    method: str
    route: str
    path: str
    status: int
    trace_id: str | None


class Request:
    """One request. Middleware sets the attributes, then calls `end` once."""

    __slots__ = (
        "_end_progress",
        "_requests",
        "error",
        "is_disconnected",
        "is_ended",
        "method",
        "received",
        "sent",
        "slow_after",
        "started",
        "status",
    )

    def __init__(
        self, requests: "Requests", method: str, slow_after: float, end_progress: Callable[[], None] | None
    ) -> None:
        self._requests = requests
        self._end_progress = end_progress
        self.method = method
        self.slow_after = slow_after
        self.status = 0
        self.received = 0
        self.sent = 0
        self.error: BaseException | None = None
        self.is_disconnected = False
        self.is_ended = False
        self.started = time.perf_counter()

    def end(self, route: str, path: str, traceparent: str) -> None:
        """Count the request. Never raises."""
        duration = time.perf_counter() - self.started
        self.is_ended = True
        try:
            if self._end_progress is not None:
                self._end_progress()
            self._requests.record(self, route, path, traceparent, duration)
        except Exception:  # noqa: BLE001 - the failure boundary between the library and the application
            self._requests.report_failure()

    def count_late_error(self, error: BaseException, route: str) -> None:
        """Count an unhandled exception that was raised after the response. Never raises."""
        try:
            self._requests.count_error(error, self.method, route, current_trace())
        except Exception:  # noqa: BLE001 - as in `end`
            self._requests.report_failure()


class Requests:
    """The instruments of HTTP requests, and the recent slow requests and errors of this process."""

    def __init__(self) -> None:
        self._requests = counter_of(declared.HTTP_REQUESTS)
        self._duration = histogram_of(declared.HTTP_DURATION)
        self._in_progress = gauge_of(declared.HTTP_IN_PROGRESS)
        self._request_size = histogram_of(declared.HTTP_REQUEST_SIZE)
        self._response_size = histogram_of(declared.HTTP_RESPONSE_SIZE)
        self._disconnects = counter_of(declared.HTTP_DISCONNECTS)
        self._errors = counter_of(declared.HTTP_ERRORS)
        self._progress: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {}
        self._ended: dict[tuple[str, str, int], tuple[Callable[..., None], ...]] = {}
        self._has_failed = False
        self.errors = TopErrors()
        self.slow: deque[SlowRequest] = deque(maxlen=_MAX_SLOW)

    def begin(self, method: str, slow_after: float = SLOW) -> Request:
        """Start to measure a request. It counts as slow after `slow_after` seconds. Never raises."""
        if method not in _METHODS:
            method = OTHER
        try:
            progress = self._progress.get(method)
            if progress is None:
                child = self._in_progress.labels(method)
                progress = self._progress[method] = (child.inc, child.dec)
            progress[0]()
        except Exception:  # noqa: BLE001 - as in Request.end
            self.report_failure()
            return Request(self, method, slow_after, None)
        return Request(self, method, slow_after, progress[1])

    def record(self, request: Request, route: str, path: str, traceparent: str, duration: float) -> None:
        status = request.status or (CLIENT_CLOSED if request.is_disconnected else 500)
        trace = current_trace() or (trace_of(traceparent) if traceparent else None)
        key = (request.method, route, status)
        ended = self._ended.get(key) or self._children(key)
        count, observe, observe_received, observe_sent = ended
        count()
        if trace is not None and trace.is_sampled:
            observe(duration, {"trace_id": trace.id})
        else:
            observe(duration)
        observe_received(request.received)
        observe_sent(request.sent)
        if request.is_disconnected:
            self._disconnects.labels(request.method, route).inc()
        if request.error is not None:
            self.count_error(request.error, request.method, route, trace)
        if duration >= request.slow_after:
            self._took_long(request, route, path, status, trace, duration)

    def _children(self, key: tuple[str, str, int]) -> tuple[Callable[..., None], ...]:
        method, route, status = key
        labels = (method, route, str(status))
        children: tuple[Callable[..., None], ...] = (
            self._requests.labels(*labels).inc,
            self._duration.labels(*labels).observe,
            self._request_size.labels(method, route).observe,
            self._response_size.labels(method, route).observe,
        )
        if len(self._ended) < _MAX_CACHED:
            self._ended[key] = children
        return children

    def count_error(self, error: BaseException, method: str, route: str, trace: Trace | None) -> None:
        """Count and log an unhandled exception."""
        group = self.errors.add(error, route)
        self._errors.labels(group.type, group.fingerprint).inc()
        event(
            "http.unhandled_error",
            category="http",
            level=logging.ERROR,
            error_type=group.type,
            fingerprint=group.fingerprint,
            place=group.place,
            method=method,
            route=route,
            trace_id=trace.id if trace else None,
        )

    def _took_long(
        self, request: Request, route: str, path: str, status: int, trace: Trace | None, duration: float
    ) -> None:
        slow = SlowRequest(
            time.time(), duration, request.method, route, path[:_MAX_PATH], status, trace.id if trace else None
        )
        self.slow.append(slow)
        event(
            "http.slow_request",
            category="http",
            level=logging.WARNING,
            method=slow.method,
            route=route,
            path=slow.path,
            status=status,
            duration_seconds=round(duration, 6),
            trace_id=slow.trace_id,
        )

    def report_failure(self) -> None:
        """Log the exception that is being handled, once."""
        if not self._has_failed:
            self._has_failed = True
            _log.exception("an HTTP request could not be measured")


_lock = threading.Lock()


@functools.cache
def _all() -> Requests | None:
    try:
        return Requests()
    except ValueError as taken:
        _log.error("HTTP requests are not measured: %s. Remove the other instrumentation of HTTP requests.", taken)
        return None


def requests() -> Requests | None:
    """The measurements of this process, which all its middleware shares. None if other metrics have their names."""
    with _lock:  # functools.cache may call a function twice
        return _all()
