"""Metrics from spans: a processor that measures each span when it ends, and a sampler that lets it see all of them."""

import logging
import threading
from contextvars import ContextVar
from typing import Any

from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import SpanKind

from deckwatch.sdk import declared
from deckwatch.sdk.instruments import Histogram
from deckwatch.sdk.library_metrics import histogram_of
from deckwatch.sdk.logs.events import event
from deckwatch.sdk.otel.calls import Call, call_of

_log = logging.getLogger("deckwatch.otel")
_MAX_CACHED = 2000
_MEASURED = (SpanKind.CLIENT, SpanKind.PRODUCER, SpanKind.CONSUMER)
_SQLALCHEMY = "opentelemetry.instrumentation.sqlalchemy"

#: Whether a span of SQLAlchemy is open here: the spans of its driver are the same calls.
_is_inside_sqlalchemy: ContextVar[bool] = ContextVar("is_inside_sqlalchemy", default=False)


class _Measured:
    """The histogram of one set of labels, and its last exemplar: an exemplar costs as much as the rest together."""

    __slots__ = ("_last", "_longest", "histogram")

    def __init__(self, histogram: Histogram) -> None:
        self.histogram = histogram
        self._last = 0
        self._longest = 0.0

    def wants_exemplar(self, now: int, duration: float) -> bool:
        """Whether a second (`now` is in nanoseconds) has passed since the last exemplar, or the call took longer."""
        if now - self._last < 1_000_000_000 and duration <= self._longest:
            return False
        self._last, self._longest = now, duration
        return True


class MetricsProcessor(SpanProcessor):  # type: ignore[misc]  # not installed here
    """Observe the durations of spans of calls, and log calls that take `slow_seconds` or longer. Never raises."""

    def __init__(self, slow_seconds: float) -> None:
        self.slow_seconds = slow_seconds
        self._has_failed = False
        self._logging = threading.local()
        self._known: dict[tuple[str, ...], _Measured] = {}

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        del parent_context
        if _scope(span) == _SQLALCHEMY:
            _is_inside_sqlalchemy.set(True)

    def on_end(self, span: Any) -> None:
        try:
            is_sqlalchemy = _scope(span) == _SQLALCHEMY
            if is_sqlalchemy:
                _is_inside_sqlalchemy.set(False)
            call = call_of(span)
            is_counted_already = not is_sqlalchemy and _is_inside_sqlalchemy.get()
            if call is not None and not (call.metric is declared.DB_DURATION and is_counted_already):
                self._measure(span, call)
        except Exception:  # noqa: BLE001 - the failure boundary between the library and the application
            if not self._has_failed:
                self._has_failed = True
                _log.exception("a span cannot be measured")

    def _measure(self, span: Any, call: Call) -> None:
        duration = max(0, span.end_time - span.start_time) / 1e9
        context = span.context
        trace_id = f"{context.trace_id:032x}"
        measured = self._measured(call)
        if context.trace_flags.sampled and measured.wants_exemplar(span.end_time, duration):
            measured.histogram.observe(duration, {"trace_id": trace_id})
        else:
            measured.histogram.observe(duration)
        if duration >= self.slow_seconds and call.metric is not declared.MESSAGE_PROCESSED:
            self._log_slow(call, duration, trace_id)

    def _log_slow(self, call: Call, duration: float, trace_id: str) -> None:
        if getattr(self._logging, "is_active", False):
            return  # a handler of logging that makes slow calls would never end
        self._logging.is_active = True
        try:
            event(
                "dependency.slow_call",
                category=call.category,
                level=logging.WARNING,
                system=call.system,
                operation=call.operation,
                duration_seconds=round(duration, 6),
                trace_id=trace_id,
            )
        finally:
            self._logging.is_active = False

    def _measured(self, call: Call) -> "_Measured":
        key = call.metric.name, *call.labels
        found = self._known.get(key)
        if found is None:
            found = _Measured(histogram_of(call.metric).labels(*call.labels))
            if len(self._known) < _MAX_CACHED:
                self._known[key] = found
        return found

    def shutdown(self) -> None:
        """Nothing is kept."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        del timeout_millis
        return True


def _scope(span: Any) -> str:
    return getattr(getattr(span, "instrumentation_scope", None), "name", "")


class RecordUnsampled(Sampler):  # type: ignore[misc]  # as above
    """Record spans of calls that another sampler leaves out, so that metrics count them. They are not sent."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def should_sample(
        self,
        parent_context: Any,
        trace_id: int,
        name: str,
        kind: Any = None,
        attributes: Any = None,
        *others: Any,
        **options: Any,
    ) -> SamplingResult:
        result = self._sampler.should_sample(parent_context, trace_id, name, kind, attributes, *others, **options)
        if result.decision is not Decision.DROP or kind not in _MEASURED:
            return result
        # The attributes of the result are those of the span; samplers return none with this decision.
        return SamplingResult(Decision.RECORD_ONLY, attributes, result.trace_state)

    def get_description(self) -> str:
        return str(self._sampler.get_description())
