"""`deckwatch.instrument()`: OpenTelemetry's instrumentations, with metrics from their spans."""

import functools
import importlib
import importlib.util
import logging
import os
import threading
from typing import Any

from deckwatch.sdk.app_folder import service_name

#: OpenTelemetry's instrumentations by the module of the library.
_INSTRUMENTORS = {
    "fastapi": "FastAPIInstrumentor",
    "django": "DjangoInstrumentor",
    "flask": "FlaskInstrumentor",
    "redis": "RedisInstrumentor",
    "psycopg": "PsycopgInstrumentor",
    "asyncpg": "AsyncPGInstrumentor",
    "sqlalchemy": "SQLAlchemyInstrumentor",
    "celery": "CeleryInstrumentor",
    "httpx": "HTTPXClientInstrumentor",
    "requests": "RequestsInstrumentor",
}
SLOW = 1.0  # seconds

_log = logging.getLogger("deckwatch.otel")
_lock = threading.Lock()


def instrument(*libraries: str, slow_call_seconds: float | None = None) -> list[str]:
    """Measure calls of databases, caches, message brokers and HTTP servers, and return the instrumented libraries.

    `libraries` are names such as "redis"; by default all that are installed. Calls of any of them that take
    `slow_call_seconds` (default 1) or longer are logged. A provider of traces that the application has set is kept;
    otherwise one is set, which sends traces if `OTEL_EXPORTER_OTLP_ENDPOINT` names a receiver. Needs the extra `otel`.
    Never raises.
    """
    try:
        with _lock:
            provider, processor = _provider()
            if slow_call_seconds is not None:
                processor.slow_seconds = slow_call_seconds
    except ImportError as missing:
        _log.warning("nothing is instrumented: %s. Install deckwatch[otel].", missing)
        return []
    except Exception:  # noqa: BLE001 - the failure boundary between the library and the application
        _log.exception("nothing is instrumented")
        return []
    for unknown in set(libraries) - _INSTRUMENTORS.keys():
        _log.warning("%s is not instrumented: use one of %s", unknown, ", ".join(_INSTRUMENTORS))
    chosen = [name for name in _INSTRUMENTORS if (not libraries or name in libraries) and _is_used(name)]
    return [name for name in chosen if _instrumented(name, provider)]


def _is_used(library: str) -> bool:
    try:
        if importlib.util.find_spec(library) is None:
            return False
    except ValueError:  # a module without a specification, such as a mock
        return False
    if library == "django":  # Without settings, its instrumentation raises an exception.
        from django.conf import settings  # type: ignore[import-untyped]  # Django has no types

        return bool(settings.configured or os.environ.get("DJANGO_SETTINGS_MODULE"))
    return True


def _instrumented(library: str, provider: Any) -> bool:
    """Instrument a library unless the application has. False if that is not possible, which is logged."""
    try:
        module = importlib.import_module(f"opentelemetry.instrumentation.{library}")
        instrumentor = getattr(module, _INSTRUMENTORS[library])()
        if not instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.instrument(tracer_provider=provider, raise_exception_on_conflict=True)
        return bool(instrumentor.is_instrumented_by_opentelemetry)  # False for versions that it does not support
    except ImportError as missing:
        _log.warning("%s is not instrumented: %s. Install deckwatch[otel].", library, missing)
    except Exception as failure:  # noqa: BLE001 - the failure boundary between the library and the application
        if type(failure).__name__ == "DependencyConflictError":  # its module differs between versions
            _log.warning("%s is not instrumented: its version is not supported: %s", library, failure)
        else:
            _log.exception("%s is not instrumented", library)
    return False


@functools.cache
def _provider() -> tuple[Any, Any]:
    """The provider of traces, and its processor that measures spans. Raises ImportError."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    from deckwatch.sdk.otel.spans import MetricsProcessor, RecordUnsampled

    provider: Any = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider):
        provider = TracerProvider(resource=_resource())
        if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.trace.export import BatchSpanProcessor

            provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)
    elif not hasattr(provider, "add_span_processor"):
        raise TypeError(f"{type(provider).__module__}.{type(provider).__name__} takes no span processors")
    processor = MetricsProcessor(SLOW)
    provider.add_span_processor(processor)
    if hasattr(provider, "sampler"):
        provider.sampler = RecordUnsampled(provider.sampler)
    return provider, processor


def _resource() -> Any:
    from opentelemetry.sdk.resources import Resource

    is_named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return Resource.create({} if is_named else {"service.name": service_name()})
