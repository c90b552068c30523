"""Reading again after a while."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Refresh:
    """Says when something that changes rarely is due to be read again: at first, and every `interval` seconds."""

    def __init__(self, interval: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = interval
        self._clock = clock
        self._done: float | None = None

    @property
    def is_due(self) -> bool:
        return self._done is None or self._clock() - self._done >= self._interval

    def done(self) -> None:
        """It was read just now."""
        self._done = self._clock()

    def reset(self) -> None:
        """What was read is no longer valid."""
        self._done = None
