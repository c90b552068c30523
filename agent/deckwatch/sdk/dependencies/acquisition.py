"""How long it takes to get a connection of a pool."""

import math
import time
from collections.abc import Callable
from typing import Any

from deckwatch.sdk import declared
from deckwatch.sdk.dependencies.failures import Guard
from deckwatch.sdk.library_metrics import counter_of, gauge_of, histogram_of


class Acquisitions:
    """Observes the method of one pool that returns a connection. No method raises."""

    def __init__(self, pool: str, is_timeout: Callable[[BaseException], bool]) -> None:
        self._guard = Guard(f'pool "{pool}"')
        self._is_timeout = is_timeout
        self._pending = gauge_of(declared.POOL_PENDING).labels(pool)
        if math.isnan(self._pending._value.get()):  # a pool with this name was collected
            self._pending.set(0)
        self._wait = histogram_of(declared.POOL_WAIT).labels(pool)
        self._timeouts = counter_of(declared.POOL_TIMEOUTS).labels(pool)

    def begin(self, _owner: Any = None, _arguments: tuple[Any, ...] = ()) -> float:
        with self._guard:
            self._pending.inc()
        return time.perf_counter()

    def end(self, begun: float, _connection: Any, error: BaseException | None) -> None:
        duration = time.perf_counter() - begun
        with self._guard:
            self._pending.dec()
            if error is None:
                self._wait.observe(duration)
            elif self._is_timeout(error):
                self._timeouts.inc()
