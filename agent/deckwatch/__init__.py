"""Deckwatch: what applications import. (The agent's own parts are its submodules.)"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deckwatch.sdk.instruments import counted, counter, gauge, histogram, info, timed

__version__ = "0.1.0"
__all__ = ["counted", "counter", "gauge", "histogram", "info", "timed"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from deckwatch.sdk import instruments

    value: object = getattr(instruments, name)
    globals()[name] = value
    return value
