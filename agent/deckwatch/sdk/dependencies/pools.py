"""Connection pools: psycopg_pool, SQLAlchemy, asyncpg and redis-py.

The metrics are those of OpenTelemetry's semantic conventions for database clients, in Prometheus' form:
https://opentelemetry.io/docs/specs/semconv/db/database-metrics/#connection-pools
"""

import functools
import weakref
from collections.abc import Iterator
from typing import Any, TypeVar

from deckwatch.sdk import declared
from deckwatch.sdk.dependencies.acquisition import Acquisitions
from deckwatch.sdk.dependencies.failures import Unsupported, library_of, watch_safely
from deckwatch.sdk.dependencies.methods import observe
from deckwatch.sdk.dependencies.sampling import Reading, sampler

_Pool = TypeVar("_Pool")
_UNLIMITED = 2**31  # redis-py's default before version 8


def watch_pool(pool: _Pool, name: str) -> _Pool:
    """Measure a connection pool, and return it: its connections, its limit, and how long callers wait for one.

    `pool` is a pool of psycopg_pool or asyncpg, an engine or a pool of SQLAlchemy, or a client or a connection pool of
    redis-py, synchronous or asynchronous. Never raises: what cannot be measured is logged. Pools with the same name are
    added up. The figures disappear when the pool is collected.
    """
    return watch_safely(_watch, pool, name, f'pool "{name}"')


def _watch(pool: Any, name: str) -> None:
    library_of(pool, {"psycopg_pool": _psycopg, "sqlalchemy": _sqlalchemy, "asyncpg": _asyncpg, "redis": _redis})(
        pool, name
    )


def _readings(name: str, used: int, idle: int, limit: int | None) -> Iterator[Reading]:
    yield Reading(declared.POOL_CONNECTIONS, (name, "used"), used)
    yield Reading(declared.POOL_CONNECTIONS, (name, "idle"), idle)
    yield Reading(declared.POOL_PENDING, (name,), None)
    if limit is not None:
        yield Reading(declared.POOL_MAX, (name,), limit)


def _psycopg(pool: Any, name: str) -> None:
    def read(pool: Any) -> Iterator[Reading]:
        figures = pool.get_stats()
        size, idle = figures["pool_size"], figures["pool_available"]
        # A pool that keeps no connections may be unlimited: its pool_max is 0.
        return _readings(name, max(size - idle, 0), idle, figures["pool_max"] or None)

    def is_timeout(error: BaseException) -> bool:
        return type(error).__name__ in ("PoolTimeout", "TooManyRequests")

    if sampler().add(pool, read, f'pool "{name}"'):
        observe(pool, "getconn", Acquisitions(name, is_timeout))


def _sqlalchemy(given: Any, name: str) -> None:
    given = getattr(given, "sync_engine", given)  # of an AsyncEngine
    if not hasattr(getattr(given, "pool", given), "connect") or not hasattr(given, "dispose"):
        raise Unsupported(f"{type(given).__name__} is neither an engine nor a pool. Pass the engine.")

    def read(given: Any) -> Iterator[Reading]:
        pool = getattr(given, "pool", given)
        if not hasattr(pool, "checkedout"):  # NullPool, StaticPool and others have no figures
            yield Reading(declared.POOL_PENDING, (name,), None)
            return
        overflow = getattr(pool, "_max_overflow", None)
        is_limited = overflow is not None and overflow >= 0
        yield from _readings(
            name, max(pool.checkedout(), 0), pool.checkedin(), pool.size() + overflow if is_limited else None
        )

    def is_timeout(error: BaseException) -> bool:
        return type(error).__module__ == "sqlalchemy.exc" and type(error).__name__ == "TimeoutError"

    if not sampler().add(given, read, f'pool "{name}"'):
        return
    acquisitions = Acquisitions(name, is_timeout)
    if not hasattr(given, "pool"):
        observe(given, "connect", acquisitions)
        return
    observe(given.pool, "connect", acquisitions)
    from sqlalchemy import event

    # dispose() replaces the pool.
    event.listen(given, "engine_disposed", lambda engine: observe(engine.pool, "connect", acquisitions))


def _redis(given: Any, name: str) -> None:
    pool = getattr(given, "connection_pool", given)  # of a client
    if not hasattr(pool, "get_connection") or not hasattr(pool, "max_connections"):
        raise Unsupported(f"{type(pool).__name__} is not a connection pool. Pass the pool of each node.")

    def read(pool: Any) -> Iterator[Reading]:
        limit = pool.max_connections if 0 < pool.max_connections < _UNLIMITED else None
        if hasattr(pool, "_in_use_connections") and not hasattr(pool, "pool"):
            return _readings(name, len(pool._in_use_connections), len(pool._available_connections), limit)
        # A BlockingConnectionPool has all connections in a list and those that are free in a queue.
        idle = sum(connection is not None for connection in list(pool.pool.queue))
        return _readings(name, max(len(pool._connections) - idle, 0), idle, limit)

    def is_timeout(error: BaseException) -> bool:
        return type(error).__name__ == "MaxConnectionsError" or (
            type(error).__name__ == "ConnectionError"
            and str(error) in ("No connection available.", "Too many connections")
        )

    if sampler().add(pool, read, f'pool "{name}"'):
        observe(pool, "get_connection", Acquisitions(name, is_timeout))


@functools.cache
def _asyncpg_acquisitions() -> "weakref.WeakKeyDictionary[Any, Acquisitions]":
    """The watched pools of asyncpg by their queue, after the class has been changed to measure them.

    Pools have slots: neither a weak reference to one nor an attribute of one is possible. The queue of free connections
    exists as long as its pool.
    """
    from asyncpg.pool import Pool  # type: ignore[import-not-found]  # not installed where the types are checked

    watched: weakref.WeakKeyDictionary[Any, Acquisitions] = weakref.WeakKeyDictionary()
    acquire = Pool._acquire

    @functools.wraps(acquire)
    async def measured(self: Any, timeout: float | None) -> Any:
        acquisitions = watched.get(self._queue) if self._queue is not None else None
        if acquisitions is None:
            return await acquire(self, timeout)
        started = acquisitions.begin()
        try:
            connection = await acquire(self, timeout)
        except BaseException as error:
            acquisitions.end(started, None, error)
            raise
        acquisitions.end(started, connection, None)
        return connection

    Pool._acquire = measured
    return watched


def _asyncpg(pool: Any, name: str) -> None:
    if pool._queue is None:
        raise Unsupported("it has not been opened. Call watch_pool after `await asyncpg.create_pool(...)`.")

    def read(queue: Any) -> Iterator[Reading]:
        free = list(queue._queue)  # holders, which may have no connection yet
        idle = sum(bool(holder.is_connected()) for holder in free)
        return _readings(name, queue.maxsize - len(free), idle, queue.maxsize)

    if sampler().add(pool._queue, read, f'pool "{name}"'):
        _asyncpg_acquisitions()[pool._queue] = Acquisitions(name, lambda error: isinstance(error, TimeoutError))
