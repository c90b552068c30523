"""An application that uses a database, a cache, a server, a circuit breaker and retries, and fails at times."""

from __future__ import annotations

import contextlib
import json
import subprocess
from typing import TYPE_CHECKING

from sdk.dependency_apps import IS_INSTALLED, PYTHON
from services import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from databases import PostgresServer, RedisServer

_APP = """
import functools, itertools, json, os, time
import deckwatch
deckwatch.instrument(slow_call_seconds=0.05)
import cachetools, pybreaker, redis, requests, tenacity
from psycopg_pool import ConnectionPool, PoolTimeout

SERVER = json.loads(os.environ["SERVER"])
deckwatch.setup_logging(file=os.environ["APP_LOG"])
pool = deckwatch.watch_pool(ConnectionPool(SERVER["dsn"], min_size=2, max_size=2, timeout=0.1, open=True), "main")
cache = deckwatch.watch_cache(redis.Redis(port=SERVER["port"]), "pages", category=lambda key: key.partition(":")[0])
prices = deckwatch.watch_cache(cachetools.TTLCache(100, 3600), "prices")
breaker = deckwatch.watch_breaker(pybreaker.CircuitBreaker(fail_max=2, reset_timeout=1, name="payments"))

@functools.partial(deckwatch.watch_retries, name="charge")
@tenacity.retry(stop=tenacity.stop_after_attempt(2), reraise=True)
def charge():
    breaker.call(requests.get, SERVER["url"])

pool.wait()
for number in itertools.count():
    with pool.connection() as connection:
        connection.execute("SELECT pg_sleep(0.06)" if number % 20 == 0 else "SELECT 1")
        try:
            connection.execute("SELECT missing")
        except Exception:
            connection.rollback()
        if number % 10 == 0:
            with pool.connection():
                try:
                    with pool.connection():
                        pass
                except PoolTimeout:
                    pass
    cache.set("page:1", "x")
    cache.get("page:1")
    cache.get("page:2")
    try:
        cache.hget("page:1", "field")
    except redis.ResponseError:
        pass
    prices.get("none")
    prices["one"] = 1
    prices["one"]
    try:
        charge()
    except Exception:
        pass
    time.sleep(0.1)
"""


@contextlib.contextmanager
def dependent(folder: Path, database: PostgresServer, cache: RedisServer) -> Iterator[None]:
    """Run it with its metrics in `folder`/apps and its log in `folder`/dependencies.json, if it is installed."""
    if not IS_INSTALLED:
        yield
        return
    server = {"dsn": database.dsn(), "port": cache.port, "url": "http://127.0.0.1:1/"}
    environ = {
        "DECKWATCH_APP_DIR": str(folder / "apps"),
        "DECKWATCH_SERVICE": "checkout",
        "APP_LOG": str(folder / "dependencies.json"),
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT / "agent"),
        "SERVER": json.dumps(server),
    }
    with (folder / "dependencies.log").open("wb") as log:
        process = subprocess.Popen([PYTHON, "-c", _APP], env=environ, cwd=folder, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait()
