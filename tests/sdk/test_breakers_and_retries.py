"""Circuit breakers and retries of real libraries."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from sdk.dependency_apps import IS_INSTALLED, MISSING, DependencyApp

if TYPE_CHECKING:
    from pathlib import Path

    from deckwatch.testing import Collected

pytestmark = pytest.mark.skipif(not IS_INSTALLED, reason=MISSING)

PYBREAKER = """
import pybreaker
breaker = pybreaker.CircuitBreaker(fail_max=2, reset_timeout=0, name="payments")
assert deckwatch.watch_breaker(breaker) is breaker
deckwatch.watch_breaker(breaker, "twice")
def fail():
    raise OSError
def call(function):
    try:
        breaker.call(function)
    except (OSError, pybreaker.CircuitBreakerError):
        pass
call(fail)
stop("closed")
call(fail)
stop("open")
call(int)
stop("closed again")
breaker.half_open()
stop("half open")
del breaker, call
gc.collect()
stop("collected")
"""
AIOBREAKER = """
import asyncio, datetime
import aiobreaker
breaker = aiobreaker.CircuitBreaker(fail_max=2, timeout_duration=datetime.timedelta(microseconds=1))
deckwatch.watch_breaker(breaker, "payments")
async def fail():
    raise OSError
async def work():
    return 1
async def call(function):
    try:
        await breaker.call_async(function)
    except (OSError, aiobreaker.CircuitBreakerError):
        pass
asyncio.run(call(fail))
stop("closed")
asyncio.run(call(fail))
stop("open")
asyncio.run(call(work))
stop("closed again")
breaker.half_open()
stop("half open")
del breaker, call
gc.collect()
stop("collected")
"""
PURGATORY = """
from purgatory import SyncCircuitBreakerFactory
factory = deckwatch.watch_breaker(SyncCircuitBreakerFactory(default_threshold=2, default_ttl=-1))
def call(function):
    try:
        with factory.get_breaker("payments"):
            function()
    except OSError:
        pass
def fail():
    raise OSError
call(fail)
stop("closed")
call(fail)
stop("open")
call(int)
stop("closed again")
call(fail)
call(fail)
def look():
    stop("half open")
call(look)
del factory, call
gc.collect()
stop("collected")
"""


def state(collected: Collected, breaker: str = "payments") -> str:
    found = [
        dict(sample.series.labels)["state"]
        for sample in collected.samples
        if sample.series.name == "circuit_breaker_state"
        and ("breaker", breaker) in sample.series.labels
        and sample.value == 1
    ]
    return "+".join(found)


@pytest.mark.parametrize("code", [PYBREAKER, AIOBREAKER, PURGATORY], ids=["pybreaker", "aiobreaker", "purgatory"])
def test_a_breaker_shows_its_state_its_changes_and_its_failures(code: str, tmp_path: Path) -> None:
    with DependencyApp(tmp_path, code) as app:
        closed = app.at("closed")
        assert state(closed) == "closed"
        assert closed.value("circuit_breaker_failures_total", breaker="payments") == 1
        last = closed.value("circuit_breaker_last_failure_timestamp_seconds", breaker="payments")
        assert 0 < last <= time.time()
        assert closed.value("circuit_breaker_state_changes_total", breaker="payments", state="open") == 0
        opened = app.at("open")
        assert state(opened) == "open"
        assert opened.value("circuit_breaker_state_changes_total", breaker="payments", state="open") == 1
        assert opened.value("circuit_breaker_failures_total", breaker="payments") == 2
        assert state(app.at("closed again")) == "closed"
        half_open = app.at("half open")
        assert half_open.value("circuit_breaker_state_changes_total", breaker="payments", state="half_open") >= 1
        # purgatory reports this state together with the one that follows.
        assert state(half_open) == ("open" if code is PURGATORY else "half_open")
        collected = app.at("collected")
        assert "circuit_breaker_state" not in {sample.series.name for sample in collected.samples}
        app.end()
        assert not app.errors


def test_a_breaker_without_a_name_and_other_objects_are_logged(tmp_path: Path) -> None:
    code = """
