"""Caches of real clients: redis-py with a real Redis, Django, cachetools, and functions with their own counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from databases import redis_server
from sdk.dependency_apps import IS_INSTALLED, MISSING, DependencyApp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from databases import RedisServer
    from deckwatch.testing import Collected

pytestmark = pytest.mark.skipif(not IS_INSTALLED, reason=MISSING)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


def lookups(collected: Collected, cache: str, category: str = "") -> tuple[float, float]:
    """Hits and misses."""
    labels = {"cache": cache, "category": category}
    return collected.value("cache_hits_total", **labels), collected.value("cache_misses_total", **labels)


def operations(collected: Collected, cache: str, operation: str) -> float:
    series = "cache_operation_duration_seconds_count"
    return sum(
        sample.value
        for sample in collected.samples
        if sample.series.name == series and {("cache", cache), ("operation", operation)} <= set(sample.series.labels)
    )


def labels_of(collected: Collected, name: str, label: str) -> set[str]:
    return {dict(sample.series.labels)[label] for sample in collected.samples if sample.series.name == name}


REDIS = """
import redis
client = deckwatch.watch_cache(
    redis.Redis(port=SERVER["port"]), "pages", category=lambda key: key.partition(":")[0])
assert deckwatch.watch_cache(client, "pages") is client
client.flushall()
client.set("user:1", "Ada")
assert client.get("user:1") == b"Ada"
assert client.get(b"user:2") is None
assert client.get(7) is client.get(memoryview(b"7")) is client.mget(7)[0] is None
assert client.mget("user:1", "user:2", "job:1") == [b"Ada", None, None]
client.hset("job:2", "state", "done")
assert client.hget("job:2", "state") == b"done"
assert client.hmget("job:2", ["state", "error"]) == [b"done", None]
assert client.hgetall("job:3") == {}
assert client.pipeline().get("user:1").set("user:3", "x").get("user:4").execute() == [b"Ada", True, None]
with client.pipeline() as pipeline:
    assert pipeline.execute() == []
other = redis.Redis(port=SERVER["port"])
assert other.get("user:9") is other.pipeline().get("user:9").execute()[0] is None
client.delete("user:1")
client.set("text:1", "x")
try:
    client.hget("text:1", "field")
except redis.ResponseError:
    pass
client.incr("counter")
"""
REDIS_ASYNC = """
import asyncio
from redis import asyncio as redis
async def main():
    client = deckwatch.watch_cache(
        redis.Redis(port=SERVER["port"]), "pages", category=lambda key: key.partition(":")[0])
    await client.flushall()
    await client.set("user:1", "Ada")
    assert await client.get("user:1") == b"Ada"
    assert await client.get(b"user:2") is None
    assert await client.mget("user:1", "user:2", "job:1") == [b"Ada", None, None]
    await client.hset("job:2", "state", "done")
    assert await client.hget("job:2", "state") == b"done"
    assert await client.hmget("job:2", ["state", "error"]) == [b"done", None]
    assert await client.hgetall("job:3") == {}
    assert await client.pipeline().get("user:1").set("user:3", "x").get("user:4").execute() == [b"Ada", True, None]
    await client.delete("user:1")
    await client.set("text:1", "x")
    try:
        await client.hget("text:1", "field")
    except redis.ResponseError:
        pass
    await client.incr("counter")
    await client.aclose()
asyncio.run(main())
"""


@pytest.mark.parametrize("code", [REDIS, REDIS_ASYNC], ids=["synchronous", "asynchronous"])
def test_lookups_in_redis_count_by_category(code: str, tmp_path: Path, redis: RedisServer) -> None:
    with DependencyApp(tmp_path, code, {"port": redis.port}) as app:
        counted = app.end()
        assert lookups(counted, "pages", "user") == (3, 3)
        assert lookups(counted, "pages", "job") == (2, 3)
        numbers = {"7"} if code is REDIS else set()
        assert {c for c in labels_of(counted, "cache_misses_total", "category") if c.isdigit()} == numbers
        assert operations(counted, "pages", "get") == 7 + 3 * len(numbers)
        assert operations(counted, "pages", "set") == 3
        assert operations(counted, "pages", "delete") == 1
        assert operations(counted, "pages", "pipeline") == 1
        assert counted.value("cache_errors_total", cache="pages", operation="get") == 1
        assert not app.errors


DJANGO = """
import django
from django.conf import settings
settings.configure(CACHES={
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "a"},
    "pages": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": SERVER["url"]},
    "other": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": SERVER["url"]},
})
from django.core.cache import cache, caches
deckwatch.watch_cache(cache, "memory")
deckwatch.watch_cache(caches["pages"], "pages", category=lambda key: key.partition(":")[0])
for one in (cache, caches["pages"], caches["other"]):
    one.clear()
    assert one.get("user:1") is None
    assert one.get("user:1", default=7) == 7
    assert one.get("user:1", 8) == 8
    one.set("user:1", None)
    assert one.get("user:1", "default") is None
    assert one.get_many(iter(["user:1", "user:2"])) == {"user:1": None}
    assert one.get_or_set("user:3", lambda: 3) == 3
    one.set_many({"user:4": 4})
    one.delete_many(["user:4"])
    one.delete("user:9")
    one.set(key="named:1", value=1)
    assert one.get(key="named:1") == 1
    assert one.get(key="named:2", default=2) == 2
    assert one.get_many(keys=["named:1"]) == {"named:1": 1}
    one.delete(key="named:1")
    try:
        one.get()
    except TypeError:
        pass
    else:
        raise AssertionError("a call without a key is a mistake")

