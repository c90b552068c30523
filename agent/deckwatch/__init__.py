"""Deckwatch: what applications import. (The agent's own parts are its submodules.)"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deckwatch.sdk.dependencies.breakers import watch_breaker
    from deckwatch.sdk.dependencies.caches import watch_cache
    from deckwatch.sdk.dependencies.pools import watch_pool
    from deckwatch.sdk.dependencies.retries import watch_retries
    from deckwatch.sdk.health.registry import health
    from deckwatch.sdk.http.asgi import AsgiMiddleware
    from deckwatch.sdk.http.django import DjangoMiddleware
    from deckwatch.sdk.http.wsgi import WsgiMiddleware
    from deckwatch.sdk.instruments import counted, counter, gauge, histogram, info, timed
    from deckwatch.sdk.jobs import job
    from deckwatch.sdk.logs.events import event
    from deckwatch.sdk.logs.setup import flush_logs, setup_logging
    from deckwatch.sdk.metrics_apps import asgi_app, wsgi_app
    from deckwatch.sdk.otel.instrument import instrument
    from deckwatch.sdk.workers import instrument_celery, instrument_rq

__version__ = "0.1.0"
__all__ = [
    "AsgiMiddleware",
    "DjangoMiddleware",
    "WsgiMiddleware",
    "asgi_app",
    "counted",
    "counter",
    "event",
    "flush_logs",
    "gauge",
    "health",
    "histogram",
    "info",
    "instrument",
    "instrument_celery",
    "instrument_rq",
    "job",
    "setup_logging",
    "timed",
    "watch_breaker",
    "watch_cache",
    "watch_pool",
    "watch_retries",
    "wsgi_app",
]

#: The modules of `deckwatch.sdk` that are imported when a name is first used; all other names are in `instruments`.
_MODULES = {
    "AsgiMiddleware": "http.asgi",
    "DjangoMiddleware": "http.django",
    "WsgiMiddleware": "http.wsgi",
    "asgi_app": "metrics_apps",
    "event": "logs.events",
    "flush_logs": "logs.setup",
    "health": "health.registry",
    "instrument": "otel.instrument",
    "instrument_celery": "workers",
    "instrument_rq": "workers",
    "job": "jobs",
    "setup_logging": "logs.setup",
    "watch_breaker": "dependencies.breakers",
    "watch_cache": "dependencies.caches",
    "watch_pool": "dependencies.pools",
    "watch_retries": "dependencies.retries",
    "wsgi_app": "metrics_apps",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    from deckwatch.sdk import app_folder

    app_folder.use_app_folder()
    value: object = getattr(importlib.import_module(f"deckwatch.sdk.{_MODULES.get(name, 'instruments')}"), name)
    globals()[name] = value
    return value
