"""The instruments of one cache."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from deckwatch.sdk import declared
from deckwatch.sdk.dependencies.failures import Guard
from deckwatch.sdk.dependencies.sampling import Reading
from deckwatch.sdk.instruments import OTHER
from deckwatch.sdk.library_metrics import counter_of, histogram_of

_MAX_CACHED = 1000
_MAX_CATEGORIZED = 10_000  # entries; the category of each is asked for every few seconds


class CacheFigures:
    """Hits, misses, durations and errors by category of the key. No method but `entries` raises."""

    def __init__(self, cache: str, category: Callable[[Any], str] | None) -> None:
        self.cache = cache
        self.subject = f'cache "{cache}"'
        self._guard = Guard(self.subject)
        self._category = category
        self._category_guard = Guard(f"the category of keys of {self.subject}")
        self._hits = counter_of(declared.CACHE_HITS)
        self._misses = counter_of(declared.CACHE_MISSES)
        self._durations = histogram_of(declared.CACHE_DURATION)
        self._errors = counter_of(declared.CACHE_ERRORS)
        self._counts: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {}

    def category_of(self, key: Any) -> str:
        """The category, or '' if there is none."""
        if self._category is None:
            return ""
        with self._category_guard:
            return str(self._category(key.decode(errors="replace") if isinstance(key, bytes) else key))
        return ""

    def found(self, key: Any, is_hit: bool) -> None:
        """Count a lookup."""
        with self._guard:
            category = self.category_of(key)
            counts = self._counts.get(category)
            if counts is None:
                labels = self.cache, category
                # Both are created at 0, so that a ratio exists.
                counts = self._hits.labels(*labels).inc, self._misses.labels(*labels).inc
                if len(self._counts) < _MAX_CACHED:
                    self._counts[category] = counts
            counts[0 if is_hit else 1]()

    def took(self, operation: str, key: Any, started: float) -> None:
        """Observe an operation that began at `started` (of `time.perf_counter`)."""
        duration = time.perf_counter() - started
        with self._guard:
            self._durations.labels(self.cache, self.category_of(key), operation).observe(duration)

    def failed(self, operation: str, key: Any, started: float) -> None:
        """Count an operation that raised an exception, and observe its duration."""
        self.took(operation, key, started)
        with self._guard:
            self._errors.labels(self.cache, operation).inc()

    def entries(self, entries: Mapping[Any, Any]) -> Iterator[Reading]:
        """The number of entries in each category; of a large cache, all in the category `other`."""
        if self._category is None:
            return self.entry_counts({"": len(entries)})
        if len(entries) > _MAX_CATEGORIZED:
            return self.entry_counts({OTHER: len(entries)})
        counts: dict[str, int] = {}
        for key in list(entries):
            category = self.category_of(key)
            counts[category] = counts.get(category, 0) + 1
        return self.entry_counts(counts or {"": 0})

    def entry_counts(self, counts: dict[str, int], limit: int | None = None) -> Iterator[Reading]:
        for category, count in counts.items():
            yield Reading(declared.CACHE_ENTRIES, (self.cache, category), count)
        if limit is not None:
            yield Reading(declared.CACHE_MAX_ENTRIES, (self.cache,), limit)

    def lookups(self, hits: int, misses: int) -> Iterator[Reading]:
        """Totals that the cache counts itself."""
        yield Reading(declared.CACHE_HITS, (self.cache, ""), hits)
        yield Reading(declared.CACHE_MISSES, (self.cache, ""), misses)
