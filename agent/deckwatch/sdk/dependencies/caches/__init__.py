"""Caches: clients of redis-py, Django's caches, cachetools, and functions with `cache_info()`."""

from collections.abc import Callable
from typing import Any, TypeVar

from deckwatch.sdk.dependencies.caches import cached_functions, cachetools_caches, django_caches, redis_clients
from deckwatch.sdk.dependencies.caches.figures import CacheFigures
from deckwatch.sdk.dependencies.failures import library_of, watch_safely

_Cache = TypeVar("_Cache")


def watch_cache(cache: _Cache, name: str, *, category: Callable[[Any], str] | None = None) -> _Cache:
    """Measure a cache, and return it: hits, misses and entries, and for caches on a network latency and errors.

    `cache` is a client of redis-py, synchronous or asynchronous; a cache of Django; a cache of cachetools; or a
    function with `functools.lru_cache` or `cachetools.cached(..., info=True)`. `category` returns the category of a
    key, such as its prefix. Never raises: what cannot be measured is logged.
    """

    def watch(cache: Any, name: str) -> None:
        figures = CacheFigures(name, category)
        if callable(getattr(cache, "cache_info", None)):
            cached_functions.watch(cache, figures)
            return
        libraries = {
            "redis": redis_clients.watch,
            "django": django_caches.watch,
            "cachetools": cachetools_caches.watch,
        }
        library_of(cache, libraries)(cache, figures)

    return watch_safely(watch, cache, name, f'cache "{name}"')
