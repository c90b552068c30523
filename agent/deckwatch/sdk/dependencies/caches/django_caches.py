"""Django's caches: each thread has another object for an entry of CACHES. It is measured when it is made."""

import functools
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from deckwatch.sdk.dependencies.caches.figures import CacheFigures
from deckwatch.sdk.dependencies.failures import Guard, Unsupported
from deckwatch.sdk.dependencies.sampling import Reading, sampler

#: The measured methods. Their asynchronous forms call them.
_OPERATIONS = {
    "get": "get",
    "get_many": "get",
    "has_key": "get",
    "set": "set",
    "set_many": "set",
    "add": "set",
    "touch": "set",
    "delete": "delete",
    "delete_many": "delete",
}
#: The names of the first argument.
_FIRST = ("key", "keys", "data")
_ABSENT = object()


def watch(cache: Any, figures: CacheFigures) -> None:
    from django.core.cache import caches  # type: ignore[import-untyped]  # Django has no types

    alias = _alias(cache, caches)
    if alias in _watched():
        return
    _watched()[alias] = figures
    _measure(caches[alias], figures)


def _alias(cache: Any, caches: Any) -> str:
    if "_alias" in vars(cache):  # `django.core.cache.cache`
        return str(cache._alias)
    for alias in caches:
        if caches[alias] is cache:
            return str(alias)
    raise Unsupported("it is not in CACHES. Pass django.core.cache.cache or django.core.cache.caches[name].")


@functools.cache
def _watched() -> dict[str, CacheFigures]:
    """The watched caches by alias, after Django has been changed to measure the objects that it makes for them."""
    from django.core.cache import caches

    watched: dict[str, CacheFigures] = {}
    create = caches.create_connection

    @functools.wraps(create)
    def create_connection(alias: str) -> Any:
        cache = create(alias)
        figures = watched.get(alias)
        if figures is not None:
            with Guard(figures.subject):
                _measure(cache, figures)
        return cache

    caches.create_connection = create_connection  # Django has no hook for it
    return watched


def _measure(cache: Any, figures: CacheFigures) -> None:
    # Operations call each other: only the outermost one is measured. The object may be shared by several threads.
    inside = threading.local()
    for method, operation in _OPERATIONS.items():
        setattr(cache, method, _measured(getattr(cache, method), method, operation, figures, inside))
    entries = getattr(cache, "_cache", None)
    if isinstance(entries, OrderedDict):  # LocMemCache: all threads have the same
        sampler().add(entries, functools.partial(_entries, figures), figures.subject)


def _entries(figures: CacheFigures, entries: "OrderedDict[Any, Any]") -> Iterator[Reading]:
    return figures.entry_counts({"": len(entries)})


def _measured(
    call: Callable[..., Any], method: str, operation: str, figures: CacheFigures, inside: threading.local
) -> Callable[..., Any]:
    @functools.wraps(call)
    def measured(*arguments: Any, **options: Any) -> Any:
        if getattr(inside, "is_set", False):
            return call(*arguments, **options)
        if not arguments:
            named = next((name for name in _FIRST if name in options), None)
            if named is None:
                return call(**options)  # a mistake, which Django reports
            arguments = (options.pop(named),)
        first, *others = arguments
        default = None
        if method == "get":
            # Another default tells a missing key from a stored None.
            default = others.pop(0) if others else options.pop("default", None)
            others.insert(0, _ABSENT)
        elif method in ("get_many", "delete_many"):
            first = list(first)
        key = _key(first)
        inside.is_set = True
        started = time.perf_counter()
        try:
            found = call(first, *others, **options)
        except Exception:
            figures.failed(operation, key, started)
            raise
        finally:
            inside.is_set = False
        figures.took(operation, key, started)
        if method == "get":
            figures.found(key, found is not _ABSENT)
            return default if found is _ABSENT else found
        if method == "get_many":
            for one in first:
                figures.found(one, one in found)
        return found

    return measured


def _key(first: Any) -> Any:
    """The key of an operation, or the first of several."""
    return next(iter(first), "") if isinstance(first, (list, dict)) else first
