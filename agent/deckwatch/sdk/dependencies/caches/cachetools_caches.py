"""Caches of cachetools, which are mappings: the object gets a class that counts."""

import contextlib
import copyreg
import functools
from collections.abc import Iterator
from typing import Any

from deckwatch.sdk.dependencies.caches.figures import CacheFigures
from deckwatch.sdk.dependencies.failures import Unsupported
from deckwatch.sdk.dependencies.sampling import Reading, sampler

_FIGURES = "_deckwatch_figures"
_QUIET = "_deckwatch_is_quiet"


def watch(cache: Any, figures: CacheFigures) -> None:
    kind: Any = type(cache)
    if not hasattr(cache, "currsize"):
        raise Unsupported(f"{kind.__name__} is not a cache. Pass the cache, or the function with info=True.")
    counts_entries = cache.getsizeof is getattr(kind, "getsizeof", None)

    def read(cache: Any) -> Iterator[Reading]:
        # Methods of a TTLCache remove expired entries, which only the application may do: it may hold a lock for it.
        yield from figures.entries(cache._Cache__data)
        if counts_entries:
            yield from figures.entry_counts({}, cache.maxsize)

    if sampler().add(cache, read, figures.subject):
        vars(cache)[_FIGURES] = figures
        cache.__class__ = _counting(kind)


@contextlib.contextmanager
def _quiet(attributes: dict[str, Any]) -> Iterator[None]:
    """Count nothing."""
    before = attributes.get(_QUIET, False)
    attributes[_QUIET] = True
    try:
        yield
    finally:
        attributes[_QUIET] = before


@functools.cache
def _counting(kind: Any) -> Any:
    """A subclass with the name of its class, which counts lookups."""

    class Counting(kind):  # type: ignore[misc]  # any class of cachetools
        def __getitem__(self, key: Any) -> Any:
            figures = self.__dict__.get(_FIGURES)
            if figures is None or self.__dict__.get(_QUIET):
                return super().__getitem__(key)
            # `__missing__` of a subclass may return a value, so that an error does not tell hits from misses.
            is_hit = key in self
            figures.found(key, is_hit)
            return super().__getitem__(key)

        def get(self, key: Any, *arguments: Any, **options: Any) -> Any:
            figures = self.__dict__.get(_FIGURES)
            if figures is not None and not self.__dict__.get(_QUIET):
                figures.found(key, key in self)
            with _quiet(self.__dict__):  # it may call __getitem__
                return super().get(key, *arguments, **options)

        def pop(self, key: Any, *arguments: Any, **options: Any) -> Any:
            """Not a lookup: a full cache removes entries by it."""
            with _quiet(self.__dict__):
                return super().pop(key, *arguments, **options)

        def __reduce_ex__(self, protocol: Any) -> Any:
            """Copies and pickles are of the original class, and are not measured."""
            function, arguments, state, *rest = super().__reduce_ex__(protocol)
            if function is copyreg.__newobj__:  # type: ignore[attr-defined]  # what objects without __reduce__ give
                # pickle refuses __newobj__ for a class that is not the object's.
                function, arguments = kind.__new__, (kind, *arguments[1:])
            if isinstance(state, dict):
                state = {name: value for name, value in state.items() if name not in (_FIGURES, _QUIET)}
            return function, arguments, state, *rest

    Counting.__name__, Counting.__qualname__, Counting.__module__ = kind.__name__, kind.__qualname__, kind.__module__
    return Counting
