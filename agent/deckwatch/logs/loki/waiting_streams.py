"""Streams that Loki refuses for now, because it has too many or because of their tenant.

Their entries wait in memory while others go on. The spool is not acknowledged beyond them, so that a restart reads them
again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from deckwatch.logs.loki.batch import Part
    from deckwatch.logs.loki.push import Streams

#: Tenant and labels.
Key = tuple[str | None, tuple[tuple[str, str], ...]]

_MAX_BYTES = 16 * 1024 * 1024
_KNOWN_SECONDS = 600.0  # shorter than Loki keeps an idle stream (chunk_idle_period: 30 minutes)
_MAX_KNOWN = 10_000


def key_of(labels: dict[str, str], tenant: str | None) -> Key:
    return tenant, tuple(labels.items())


class WaitingStreams:
    """The streams that wait, and those that Loki is known to have. `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._streams: dict[Key, list[Part]] = {}
        self._bytes = 0
        self._due = 0.0
        self._known: dict[Key, float] = {}  # when Loki last stored something in it

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def is_full(self) -> bool:
        return self._bytes >= _MAX_BYTES

    @property
    def is_due(self) -> bool:
        """Whether it is time to try them again."""
        return bool(self._streams) and self._clock() >= self._due

    @property
    def seconds_left(self) -> float:
        return max(0.0, self._due - self._clock())

    @property
    def oldest(self) -> int:
        """The time of the oldest entry that waits, in Unix nanoseconds; 0 if none does."""
        return min((part.oldest for parts in self._streams.values() for part in parts), default=0)

    def add(self, streams: Streams, tenant: str | None) -> None:
        """Let entries wait, after those of their streams that wait already."""
        for labels, parts in streams:
            # The payload that a part is a view of is not kept.
            kept = [part._replace(values=bytes(part.values)) for part in parts]
            self._streams.setdefault(key_of(labels, tenant), []).extend(kept)
            self._bytes += sum(len(part.values) for part in kept)

    def wait(self, seconds: float) -> None:
        """Set when they are tried again."""
        self._due = self._clock() + seconds

    def take(self) -> list[tuple[str | None, Streams]]:
        """Remove and return them all: each with its tenant."""
        streams, self._streams, self._bytes = self._streams, {}, 0
        return [(tenant, [(dict(labels), parts)]) for (tenant, labels), parts in streams.items()]

    def clear(self) -> None:
        self.take()

    def separated(self, streams: Streams, tenant: str | None) -> tuple[Streams, Streams]:
        """Return the streams that do not wait, and those of which entries wait already."""
        if not self._streams:
            return streams, []
        free: Streams = []
        waiting: Streams = []
        for labels, parts in streams:
            (waiting if key_of(labels, tenant) in self._streams else free).append((labels, parts))
        return free, waiting

    def stored(self, streams: Streams, tenant: str | None) -> None:
        """Record that Loki has these streams."""
        now = self._clock()
        for labels, _ in streams:
            key = key_of(labels, tenant)
            self._known.pop(key, None)
            self._known[key] = now
        for key in list(self._known)[: max(0, len(self._known) - _MAX_KNOWN)]:
            del self._known[key]

    def known_first(self, streams: Streams, tenant: str | None) -> tuple[Streams, Streams]:
        """Return the streams that Loki has, and those that may be new to it."""
        since = self._clock() - _KNOWN_SECONDS
        known: Streams = []
        new: Streams = []
        for labels, parts in streams:
            (known if self._known.get(key_of(labels, tenant), since) > since else new).append((labels, parts))
        return known, new
