"""Ships entries from the spool to Loki: one thread per destination, oldest first, until stored or quarantined.

Whenever it is uncertain whether Loki stored an entry, the entry is sent again. It is identical to the byte, so Loki
stores it once.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from deckwatch.logs.loki.batch import decode, part_of, values_of
from deckwatch.logs.loki.push import Accepted, Pusher, Rejected, Retry, TooLarge, group
from deckwatch.logs.loki.refusals import pick

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deckwatch.config.log_settings import LokiSettings
    from deckwatch.logs.loki.push import Result, Streams
    from deckwatch.logs.loki.quarantine import Quarantine

_FIRST_BACKOFF = 0.5  # seconds
_MAX_RETRY_AFTER = 300.0
_IDLE_WAIT = 0.5
# Loki's ingester reports errors only for the last stream of a push: rate-limited or late entries of other streams are
# lost silently (pkg/ingester/instance.go). Streams that may be rejected are therefore pushed alone: large ones...
_ALONE_BYTES = 64 * 1024
# ...and those that go back in time (Loki rejects entries that are one hour late).
_ALONE_BEHIND = 30 * 60 * 1_000_000_000
_KNOWN_STREAMS = 10_000
# Number of consecutive 429 responses after which the push is halved: it may exceed what Loki accepts at once.
_RATE_LIMITED_TO_SPLIT = 3
_MIN_SPLIT_BYTES = 64 * 1024
# Number of pushes rejected as a whole, with none accepted, after which the search for the invalid entry ends.
_MAX_SEARCH_PUSHES = 64
# Number of consecutive batches without an accepted entry after which the destination is considered faulty, not the
# entries.
_REFUSED_BATCHES = 3

#: Upper bounds of the buckets of push durations, in seconds.
DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Source(Protocol):
    """The source of payloads: the spool's reader for one destination."""

    def read(self, max_bytes: int, max_wait: float = 0.0) -> Sequence[tuple[Any, bytes]]: ...
    def acknowledge(self, cursor: Any) -> None: ...
    def rewind(self) -> None: ...


@dataclass
class ShipCounts:
    """The counters of one shipper. Written only by its thread; other threads may read slightly old values."""

    lines: int = 0  # stored by Loki
    bytes: int = 0  # size of their values as JSON
    pushes: int = 0
    retries: int = 0
    failures: Counter[str] = field(default_factory=Counter)  # pushes by reason
    dropped: Counter[str] = field(default_factory=Counter)  # quarantined lines by reason
    oldest: float | None = None  # Unix seconds of the oldest line being sent
    durations: list[int] = field(default_factory=lambda: [0] * (len(DURATION_BUCKETS) + 1))  # pushes by bucket
    duration_sum: float = 0.0  # seconds
    failing_since: float | None = None  # Unix seconds
    failure: str = ""  # the error, while it is failing

    def observe(self, seconds: float) -> None:
        self.pushes += 1
        self.durations[bisect_left(DURATION_BUCKETS, seconds)] += 1
        self.duration_sum += seconds


#: The decoded entries of a push: labels, and `[ns as text, line, metadata?]` of each entry.
_Decoded = list[tuple[dict[str, str], list[list[Any]]]]
#: A rejected entry: reason, labels and `[ns as text, line, metadata?]`.
_Refused = tuple[str, dict[str, str], list[Any]]


class _Stopped(Exception):
    """A stop was requested before the batch was finished."""