import pybreaker
from purgatory import AsyncCircuitBreakerFactory
deckwatch.watch_breaker(pybreaker.CircuitBreaker())
deckwatch.watch_breaker(3, "three")
deckwatch.watch_breaker(AsyncCircuitBreakerFactory(), "remote")
deckwatch.watch_retries(int)
deckwatch.watch_retries(deckwatch)
"""
    with DependencyApp(tmp_path, code) as app:
        app.end()
        assert 'breaker "" is not measured: it has no name' in app.errors
        assert 'breaker "three" is not measured: builtins.int is not of' in app.errors
        assert app.errors.count("is not measured") == 4


def attempts(collected: Collected, operation: str) -> tuple[float, float, float]:
    """All attempts, repeated ones, and give-ups."""
    names = ("retry_attempts_total", "retry_repeated_attempts_total", "retry_giveups_total")
    return tuple(collected.value(name, operation=operation) for name in names)  # type: ignore[return-value]  # three


TENACITY = """
import asyncio
import tenacity
begun = []
@tenacity.retry(stop=tenacity.stop_after_attempt(3), before=begun.append)
def fail():
    raise OSError
assert deckwatch.watch_retries(fail, "sync") is fail
deckwatch.watch_retries(fail, "sync")
try:
    fail()
except tenacity.RetryError:
    pass
assert len(begun) == 3

async def before(state):
    begun.append(state)
async def stop_async(state):
    return state.attempt_number >= 2
@tenacity.retry(stop=stop_async, before=before, reraise=True)
async def fail_async():
    raise OSError
deckwatch.watch_retries(fail_async)
try:
    asyncio.run(fail_async())
except OSError:
    pass
assert len(begun) == 5

flaky = deckwatch.watch_retries(tenacity.Retrying(stop=tenacity.stop_after_attempt(9)), "block")
for attempt in flaky:
    with attempt:
        if attempt.retry_state.attempt_number < 3:
            raise OSError

@tenacity.retry
def work():
    return 1
assert deckwatch.watch_retries(work, "works")() == 1
"""


def test_retries_of_tenacity_count_attempts_and_give_ups(tmp_path: Path) -> None:
    with DependencyApp(tmp_path, TENACITY) as app:
        counted = app.end()
        assert attempts(counted, "sync") == (3, 2, 1)
        assert attempts(counted, "__main__.fail_async") == (2, 1, 1)
        assert attempts(counted, "block") == (3, 2, 0)
        assert attempts(counted, "works") == (1, 0, 0)
        assert not app.errors


STAMINA = """
import asyncio
import stamina
deckwatch.watch_retries(stamina)
logging.getLogger("stamina").setLevel(logging.ERROR)
@stamina.retry(on=OSError, attempts=3, wait_initial=0, wait_jitter=0, wait_max=0)
def fail():
    raise OSError
@stamina.retry(on=OSError, attempts=2, wait_initial=0, wait_jitter=0, wait_max=0)
async def fail_async():
    raise OSError
for call in (fail, lambda: asyncio.run(fail_async())):
    try:
        call()
    except OSError:
        pass
for attempt in stamina.retry_context(on=OSError, wait_initial=0, wait_jitter=0, wait_max=0):
    with attempt:
        if attempt.num < 2:
            raise OSError
"""


def test_retries_of_stamina_count_by_function(tmp_path: Path) -> None:
    with DependencyApp(tmp_path, STAMINA) as app:
        counted = app.end()
        assert attempts(counted, "__main__.fail") == (3, 2, 1)
        assert attempts(counted, "__main__.fail_async") == (2, 1, 1)
        assert attempts(counted, "<context block>") == (2, 1, 0)
        assert not app.errors
