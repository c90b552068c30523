"""A limit on the values of a label that the outside world can grow."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

K = TypeVar("K")


class LabelBudget(Generic[K]):
    """The first `limit` values keep their series; all others share `other`.

    A value is a label value, or a tuple of several. `overflowed` counts how often `other` was returned.
    """

    def __init__(self, limit: int, other: K) -> None:
        self._limit = limit
        self._other = other
        self._admitted: set[K] = set()
        self.overflowed = 0

    @classmethod
    def most_frequent(cls, values: Iterable[K], limit: int, other: K) -> LabelBudget[K]:
        """A budget that admits the `limit` most frequent of these values and nothing else."""
        budget = cls(limit, other)
        budget._admitted.update(value for value, _ in Counter(values).most_common(limit))
        budget._limit = 0
        return budget

    def admit(self, value: K) -> K:
        """The value itself while there is room for it, otherwise `other`."""
        if value in self._admitted:
            return value
        if len(self._admitted) < self._limit:
            self._admitted.add(value)
            return value
        self.overflowed += 1
        return self._other