class _Suspended(Exception):
    """The batch must be retried later from the beginning."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Shipper(threading.Thread):
    """Ships the payloads of `source` until `stop` is set. Raises the same errors as Pusher."""

    def __init__(
        self, source: Source, settings: LokiSettings, quarantine: Quarantine, counts: ShipCounts, stop: threading.Event
    ) -> None:
        self.destination = settings.name or urlsplit(settings.url).hostname or ""
        super().__init__(name=f"ship {self.destination}", daemon=True)
        self.counts = counts
        self._source = source
        self._settings = settings
        self._quarantine = quarantine
        self._stop_asked = stop
        self._pusher = Pusher(settings, stop)
        self._log = logging.getLogger("deckwatch.logs.ship")
        self._lines = self._bytes = 0  # of the current batch, stored by Loki
        self._failures = 0  # consecutive
        self._refused_batches = _REFUSED_BATCHES  # consecutive; a destination must first prove that it works
        self._reported: frozenset[str] = frozenset()  # reasons of the last batch's quarantined entries
        self._newest: dict[tuple[tuple[str, str], ...], int] = {}  # newest Unix nanoseconds by stream

    def run(self) -> None:
        try:
            while not self._stop_asked.is_set():
                self._run_once()
        finally:
            self._pusher.close()

    def _run_once(self) -> None:
        try:
            self._ship_batch()
        except _Stopped:
            return
        except _Suspended as suspended:
            self._retry_batch(suspended.reason, str(suspended))
        except OSError as error:
            self._retry_batch("disk", error.strerror or str(error))
        except Exception as error:  # noqa: BLE001  an unexpected error must not end the shipping loop
            self._log.exception("shipping to %s", self.destination)
            self._retry_batch("internal", type(error).__name__)

    def _retry_batch(self, reason: str, text: str) -> None:
        self._source.rewind()
        self.counts.retries += 1
        self._failed(reason, text)
        self._stop_asked.wait(self._backoff())

    # A batch

    def _ship_batch(self) -> None:
        records = self._next_records()
        if not records:
            return
        parts = []
        refused: list[_Refused] = []
        for _, payload in records:
            try:
                parts += decode(payload)
            except ValueError as wrong:  # its checksum was valid, so it was written incorrectly
                refused.append(("unreadable", {}, ["0", f"{wrong}: {payload[:1024]!r}"]))
        self.counts.oldest = min((part.oldest for part in parts), default=0) / 1e9 or None
        suspects: list[_Refused] = []
        accepted = False
        self._lines = self._bytes = 0
        for streams in self._plan(group(parts, self._settings.labels)):
            accepted |= self._deliver(streams, refused, suspects)
        if suspects and not accepted:
            self._check_destination(suspects)
        self._set_aside(refused + suspects)
        self.counts.lines += self._lines
        self.counts.bytes += self._bytes
        self._source.acknowledge(records[-1][0])
        self.counts.oldest = None

    def _next_records(self) -> list[tuple[Any, bytes]]:
        """Return payloads up to `batch_bytes`, or those that arrive within `batch_wait` of the first."""
        most = self._settings.batch_bytes
        records = list(self._source.read(most, _IDLE_WAIT))
        size = sum(len(payload) for _, payload in records)
        end = time.monotonic() + self._settings.batch_wait
        while records and size < most:
            left = end - time.monotonic()
            if left <= 0 or self._stop_asked.is_set():
                break
            more = self._source.read(most - size, min(left, _IDLE_WAIT))
            records += more
            size += sum(len(payload) for _, payload in more)
        return records

    def _plan(self, streams: Streams) -> list[Streams]:
        """Split a batch into pushes: one for each stream that Loki may partly reject, and one for all others."""
        alone: Streams = []
        together: Streams = []
        for labels, parts in streams:
            key = tuple(labels.items())
            newest = self._newest.pop(key, 0)
            behind = False
            for part in parts:
                newest = max(newest, part.newest)
                behind = behind or part.oldest < newest - _ALONE_BEHIND
            self._newest[key] = newest
            big = sum(len(part.values) for part in parts) >= _ALONE_BYTES
            (alone if big or behind else together).append((labels, parts))
        for key in list(self._newest)[: max(0, len(self._newest) - _KNOWN_STREAMS)]:
            del self._newest[key]
        return [[stream] for stream in alone] + ([together] if together else [])

    def _deliver(self, streams: Streams, refused: list[_Refused], suspects: list[_Refused]) -> bool:
        """Push until each entry is stored, in `refused`, or in `suspects`. Return whether any was stored.

        Suspects are entries that were rejected without a reason.
        """
        accepted, search = False, _MAX_SEARCH_PUSHES
        pushes = [streams]
        while pushes:
            streams = pushes.pop()
            result = self._push_until_answered(streams)
            if isinstance(result, Accepted):
                accepted = True
                self._stored(streams)
                continue
            opened = _decoded(streams)
            if isinstance(result, Rejected) and result.refusals.items:
                picked = pick(result.refusals.items, opened)
                if picked.reasons:
                    rest = _without(opened, picked.reasons, refused)
                    if result.refusals.final and not picked.missing:
                        accepted = True
                        self._stored(rest)
                    elif rest:
                        pushes.append(rest)  # stored entries are not stored twice, and other errors are reported
                    continue
            entries = sum(len(values) for _, values in opened)
            search -= isinstance(result, Rejected)
            if entries > 1 and (search > 0 or accepted or isinstance(result, Retry)):
                pushes += reversed(_halves(opened))
                continue
            if isinstance(result, Retry):
                pushes.append(streams)
                continue
            reason = "body_too_large" if isinstance(result, TooLarge) else "rejected"
            suspects += ((reason, labels, value) for labels, values in opened for value in values)
            if not accepted and not getattr(result, "plain", True):
                # A proxy's error page says nothing about the entries.
                raise _Suspended("bad_request", result.text)
        return accepted

    def _check_destination(self, suspects: list[_Refused]) -> None:
        """Suspend the batch if too many batches in a row had no accepted entry (for example, if the URL is wrong)."""
        if self._refused_batches >= _REFUSED_BATCHES:
            raise _Suspended("bad_request", f"none of the last {len(suspects)} entries was accepted; check the url")
        self._refused_batches += 1

    # A push

    def _push_until_answered(self, streams: Streams) -> Result:
        """Push until the response is about the entries. If 429 persists, return it for a push that can be split."""
        limited = 0
        while True:
            if self._stop_asked.is_set():
                raise _Stopped
            began = time.monotonic()
            result = self._pusher.push(streams)
            self.counts.observe(time.monotonic() - began)
            if not isinstance(result, Retry):
                self._answered(result)
                return result
            if self._stop_asked.is_set():
                raise _Stopped  # the stop may have caused the failure
            self._failed(result.reason, result.text)
            wait = self._backoff()
            if result.after is not None:
                wait = max(wait, min(result.after, _MAX_RETRY_AFTER))
            if self._stop_asked.wait(wait):
                raise _Stopped
            limited = limited + 1 if result.reason == "rate_limited" else 0
            if limited >= _RATE_LIMITED_TO_SPLIT and _size(streams) > _MIN_SPLIT_BYTES:
                return result
            self.counts.retries += 1

    def _backoff(self) -> float:
        """Return the wait in seconds, with full jitter so that not all agents retry at the same time."""
        most = min(self._settings.max_backoff, _FIRST_BACKOFF * 2 ** min(self._failures - 1, 32))
        return random.uniform(0, most)

    def _failed(self, reason: str, text: str) -> None:
        self._failures += 1
        self.counts.failures[reason] += 1
        self.counts.failure = text
        if self.counts.failing_since is None:
            self.counts.failing_since = time.time()
            self._log.warning(
                "pushes to Loki %s are failing (%s): %s. Lines stay in the spool and are retried.",
                self.destination,
                reason,
                text,
                extra={"event": "loki.failing", "destination": self.destination, "reason": reason},
            )

    def _answered(self, result: Result) -> None:
        if not isinstance(result, Accepted):
            self.counts.failures["too_large" if isinstance(result, TooLarge) else "rejected"] += 1
            if not isinstance(result, Rejected) or not result.refusals.items:
                return
        self._failures = self._refused_batches = 0
        if self.counts.failing_since is not None:
            seconds = round(time.time() - self.counts.failing_since, 1)
            self.counts.failing_since, self.counts.failure = None, ""
            self._log.info(
                "pushes to Loki %s succeed again after %s s",
                self.destination,
                seconds,
                extra={"event": "loki.recovered", "destination": self.destination, "seconds": seconds},
            )

    def _stored(self, streams: Streams) -> None:
        for _, parts in streams:
            for part in parts:
                self._lines += part.entries
                self._bytes += len(part.values)

    def _set_aside(self, refused: list[_Refused]) -> None:
        """Write rejected entries to the quarantine. Must happen before the batch is acknowledged."""
        if not refused:
            self._reported = frozenset()
            return
        self._quarantine.add(self.destination, refused)
        reasons = Counter(reason for reason, _, _ in refused)
        self.counts.dropped.update(reasons)
        if not reasons.keys() <= self._reported:
            summary = ", ".join(f"{number} {reason}" for reason, number in reasons.items())
            self._log.warning(
                "Loki %s rejected log lines: %s. They are stored in %s; list them with: deckwatch logs quarantine",
                self.destination,
                summary,
                self._quarantine.path,
                extra={"event": "loki.refused", "destination": self.destination},
            )
        self._reported = frozenset(reasons)


def _size(streams: Streams) -> int:
    return sum(len(part.values) for _, parts in streams for part in parts)


def _decoded(streams: Streams) -> _Decoded:
    return [(labels, [value for part in parts for value in values_of(part)]) for labels, parts in streams]


def _without(opened: _Decoded, reasons: dict[tuple[int, int], str], refused: list[_Refused]) -> Streams:
    """Move entries that have a reason to `refused`, and return the streams without them."""
    rest: Streams = []
    for index, (labels, values) in enumerate(opened):
        kept = []
        for position, value in enumerate(values):
            reason = reasons.get((index, position))
            if reason is None:
                kept.append(value)
            else:
                refused.append((reason, labels, value))
        if kept:
            rest.append((labels, [part_of(labels, kept)]))
    return rest


def _halves(opened: _Decoded) -> list[Streams]:
    """Split a push in two: by streams, or by entries if it has only one stream."""
    if len(opened) > 1:
        middle = len(opened) // 2
        halves = [opened[:middle], opened[middle:]]
    else:
        labels, values = opened[0]
        middle = len(values) // 2
        halves = [[(labels, values[:middle])], [(labels, values[middle:])]]
    return [[(labels, [part_of(labels, values)]) for labels, values in half] for half in halves]
