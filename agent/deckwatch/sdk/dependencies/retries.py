"""Retries: tenacity and stamina."""

import functools
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

from deckwatch.sdk import declared
from deckwatch.sdk.dependencies.failures import Guard, Unsupported, library_of, watch_safely
from deckwatch.sdk.library_metrics import counter_of

_Target = TypeVar("_Target")


def watch_retries(target: _Target, name: str = "") -> _Target:
    """Count attempts, repeated attempts and give-ups, and return the target.

    `target` is a function with tenacity's `retry`, a `Retrying` or `AsyncRetrying` object, or the module `stamina`,
    for all functions that use it. `name` is by default the name of the function. Never raises: what cannot be measured
    is logged.
    """
    return watch_safely(_watch, target, name, f'retries "{name}"')


def _watch(target: Any, name: str) -> None:
    if isinstance(target, ModuleType) and target.__name__ == "stamina":
        _watch_stamina()
        return
    retrying = getattr(target, "retry", None) if inspect.isroutine(target) else target
    if retrying is None:
        raise Unsupported("it is not a function of tenacity. For stamina, pass the module: watch_retries(stamina).")
    library_of(retrying, {"tenacity": _watch_tenacity})(
        retrying, name or f"{getattr(target, '__module__', '')}.{getattr(target, '__qualname__', '')}".strip(".")
    )


class RetryFigures:
    """The counters of one operation. No method raises."""

    def __init__(self, operation: str) -> None:
        self._guard = Guard(f'retries "{operation}"')
        self._attempts = counter_of(declared.RETRY_ATTEMPTS).labels(operation)
        self._repeated = counter_of(declared.RETRY_REPEATED).labels(operation)
        self._giveups = counter_of(declared.RETRY_GIVEUPS).labels(operation)

    def attempted(self, state: Any) -> None:
        """Count an attempt that begins. `state` is tenacity's."""
        with self._guard:
            self._attempts.inc()
            if state.attempt_number > 1:
                self._repeated.inc()

    def stopped(self, is_stopped: Any) -> None:
        """Count a give-up if tenacity's `stop` has said so."""
        with self._guard:
            if is_stopped:
                self._giveups.inc()


def _watch_tenacity(retrying: Any, operation: str) -> None:
    if getattr(retrying.before, "_deckwatch", False):
        return
    figures = RetryFigures(operation)
    # Functions make a copy of the object for each call, which has these attributes.
    retrying.before = _with_attempts(retrying.before, figures)
    retrying.stop = _with_give_ups(retrying.stop, figures)


def _with_attempts(before: Any, figures: RetryFigures) -> Callable[..., Any]:
    if _is_async(before):

        async def before_async(state: Any) -> None:
            figures.attempted(state)
            await before(state)

        before_async._deckwatch = True  # type: ignore[attr-defined]  # the object is measured
        return before_async

    def before_sync(state: Any) -> None:
        figures.attempted(state)
        if before is not None:
            before(state)

    before_sync._deckwatch = True  # type: ignore[attr-defined]  # the object is measured
    return before_sync


def _with_give_ups(stop: Any, figures: RetryFigures) -> Callable[..., Any]:
    """`stop` is called after an attempt that is to be repeated."""
    if _is_async(stop):

        async def stop_async(state: Any) -> Any:
            is_stopped = await stop(state)
            figures.stopped(is_stopped)
            return is_stopped

        return stop_async

    def stop_sync(state: Any) -> Any:
        is_stopped = stop(state)
        figures.stopped(is_stopped)
        return is_stopped

    return stop_sync


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


@functools.cache
def _watch_stamina() -> None:
    """Measure all of stamina's retries. Its hooks say neither that an attempt begins nor that it gives up."""
    from stamina import _core  # type: ignore[import-not-found]  # not installed where the types are checked

    retries = _core._RetryContextIterator
    arguments, before_attempt = retries._apply_maybe_test_mode_to_tenacity_kw, retries._exit_cms
    figures = functools.lru_cache(maxsize=1000)(RetryFigures)
    guard = Guard("stamina")

    @functools.wraps(arguments)
    def measured_arguments(self: Any, testing: Any) -> Any:
        options = arguments(self, testing)
        with guard:
            options["stop"] = _with_give_ups(options["stop"], figures(self._name))
        return options

    @functools.wraps(before_attempt)
    def measured_attempt(self: Any, state: Any) -> None:
        before_attempt(self, state)
        with guard:
            figures(self._name).attempted(state)

    retries._apply_maybe_test_mode_to_tenacity_kw = measured_arguments
    retries._exit_cms = measured_attempt
