"""Connection pools of real clients, connected to a real PostgreSQL and a real Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from databases import postgres_server, redis_server
from sdk.dependency_apps import IS_INSTALLED, MISSING, DependencyApp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from databases import PostgresServer, RedisServer
    from deckwatch.testing import Collected

pytestmark = pytest.mark.skipif(not IS_INSTALLED, reason=MISSING)

PSYCOPG = """
from psycopg_pool import ConnectionPool, PoolTimeout
pool = deckwatch.watch_pool(ConnectionPool(SERVER["dsn"], min_size=2, max_size=2, open=True, timeout=0.2), "main")
pool.wait()
with pool.connection() as one, pool.connection() as two:
    try:
        with pool.connection():
            pass
    except PoolTimeout:
        pass
    stop("exhausted")
stop("idle")
pool.close()
del pool, one, two
gc.collect()
stop("collected")
"""
PSYCOPG_ASYNC = """
import asyncio
from psycopg_pool import AsyncConnectionPool, PoolTimeout
async def main():
    async with AsyncConnectionPool(SERVER["dsn"], min_size=2, max_size=2, open=False, timeout=0.2) as pool:
        deckwatch.watch_pool(pool, "main")
        await pool.wait()
        async with pool.connection() as one, pool.connection() as two:
            try:
                async with pool.connection():
                    pass
            except PoolTimeout:
                pass
            stop("exhausted")
        stop("idle")
asyncio.run(main())
gc.collect()
stop("collected")
"""
SQLALCHEMY = """
from sqlalchemy import create_engine, exc
url = SERVER["dsn"].replace("postgresql:", "postgresql+psycopg:")
engine = deckwatch.watch_pool(create_engine(url, pool_size=1, max_overflow=1, pool_timeout=0.2), "main")
with engine.connect():
    pass
engine.dispose()  # replaces the pool, as after a fork
with engine.connect() as one, engine.connect() as two:
    try:
        engine.connect()
    except exc.TimeoutError:
        pass
    stop("exhausted")
with engine.connect():
    pass
stop("idle")
del engine, one, two
gc.collect()
stop("collected")
"""
SQLALCHEMY_ASYNC = """
import asyncio
from sqlalchemy import exc
from sqlalchemy.ext.asyncio import create_async_engine
async def main():
    url = SERVER["dsn"].replace("postgresql:", "postgresql+asyncpg:")
    engine = deckwatch.watch_pool(create_async_engine(url, pool_size=1, max_overflow=1, pool_timeout=0.2), "main")
    async with engine.connect() as one, engine.connect() as two:
        try:
            async with engine.connect():
                pass
        except exc.TimeoutError:
            pass
        stop("exhausted")
    async with engine.connect():
        pass
    stop("idle")
    await engine.dispose()
asyncio.run(main())
gc.collect()
stop("collected")
"""
ASYNCPG = """
import asyncio, asyncpg
async def main():
    early = asyncpg.create_pool(SERVER["dsn"], min_size=2, max_size=2)
    deckwatch.watch_pool(early, "early")
    async with asyncpg.create_pool(SERVER["dsn"], min_size=2, max_size=2) as pool:
        deckwatch.watch_pool(pool, "main")
        deckwatch.watch_pool(pool, "main")
        async with pool.acquire() as one, pool.acquire() as two:
            try:
                await pool.acquire(timeout=0.2)
            except TimeoutError:
                pass
            stop("exhausted")
        stop("idle")
asyncio.run(main())
gc.collect()
stop("collected")
"""
REDIS = """
import redis
pool = redis.ConnectionPool(port=SERVER["port"], max_connections=2)
client = deckwatch.watch_pool(redis.Redis(connection_pool=pool), "main")
one, two = pool.get_connection(), pool.get_connection()
try:
    client.ping()
except redis.ConnectionError:
    pass
stop("exhausted")
pool.release(one)
pool.release(two)
client.ping()
stop("idle")
del client, pool, one, two
gc.collect()
stop("collected")
"""
REDIS_BLOCKING = REDIS.replace("redis.ConnectionPool(", "redis.BlockingConnectionPool(timeout=0.2, ")
REDIS_ASYNC = """
import asyncio
from redis import asyncio as redis
async def main():
    pool = redis.KIND(port=SERVER["port"], max_connections=2)
    client = deckwatch.watch_pool(redis.Redis(connection_pool=pool), "main")
    one, two = await pool.get_connection(), await pool.get_connection()
    try:
        await client.ping()
    except redis.ConnectionError:
        pass
    stop("exhausted")
    await pool.release(one)
    await pool.release(two)
    await client.ping()
    stop("idle")
    await pool.disconnect()