import asyncio, threading
def use():
    assert caches["pages"].get("user:1", "default") is None
thread = threading.Thread(target=use)
thread.start()
thread.join()
async def use_async():
    assert await caches["pages"].aget("user:1", "default") is None
    assert await caches["pages"].aget_many(["user:1"]) == {"user:1": None}
asyncio.run(use_async())
"""


def test_caches_of_django_count_in_all_threads_and_a_stored_none_is_a_hit(tmp_path: Path, redis: RedisServer) -> None:
    with DependencyApp(tmp_path, DJANGO + "stop('used')", {"url": redis.url}) as app:
        used = app.at("used")
        # get_or_set looks up twice.
        assert lookups(used, "memory") == (5, 6)
        assert lookups(used, "pages", "user") == (6, 5)
        assert lookups(used, "pages", "named") == (2, 1)
        assert used.value("cache_entries", cache="memory") == 2
        assert operations(used, "memory", "delete") == 3
        assert operations(used, "memory", "set") == 4
        app.end()
        assert not app.errors


CACHETOOLS = """
import copy, functools, pickle
import cachetools
for kind in (cachetools.LRUCache, cachetools.LFUCache, cachetools.FIFOCache, cachetools.RRCache):
    cache = kind(2)
    assert deckwatch.watch_cache(cache, kind.__name__) is cache
    cache["a"] = 1
    assert cache["a"] == 1
    assert cache.get("b") is None
    assert cache.get("b", 2) == 2
    try:
        cache["b"]
    except KeyError:
        pass
    cache["b"], cache["c"] = 2, 3  # one is evicted
    assert len(cache) == 2
    assert cache.pop("none", 0) == 0
    assert type(cache).__name__ == kind.__name__
    assert isinstance(cache, kind)
    kept = globals()[kind.__name__] = cache  # keeps it alive
    assert dict(pickle.loads(pickle.dumps(cache))) == dict(cache)
    assert type(pickle.loads(pickle.dumps(cache))) is kind
    assert len(copy.copy(cache)) == 2
    assert len(copy.deepcopy(cache)) == 2

class Squares(cachetools.Cache):
    def __missing__(self, key):
        self[key] = value = key * key
        return value
evicting = deckwatch.watch_cache(cachetools.LRUCache(1), "evicting")
for number in range(5):
    evicting[number] = number
assert evicting.popitem() == (4, 4)

squares = deckwatch.watch_cache(Squares(10), "squares")
assert [squares[2], squares[2], squares[3]] == [4, 4, 9]

expiring = deckwatch.watch_cache(
    cachetools.TTLCache(10, 3600), "expiring", category=lambda key: "even" if key[0] % 2 == 0 else "odd")
@cachetools.cached(expiring)
def double(number):
    return 2 * number
for number in (1, 2, 3, 1):
    double(number)

class Default(cachetools.LRUCache):
    def get(self, key, default="own", *, strict=False):
        return super().get(key, default)
own = deckwatch.watch_cache(Default(2), "own")
own["a"] = 1
assert [own.get("a"), own.get("b"), own.get("b", strict=True), own.pop("a"), own.pop("a", 7)] == [1, "own", "own", 1, 7]

large = deckwatch.watch_cache(cachetools.LRUCache(20_000), "large", category=str)
for number in range(10_001):
    large[number] = number

