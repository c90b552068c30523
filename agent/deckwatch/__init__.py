"""Deckwatch: what applications import. (The agent's own parts are its submodules.)"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deckwatch.sdk.instruments import counted, counter, gauge, histogram, info, timed
    from deckwatch.sdk.metrics_apps import asgi_app, wsgi_app

__version__ = "0.1.0"
__all__ = ["asgi_app", "counted", "counter", "gauge", "histogram", "info", "timed", "wsgi_app"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from deckwatch.sdk import app_folder

    app_folder.use_app_folder()
    from deckwatch.sdk import instruments, metrics_apps

    value: object = getattr(metrics_apps if name in ("asgi_app", "wsgi_app") else instruments, name)
    globals()[name] = value
    return value
