"""`/metrics` served by the application itself, for applications without an agent on their host."""

from typing import TYPE_CHECKING, Any

import prometheus_client
from prometheus_client import multiprocess

if TYPE_CHECKING:
    from collections.abc import Callable


def _registry() -> prometheus_client.CollectorRegistry:
    """The registry of the process; in multi-process mode, that of all processes of the service."""
    from prometheus_client import values

    if not values.ValueClass._multiprocess:
        return prometheus_client.REGISTRY
    registry = prometheus_client.CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return registry


def asgi_app() -> "Callable[..., Any]":
    """Return an ASGI application that answers with the metrics: `app.mount("/metrics", deckwatch.asgi_app())`."""
    return prometheus_client.make_asgi_app(_registry())


def wsgi_app() -> "Callable[..., Any]":
    """Return a WSGI application that answers with the metrics."""
    return prometheus_client.make_wsgi_app(_registry())
