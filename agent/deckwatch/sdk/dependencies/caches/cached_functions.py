"""Functions that count their lookups: `cache_info()` of functools.lru_cache and cachetools."""

from collections.abc import Iterator
from typing import Any

from deckwatch.sdk.dependencies.caches.figures import CacheFigures
from deckwatch.sdk.dependencies.sampling import Reading, sampler


def watch(function: Any, figures: CacheFigures) -> None:
    def read(function: Any) -> Iterator[Reading]:
        info = function.cache_info()
        yield from figures.lookups(info.hits, info.misses)
        yield from figures.entry_counts({"": info.currsize}, info.maxsize)

    sampler().add(function, read, figures.subject)