asyncio.run(main())
gc.collect()
stop("collected")
"""
PROGRAMS = {
    "psycopg_pool": PSYCOPG,
    "psycopg_pool, asynchronous": PSYCOPG_ASYNC,
    "SQLAlchemy": SQLALCHEMY,
    "SQLAlchemy, asynchronous": SQLALCHEMY_ASYNC,
    "asyncpg": ASYNCPG,
    "redis-py": REDIS,
    "redis-py, blocking": REDIS_BLOCKING,
    "redis-py, asynchronous": REDIS_ASYNC.replace("KIND", "ConnectionPool"),
    "redis-py, asynchronous, blocking": REDIS_ASYNC.replace("KIND(", "BlockingConnectionPool(timeout=0.2, "),
}


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


def connections(collected: Collected, state: str) -> float:
    labels = {"db_client_connection_pool_name": "main", "db_client_connection_state": state}
    return collected.value("db_client_connection_count", service="shop", **labels)


def figure(collected: Collected, name: str) -> float:
    return collected.value(f"db_client_connection_{name}", service="shop", db_client_connection_pool_name="main")


@pytest.mark.parametrize("library", PROGRAMS)
def test_a_pool_shows_its_connections_its_limit_and_requests_without_a_connection(
    library: str, tmp_path: Path, postgres: PostgresServer, redis: RedisServer
) -> None:
    server: dict[str, object] = {"dsn": postgres.dsn(), "port": redis.port}
    with DependencyApp(tmp_path, PROGRAMS[library], server) as app:
        exhausted = app.at("exhausted")
        assert connections(exhausted, "used") == 2
        assert connections(exhausted, "idle") == 0
        assert figure(exhausted, "max") == 2
        assert figure(exhausted, "timeouts_total") == 1
        assert figure(exhausted, "pending_requests") == 0
        assert figure(exhausted, "wait_time_seconds_count") >= 2
        idle = app.at("idle")
        assert connections(idle, "used") == 0
        assert connections(idle, "idle") >= 1
        collected = app.at("collected")
        names = {sample.series.name for sample in collected.samples}
        assert not names & {f"db_client_connection_{it}" for it in ("count", "max", "pending_requests")}
        app.end()
        assert "cannot be measured" not in app.errors
        assert ('pool "early" is not measured: it has not been opened' in app.errors) == (library == "asyncpg")


def test_a_request_that_waits_is_pending_and_then_observed(tmp_path: Path, postgres: PostgresServer) -> None:
    code = """
import threading
from psycopg_pool import ConnectionPool
pool = deckwatch.watch_pool(ConnectionPool(SERVER["dsn"], min_size=1, max_size=1, open=True), "main")
pool.wait()
def wait():
    with pool.connection():
        pass
with pool.connection():
    waiting = threading.Thread(target=wait)
    waiting.start()
    while not pool.get_stats()["requests_waiting"]:
        pass
    stop("waiting")
waiting.join()
stop("served")
"""
    with DependencyApp(tmp_path, code, {"dsn": postgres.dsn()}) as app:
        waiting = app.at("waiting")
        assert figure(waiting, "pending_requests") == 1
        assert figure(waiting, "wait_time_seconds_count") == 1
        served = app.at("served")
        assert figure(served, "pending_requests") == 0
        assert figure(served, "wait_time_seconds_count") == 2
        app.end()


def test_processes_add_up_and_a_forked_process_shows_its_own_pool(tmp_path: Path, redis: RedisServer) -> None:
    code = """
import redis
pool = deckwatch.watch_pool(redis.ConnectionPool(port=SERVER["port"], max_connections=7), "main")
reader, writer = os.pipe()
child = os.fork()
pool.get_connection()
if not child:
    from deckwatch.sdk.dependencies.sampling import sampler
    import threading
    assert "deckwatch-sampler" in [thread.name for thread in threading.enumerate()]
    sampler().sample()
    os.write(writer, b"1")
    os.read(0, 1)
    os._exit(0)
