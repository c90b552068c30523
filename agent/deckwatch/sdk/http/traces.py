"""The trace that a request belongs to."""

import sys
from typing import NamedTuple


class Trace(NamedTuple):
    """The id of a trace, 32 hexadecimal digits, and whether the trace is recorded."""

    id: str
    is_sampled: bool


def current_trace() -> Trace | None:
    """The trace of OpenTelemetry's current span, if the application has loaded OpenTelemetry and has a span."""
    opentelemetry = sys.modules.get("opentelemetry.trace")
    if opentelemetry is None:
        return None
    context = opentelemetry.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return Trace(f"{context.trace_id:032x}", bool(context.trace_flags.sampled))


def trace_of(traceparent: str) -> Trace | None:
    """Read the header `traceparent`. None if it is malformed. https://www.w3.org/TR/trace-context/"""
    parts = traceparent.strip().split("-")
    if len(parts) < 4 or tuple(map(len, parts[:4])) != (2, 32, 16, 2):
        return None
    try:
        trace, flags = int(parts[1], 16), int(parts[3], 16)
    except ValueError:
        return None
    if not trace or not parts[1].isalnum() or parts[0] == "ff":
        return None
    return Trace(parts[1].lower(), bool(flags & 1))
