"""Calls that may hang where nothing can interrupt them: a dead mount, a driver, a foreign library."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

R = TypeVar("R")


class BoundedCall(Generic[R]):
    """Calls `function` in a separate thread, which is abandoned when the call hangs.

    While one call hangs no other is started: a dead target costs one thread.
    """

    def __init__(self, function: Callable[[], R], name: str) -> None:
        self._function = function
        self._name = name
        self._pending: _Pending[R] | None = None

    def result(self, timeout: float) -> R:
        """What the function returns or raises. Raises TimeoutError after `timeout` seconds."""
        pending = self._pending or _Pending(self._function)
        if self._pending is None:
            self._pending = pending
            threading.Thread(target=pending.run, name=self._name, daemon=True).start()
        if not pending.ended.wait(timeout):
            raise TimeoutError(f"no answer within {timeout:g} s")
        self._pending = None
        if pending.failure is not None:
            raise pending.failure
        return pending.results[0]


class _Pending(Generic[R]):
    def __init__(self, function: Callable[[], R]) -> None:
        self._function = function
        self.ended = threading.Event()
        self.results: list[R] = []
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self.results.append(self._function())
        except BaseException as failure:  # noqa: BLE001  raised again in the thread that asked
            self.failure = failure
        finally:
            self.ended.set()
