"""Test kits: `opened` for authors of exporters, and the pytest fixtures `metrics` and `events` for applications."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deckwatch.testing.applications import Events, Metrics
    from deckwatch.testing.exporters import THRESHOLDS, Collected, Opened, assert_golden, opened

__all__ = ["THRESHOLDS", "Collected", "Events", "Metrics", "Opened", "assert_golden", "opened"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    # The kit for exporters needs the libraries of the agent.
    module = "applications" if name in ("Events", "Metrics") else "exporters"
    value: object = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value