os.read(reader, 1)
stop("both")
os.waitpid(child, 0)
"""
    with DependencyApp(tmp_path, code, {"port": redis.port}) as app:
        both = app.at("both")
        assert connections(both, "used") == 2
        assert figure(both, "max") == 14


def test_a_pool_after_one_that_was_collected_has_figures_again(tmp_path: Path, redis: RedisServer) -> None:
    code = """
import warnings, redis
warnings.simplefilter("error", UserWarning)
from deckwatch.sdk.dependencies.sampling import sampler
for _ in range(2):
    pool = deckwatch.watch_pool(redis.ConnectionPool(port=SERVER["port"]), "main")
    connection = pool.get_connection()
    stop("watched")
    connection.disconnect()
    del pool, connection
    gc.collect()
    sampler().sample()
environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "QUERY_STRING": ""}
served = b"".join(deckwatch.wsgi_app()(environ, lambda *_: None))
assert b"wait_time_seconds_count" in served
assert b"NaN" not in served, served
"""
    with DependencyApp(tmp_path, code, {"port": redis.port}) as app:
        for _ in range(2):
            watched = app.at("watched")
            assert connections(watched, "used") == 1
            assert figure(watched, "pending_requests") == 0
        app.end()
        assert not app.errors


def test_what_is_not_a_pool_is_logged_and_returned(tmp_path: Path) -> None:
    code = """
thing = {}
assert deckwatch.watch_pool(thing, "things") is thing
assert deckwatch.watch_pool(None, "nothing") is None
for watch in (deckwatch.watch_cache, deckwatch.watch_breaker, deckwatch.watch_retries):
    assert watch(thing, "things") is thing
libraries = "aiobreaker asyncpg cachetools django opentelemetry psycopg_pool purgatory pybreaker redis"
libraries += " sqlalchemy stamina tenacity"
assert not {name.partition(".")[0] for name in sys.modules} & set(libraries.split())
"""
    with DependencyApp(tmp_path, code) as app:
        app.end()
        for kind in ("cache", "breaker", "retries"):
            assert f'{kind} "things" is not measured: builtins.dict is not of' in app.errors
        assert (
            'pool "things" is not measured: builtins.dict is not of asyncpg, psycopg_pool, redis, sqlalch' in app.errors
        )


def test_pools_of_sqlalchemy_without_figures_have_a_wait_and_sessions_are_refused(tmp_path: Path) -> None:
    code = """
from sqlalchemy import create_engine, pool, text
from sqlalchemy.orm import sessionmaker
for kind in (pool.NullPool, pool.StaticPool, pool.SingletonThreadPool):
    engine = deckwatch.watch_pool(create_engine("sqlite://", poolclass=kind), kind.__name__)
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    kept = globals()[kind.__name__] = engine
deckwatch.watch_pool(create_engine("sqlite://").connect(), "connection")
deckwatch.watch_pool(sessionmaker(engine), "sessions")
stop("used")
"""
    with DependencyApp(tmp_path, code) as app:
        used = app.at("used")
        for name in ("NullPool", "StaticPool", "SingletonThreadPool"):
            pool = {"db_client_connection_pool_name": name}
            assert used.value("db_client_connection_wait_time_seconds_count", service="shop", **pool) >= 1
        assert "db_client_connection_count" not in {sample.series.name for sample in used.samples}
        app.end()
        assert 'pool "sessions" is not measured: sessionmaker is neither an engine nor a pool' in app.errors
        assert 'pool "connection" is not measured' in app.errors
        assert "Traceback" not in app.errors


def test_figures_follow_without_a_call(tmp_path: Path, redis: RedisServer) -> None:
    code = """
import redis, time
pool = deckwatch.watch_pool(redis.ConnectionPool(port=SERVER["port"]), "main")
pool.get_connection()
from deckwatch.sdk.dependencies.sampling import sampler
before = sampler()._shown
while sampler()._shown is before:
    time.sleep(0.01)
stop("later", sample=False)
"""
    with DependencyApp(tmp_path, code, {"port": redis.port}) as app:
        assert connections(app.at("later"), "used") == 1
