"""Progress of commands that take more than two seconds, on a terminal only."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_AFTER = 2.0  # seconds
_REDRAW = 0.5  # seconds
_ERASE = "\r\x1b[K"


class Progress:
    """A line `3 of 40 targets checked` on standard error, which disappears when all are done, or at `end()`."""

    def __init__(
        self, total: int, what: str, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._total = total
        self._what = what
        self._out = out or sys.stderr
        self._clock = clock
        self._began = clock()
        self._is_shown = False

    def show(self, done: int) -> None:
        if done == self._total:
            self.end()
        elif self._out.isatty() and self._clock() - self._began >= _AFTER:
            self._out.write(f"{_ERASE}{done} of {self._total} {self._what}")
            self._out.flush()
            self._is_shown = True

    @contextlib.contextmanager
    def while_busy(self, done: int) -> Iterator[None]:
        """Show that `done` are done during a step that may take long."""
        over = threading.Event()

        def draw() -> None:
            while not over.wait(_REDRAW):
                self.show(done)

        thread = threading.Thread(target=draw, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self.end()

    def end(self) -> None:
        if self._is_shown:
            self._out.write(_ERASE)
            self._out.flush()
            self._is_shown = False
