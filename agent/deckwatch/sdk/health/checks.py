"""Health checks: functions that are called with a timeout. Their results are reused for a while."""

import asyncio
import inspect
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from deckwatch.sdk.declared import HEALTH_DURATION, HEALTH_LAST_RUN, HEALTH_SUCCESS
from deckwatch.sdk.library_metrics import gauge_of

_PASSWORD = re.compile(r"(://[^\s:@/]*):[^\s@/]+@")
_MAX_ERROR = 300  # characters


@dataclass(frozen=True)
class Result:
    """The outcome of one run. `time` is in Unix seconds, `duration` in seconds."""

    is_ok: bool
    error: str
    duration: float
    time: float


class Check:
    """A check succeeds if its function returns anything but False. It fails if that raises, or after `timeout` seconds.

    A result is reused for `cache_seconds`. A run that hangs is not repeated until it ends.
    """

    def __init__(
        self, name: str, function: Callable[[], Any], timeout: float, cache_seconds: float, is_critical: bool
    ) -> None:
        self.name = name
        self.timeout = timeout
        self.is_critical = is_critical
        self._function = function
        self._cache_seconds = cache_seconds
        self._lock = threading.Lock()
        self._last: tuple[float, Result] | None = None  # with the monotonic time at which it ended
        self._running: Future[Result] | None = None
        self._task: asyncio.Task[Result] | None = None

    def cached(self) -> Result | None:
        last = self._last
        return last[1] if last is not None and time.monotonic() - last[0] < self._cache_seconds else None

    def start(self) -> Future[Result]:
        """Run the check in a thread, or return its current run."""
        with self._lock:
            if self._running is None or self._running.done():
                self._running = Future()
                threading.Thread(
                    target=self._run, args=(self._running,), name=f"deckwatch-health-{self.name}", daemon=True
                ).start()
            return self._running

    def result(self, run: Future[Result], deadline: float) -> Result:
        """Wait for a run until the monotonic time `deadline`."""
        try:
            return run.result(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            return self._ended(self._timed_out())

    async def result_async(self) -> Result:
        """The result, in an event loop. Coroutine functions run in this loop, other functions in a thread."""
        cached = self.cached()
        if cached is not None:
            return cached
        if not inspect.iscoroutinefunction(self._function):
            run = asyncio.wrap_future(self.start())
            done, _ = await asyncio.wait((run,), timeout=self.timeout)
            return run.result() if done else self._ended(self._timed_out())
        loop = asyncio.get_running_loop()
        if self._task is None or self._task.done() or self._task.get_loop() is not loop:
            self._task = loop.create_task(self._measured())
        return await asyncio.shield(self._task)

    def _run(self, run: "Future[Result]") -> None:
        if inspect.iscoroutinefunction(self._function):
            run.set_result(asyncio.run(self._measured()))
            return
        # Without an event loop in this thread: Django refuses queries where there is one.
        started = time.perf_counter()
        try:
            outcome = self._function()
        except Exception as failure:  # noqa: BLE001 - checks belong to the application; whatever they raise is the result
            outcome = failure
        run.set_result(self._judged(started, outcome))

    async def _measured(self) -> Result:
        """Call a coroutine function."""
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self.timeout):
                outcome = await self._function()
        except Exception as failure:  # noqa: BLE001 - as in _run
            outcome = failure
        return self._judged(started, outcome)

    def _judged(self, started: float, outcome: Any) -> Result:
        """The result of a run that returned or raised `outcome`."""
        duration = time.perf_counter() - started
        error = ""
        if isinstance(outcome, TimeoutError):
            error = str(outcome) or self._late
        elif isinstance(outcome, Exception):
            error = f"{type(outcome).__name__}: {outcome}"
        elif outcome is False:
            error = "the check returned False"
        elif duration > self.timeout:
            error = self._late
        return self._ended(Result(not error, _PASSWORD.sub(r"\1:***@", error)[:_MAX_ERROR], duration, time.time()))

    @property
    def _late(self) -> str:
        return f"timed out after {self.timeout:g} s"

    def _timed_out(self) -> Result:
        return Result(False, self._late, self.timeout, time.time())

    def _ended(self, result: Result) -> Result:
        self._last = time.monotonic(), result
        labels = (self.name, "true" if self.is_critical else "false")
        gauge_of(HEALTH_SUCCESS).labels(*labels).set(result.is_ok)
        gauge_of(HEALTH_DURATION).labels(*labels).set(result.duration)
        gauge_of(HEALTH_LAST_RUN).labels(*labels).set(result.time)
        return result
