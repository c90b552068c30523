"""A top list with few changes: members stay until another key has clearly overtaken them.

Series that come and go with the ranking are useless to `rate()` and expensive for Prometheus.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

K = TypeVar("K", bound="Hashable")

_HALF_LIFE = 1800.0  # seconds after which an amount counts half
_LEAD = 1.5  # factor by which a key must exceed a member to replace it
_LEAD_OVER_NEW = 10.0  # the same while the member is new
_NEW = 600.0  # seconds
_FORGOTTEN = 1e-6  # of the largest score: lower scores are forgotten


class StickyTop(Generic[K]):
    """The `size` keys with the highest scores. A score is a decaying sum of amounts."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._scores: dict[K, float] = {}
        self._members: dict[K, float] = {}  # time of admission
        self._updated: float | None = None

    @property
    def members(self) -> frozenset[K]:
        return frozenset(self._members)

    def update(self, done: Mapping[K, float], now: float) -> None:
        """Add the amounts since the last update (by key; above 0) at `now` (seconds, of any clock)."""
        self._decay(now)
        for key, amount in done.items():
            self._scores[key] = self._scores.get(key, 0.0) + amount
        if not self._size:
            return
        # Only keys with a new amount can overtake a member.
        rising = sorted((key for key in done if key not in self._members), key=self._score, reverse=True)
        for key in rising[: self._size]:
            if len(self._members) < self._size:
                self._members[key] = now
                continue
            leaving = min(self._members, key=lambda member: self._to_beat(member, now))
            if self._score(key) <= self._to_beat(leaving, now):
                break
            del self._members[leaving]
            self._members[key] = now

    def _to_beat(self, member: K, now: float) -> float:
        factor = _LEAD if now - self._members[member] >= _NEW else _LEAD_OVER_NEW
        return factor * self._score(member)

    def _score(self, key: K) -> float:
        return self._scores.get(key, 0.0)

    def _decay(self, now: float) -> None:
        since = 0.0 if self._updated is None else now - self._updated
        self._updated = now
        if since <= 0 or not self._scores:
            return
        factor = math.exp2(-since / _HALF_LIFE)
        least = max(self._scores.values()) * _FORGOTTEN
        self._scores = {
            key: score * factor for key, score in self._scores.items() if score > least or key in self._members
        }
