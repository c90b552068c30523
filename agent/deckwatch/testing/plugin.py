"""The fixtures `metrics` and `events`; pytest loads this module where Deckwatch is installed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.testing.applications import Events, Metrics


@pytest.fixture
def metrics() -> Metrics:
    """What the application measures during the test."""
    from deckwatch.testing.applications import Metrics  # most tests do not need it

    return Metrics()


@pytest.fixture
def events() -> Iterator[Events]:
    """The events that the application logs during the test."""
    from deckwatch.testing.applications import Events  # most tests do not need it

    handler = Events()
    root, library = logging.getLogger(), logging.getLogger("deckwatch")
    level = library.level
    library.setLevel(logging.INFO)
    root.addHandler(handler)
    try:
        yield handler
    finally:
        root.removeHandler(handler)
        library.setLevel(level)
