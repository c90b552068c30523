"""Circuit breakers: pybreaker, aiobreaker and purgatory."""

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from deckwatch.sdk import declared
from deckwatch.sdk.dependencies.failures import Guard, Unsupported, library_of, watch_safely
from deckwatch.sdk.dependencies.sampling import Reading, sampler
from deckwatch.sdk.library_metrics import counter_of, gauge_of

_Breaker = TypeVar("_Breaker")
_STATES = ("closed", "open", "half_open")


def watch_breaker(breaker: _Breaker, name: str = "") -> _Breaker:
    """Measure a circuit breaker, and return it: its state, its changes of state and its failures.

    `breaker` is a `CircuitBreaker` of pybreaker or aiobreaker, or a factory of purgatory. `name` is by default the name
    of the breaker. Breakers of a factory have the names of their circuits, after `name/` if it is given. Never raises:
    what cannot be measured is logged.
    """
    libraries: dict[str, Callable[[Any, str], None]] = {
        "pybreaker": _watch_one,
        "aiobreaker": _watch_one,
        "purgatory": _watch_factory,
    }
    return watch_safely(
        lambda breaker, name: library_of(breaker, libraries)(breaker, name), breaker, name, f'breaker "{name}"'
    )


class BreakerFigures:
    """The counters of one breaker. No method raises."""

    def __init__(self, breaker: str) -> None:
        self._breaker = breaker
        self._guard = Guard(f'breaker "{breaker}"')
        self._failures = counter_of(declared.BREAKER_FAILURES).labels(breaker)
        # Created at 0, so that increase() sees the first change.
        for state in _STATES:
            counter_of(declared.BREAKER_CHANGES).labels(breaker, state)

    def failed(self) -> None:
        with self._guard:
            self._failures.inc()
            gauge_of(declared.BREAKER_LAST_FAILURE).labels(self._breaker).set(time.time())

    def changed(self, state: str) -> None:
        with self._guard:
            counter_of(declared.BREAKER_CHANGES).labels(self._breaker, state).inc()

    def readings(self, state: str) -> Iterator[Reading]:
        for one in _STATES:
            yield Reading(declared.BREAKER_STATE, (self._breaker, one), one == state)


class _Listener:
    """A listener of pybreaker and aiobreaker. It does not derive from their classes, since one class serves both."""

    def __init__(self, figures: BreakerFigures) -> None:
        self._figures = figures

    def before_call(self, *_: Any, **__: Any) -> None:
        """Part of the interface."""

    def success(self, *_: Any) -> None:
        """Part of the interface."""

    def failure(self, *_: Any) -> None:
        self._figures.failed()

    def state_change(self, _breaker: Any, _old: Any, new: Any) -> None:
        self._figures.changed(_state(new))


def _state(found: Any) -> str:
    """A state by its name in the metrics, from a state object of pybreaker or aiobreaker, or purgatory's text."""
    found = getattr(found, "state", found)  # aiobreaker: an enumeration, which has names
    text = str(getattr(found, "name", found)).lower().replace("-", "_")
    return text.removesuffix("ed") if text in ("opened", "half_opened") else text


def _watch_one(breaker: Any, name: str) -> None:
    name = name or breaker.name
    if not name:
        raise Unsupported("it has no name. Pass one to watch_breaker.")
    figures = BreakerFigures(name)

    def read(breaker: Any) -> Iterator[Reading]:
        # The state as this process has last seen it: reading it from a shared storage is a call over the network.
        return figures.readings(_state(breaker._state))

    if sampler().add(breaker, read, f'breaker "{name}"'):
        breaker.add_listener(_Listener(figures))


def _watch_factory(factory: Any, name: str) -> None:
    if not hasattr(factory, "get_breaker"):
        raise Unsupported(f"{type(factory).__name__} is not a factory. Pass the factory that makes the breakers.")
    breakers: dict[str, BreakerFigures] = {}
    states: dict[str, str] = {}

    def heard(circuit: str, kind: str, event: Any) -> None:
        with Guard(f'breaker "{circuit}"'):
            if circuit not in breakers:
                breakers[circuit] = BreakerFigures(f"{name}/{circuit}" if name else circuit)
                states[circuit] = "closed"
            if kind == "failed":
                breakers[circuit].failed()
            elif kind == "state_changed":
                states[circuit] = _state(event.state)
                breakers[circuit].changed(states[circuit])

    def read(_: Any) -> Iterator[Reading]:
        for circuit, state in list(states.items()):
            yield from breakers[circuit].readings(state)

    if sampler().add(factory, read, f'breakers "{name}"'):
        factory.add_listener(heard)
