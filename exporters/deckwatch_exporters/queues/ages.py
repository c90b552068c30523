"""How old the oldest message of a queue is: by its own timestamp, else since it was first seen at the head."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from .model import Age

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable

# Seconds since 1970 until the year 5138, and since 2001. A larger number has a smaller unit.
_LATEST = 1e11
_EARLIEST = 1e9
_UNITS = (1.0, 1e3, 1e6, 1e9)  # seconds, milliseconds, microseconds, nanoseconds
_NO_MOMENT = _LATEST * _UNITS[-1]


def unix_seconds(value: Any) -> float | None:
    """A moment as Unix seconds, from a number in any usual unit or from ISO 8601; None for anything else."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return _from_iso(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < _NO_MOMENT:
        return None
    for unit in _UNITS:
        if _EARLIEST <= value / unit < _LATEST:
            return value / unit
    return None


def _from_iso(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
        # Every queue library that leaves the zone out means UTC.
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def exact_age(published: float, now: float) -> Age:
    """The age of a message published at that moment. The clocks of publisher and agent may differ a little."""
    return Age(max(0.0, now - published), True)


def oldest_of(ages: Collection[Age]) -> Age | None:
    """The age of the oldest message of several: exact only if each of them is."""
    if not ages:
        return None
    return Age(max(age.seconds for age in ages), all(age.is_exact for age in ages))


@dataclass
class _Head:
    message: int  # its hash: messages may be large
    seen: float
    published: float | None


class HeadAges:
    """The ages of the messages at the heads of queues.

    `published` takes a message and returns when it was published (Unix seconds), or None; it is called once for each.
    """

    def __init__(
        self,
        published: Callable[[bytes], float | None],
        clock: Callable[[], float] = time.time,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._published = published
        self._clock = clock
        self._stopwatch = stopwatch
        self._heads: dict[Hashable, _Head] = {}

    def age(self, queue: Hashable, message: bytes) -> Age:
        head = self._heads.get(queue)
        if head is None or head.message != hash(message):
            head = self._heads[queue] = _Head(hash(message), self._stopwatch(), self._published(message))
        if head.published is not None:
            return exact_age(head.published, self._clock())
        return Age(self._stopwatch() - head.seen, False)

    def keep(self, queues: Collection[Hashable]) -> None:
        """Forget the heads of all other queues."""
        for gone in self._heads.keys() - set(queues):
            del self._heads[gone]