big = deckwatch.watch_cache(cachetools.LRUCache(100, getsizeof=len), "big")
big["a"] = "x" * 10
"""


def test_caches_of_cachetools_count_and_work_as_before(tmp_path: Path) -> None:
    with DependencyApp(tmp_path, CACHETOOLS + "stop('used')") as app:
        used = app.at("used")
        for name in ("LRUCache", "LFUCache", "FIFOCache", "RRCache"):
            hits, misses = lookups(used, name)
            assert misses == 3
            assert hits >= 1
            assert used.value("cache_entries", cache=name) == 2
            assert used.value("cache_max_entries", cache=name) == 2
        assert lookups(used, "squares") == (1, 2)
        assert "evicting" not in {
            dict(it.series.labels).get("cache") for it in used.samples if it.series.name == "cache_hits_total"
        }
        assert lookups(used, "expiring", "odd") == (1, 2)
        assert lookups(used, "expiring", "even") == (0, 1)
        assert used.value("cache_entries", cache="expiring", category="odd") == 2
        assert used.value("cache_entries", cache="big") == 1
        assert lookups(used, "own") == (1, 2)
        assert used.value("cache_entries", cache="large", category="other") == 10_001
        limits = {dict(it.series.labels)["cache"] for it in used.samples if it.series.name == "cache_max_entries"}
        assert "big" not in limits
        app.end()
        assert not app.errors


FUNCTIONS = """
import functools
import cachetools
@functools.lru_cache(maxsize=2)
def double(number):
    return 2 * number
deckwatch.watch_cache(double, "doubles")
for number in (1, 2, 3, 3):
    double(number)
stop("counted")
double.cache_clear()
double(1)
stop("cleared")
del double

@deckwatch_watched
@cachetools.cached({}, info=True)
def triple(number):
    return 3 * number
assert [triple(1), triple(1)] == [3, 3]
gc.collect()
""".replace("@deckwatch_watched", '@functools.partial(deckwatch.watch_cache, name="triples")')


def test_functions_with_a_cache_count_also_after_it_is_cleared(tmp_path: Path) -> None:
    with DependencyApp(tmp_path, FUNCTIONS) as app:
        counted = app.at("counted")
        assert lookups(counted, "doubles") == (1, 3)
        assert counted.value("cache_entries", cache="doubles") == 2
        assert counted.value("cache_max_entries", cache="doubles") == 2
        assert lookups(app.at("cleared"), "doubles") == (1, 4)
        ended = app.end()
        assert lookups(ended, "triples") == (1, 1), "counted at the end of the process"
        assert lookups(ended, "doubles") == (1, 4)
        assert not app.errors


def test_a_forked_process_counts_only_its_own_lookups(tmp_path: Path) -> None:
    code = """
import functools
from deckwatch.sdk.dependencies.sampling import sampler
@functools.lru_cache
def double(number):
    return 2 * number
deckwatch.watch_cache(double, "doubles")
double(1)
child = os.fork()
if not child:
    double(2)
    double(2)
    sampler().sample()
    os._exit(0)
os.waitpid(child, 0)
"""
    with DependencyApp(tmp_path, code) as app:
        assert lookups(app.end(), "doubles") == (1, 2)


def test_a_name_that_the_application_uses_itself_costs_only_that_metric(tmp_path: Path) -> None:
    code = """
import functools
import cachetools
deckwatch.gauge("cache_entries", "The application's own.").set(7)
@functools.lru_cache(maxsize=5)
def double(number):
    return 2 * number
deckwatch.watch_cache(double, "doubles")
double(1)
gone = deckwatch.watch_cache(cachetools.LRUCache(3), "gone")
stop("watched")
del gone
gc.collect()
stop("collected")
"""
    with DependencyApp(tmp_path, code) as app:
        watched = app.at("watched")
        assert watched.value("cache_max_entries", cache="gone") == 3
        assert watched.value("cache_max_entries", cache="doubles") == 5
        assert watched.value("cache_entries", service="shop") == 7
        assert lookups(watched, "doubles") == (0, 1)
        app.at("collected")
        app.end()
        assert app.errors.count("cache_entries cannot be measured") == 1


def test_a_category_that_fails_is_logged_once_and_the_cache_works(tmp_path: Path) -> None:
    code = """
import cachetools
cache = deckwatch.watch_cache(cachetools.LRUCache(2), "broken", category=lambda key: key.missing)
cache["a"] = 1
assert [cache["a"], cache["a"]] == [1, 1]
"""
    with DependencyApp(tmp_path, code) as app:
        assert lookups(app.end(), "broken") == (2, 0)
        assert app.errors.count('the category of keys of cache "broken" cannot be measured') == 1
