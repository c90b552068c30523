"""Ships entries from the spool to Loki: one thread per destination, oldest first, until stored or quarantined.

Whenever it is uncertain whether Loki stored an entry, the entry is sent again. It is identical to the byte, so Loki
stores it once.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from deckwatch.logs.loki.batch import decode
from deckwatch.logs.loki.push import Accepted, NewStreamRefused, Pusher, Rejected, Retry, TooLarge, by_tenant, group
from deckwatch.logs.loki.refusals import pick
from deckwatch.logs.loki.splitting import decoded, halves, size_of, without
from deckwatch.logs.loki.waiting_streams import WaitingStreams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deckwatch.config.log_settings import LokiSettings
    from deckwatch.logs.loki.push import Result, Streams
    from deckwatch.logs.loki.quarantine import Quarantine
    from deckwatch.logs.loki.ship_counts import ShipCounts
    from deckwatch.logs.loki.splitting import Refused

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
# Of consecutive 413 responses, this many cost no wait: halving a batch finds the entry that is too large. If so many
# single entries are too large and none was accepted, something refuses every push.
_QUICK_TOO_LARGE = 12
_SINGLES_TOO_LARGE = 4
# What Loki, or a proxy before it, refuses of one tenant while it may accept others.
_OF_A_TENANT = frozenset(("rate_limited", "unauthorized"))
# Of the streams that wait, this many are refused before the others wait for the next round.
_REFUSED_IN_A_ROUND = 20
# Number of consecutive batches without an accepted entry after which the destination is considered faulty, not the
# entries.
_REFUSED_BATCHES = 3


class Source(Protocol):
    """The source of payloads: the spool's reader for one destination."""

    def read(self, max_bytes: int, max_wait: float = 0.0) -> Sequence[tuple[Any, bytes]]: ...
    def acknowledge(self, cursor: Any) -> None: ...
    def rewind(self) -> None: ...


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
        # Newest Unix nanoseconds by tenant and stream.
        self._newest: dict[tuple[str | None, tuple[tuple[str, str], ...]], int] = {}
        self._waiting = WaitingStreams()
        self._done: Any = None  # the cursor after the last batch, if it is not acknowledged
        self._refused_rounds = 0  # how often in a row streams that wait were refused

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
        self._waiting.clear()  # read again
        self._done = None
        self.counts.retries += 1
        self._failed(reason, text)
        self._stop_asked.wait(self._backoff())

    # A batch

    def _ship_batch(self) -> None:
        if self._waiting.is_due:
            self._ship_waiting()
        if self._waiting.is_full:
            self._stop_asked.wait(min(_IDLE_WAIT, self._waiting.seconds_left))
            return
        records = self._next_records()
        if not records:
            return
        parts = []
        refused: list[Refused] = []
        for _, payload in records:
            try:
                parts += decode(payload)
            except ValueError as wrong:  # its checksum was valid, so it was written incorrectly
                refused.append(("unreadable", {}, ["0", f"{wrong}: {payload[:1024]!r}"]))
        self.counts.oldest = min((part.oldest for part in parts), default=0) / 1e9 or None
        suspects: list[Refused] = []
        accepted = False
        self._lines = self._bytes = 0
        for tenant, of_tenant in by_tenant(parts).items():
            free, waiting = self._waiting.separated(group(of_tenant, self._settings.labels), tenant)
            self._waiting.add(waiting, tenant)
            for streams in self._plan(free, tenant):
                accepted |= self._deliver(streams, tenant, refused, suspects)
        if suspects and not accepted:
            self._check_destination(suspects)
        self._set_aside(refused + suspects)
        self.counts.lines += self._lines
        self.counts.bytes += self._bytes
        self._done = records[-1][0]
        self._acknowledge()

    def _ship_waiting(self) -> None:
        """Try the streams that wait once more, until some are refused again: these come last the next time."""
        refused: list[Refused] = []
        suspects: list[Refused] = []
        self._lines = self._bytes = 0
        waiting = self._waiting.take()
        while waiting and len(self._waiting) < _REFUSED_IN_A_ROUND:
            tenant, streams = waiting.pop(0)
            self._deliver(streams, tenant, refused, suspects)
        waiting += self._waiting.take()
        for tenant, streams in waiting:
            self._waiting.add(streams, tenant)
        self._set_aside(refused + suspects)
        self.counts.lines += self._lines
        self.counts.bytes += self._bytes
        self._acknowledge()

    def _let_wait(self, streams: Streams, tenant: str | None, reason: str, text: str) -> None:
        """Let streams wait that Loki refuses because it has too many, or because of their tenant."""
        self._failed(reason, f"{text} (other streams go on)")
        self._failures = 0
        if not self._waiting:
            self._refused_rounds += 1
            longest = min(self._settings.max_backoff, _FIRST_BACKOFF * 2 ** min(self._refused_rounds, 32))
            self._waiting.wait(random.uniform(longest / 2, longest))
        self._waiting.add(streams, tenant)

    def _acknowledge(self) -> None:
        """Acknowledge the last batch if everything of it and of those before it is stored or in the quarantine."""
        if self._waiting:
            self.counts.oldest = self._waiting.oldest / 1e9
            return
        if self._refused_rounds:
            self._refused_rounds = 0
            self._recovered()
        self.counts.oldest = None
        if self._done is not None:
            self._source.acknowledge(self._done)
            self._done = None

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

    def _plan(self, streams: Streams, tenant: str | None) -> list[Streams]:
        """Split a batch into pushes: one for each stream that Loki may partly reject, and one for all others."""
        alone: Streams = []
        together: Streams = []
        for labels, parts in streams:
            key = tenant, tuple(labels.items())
            newest = self._newest.pop(key, 0)
            behind = False
            for part in parts:
                newest = max(newest, part.newest)
                behind = behind or part.oldest < newest - _ALONE_BEHIND
            self._newest[key] = newest
            big = sum(len(part.values) for part in parts) >= _ALONE_BYTES
            (alone if big or behind else together).append((labels, parts))
        # If Loki has too many streams, it refuses the new ones. It says so only of the last one.
        known, new = self._waiting.known_first(together, tenant)
        together = known + new
        for key in list(self._newest)[: max(0, len(self._newest) - _KNOWN_STREAMS)]:
            del self._newest[key]
        return [[stream] for stream in alone] + ([together] if together else [])

    def _deliver(self, streams: Streams, tenant: str | None, refused: list[Refused], suspects: list[Refused]) -> bool:
        """Push until each entry is stored, in `refused`, or in `suspects`. Return whether any was stored.

        Suspects are entries that were rejected without a reason.
        """
        accepted, search = False, _MAX_SEARCH_PUSHES
        too_large = singles_too_large = 0
        pushes = [streams]
        while pushes:
            streams = pushes.pop()
            result = self._push_until_answered(streams, tenant)
            if isinstance(result, Accepted):
                accepted, too_large = True, 0
                self._stored(streams)
                self._waiting.stored(streams, tenant)
                continue
            if isinstance(result, NewStreamRefused):
                known, new = self._waiting.known_first(streams, tenant)
                if len(streams) == 1:
                    self._let_wait(streams, tenant, "new_stream_refused", result.text)
                elif self._waiting:
                    self._waiting.add(new, tenant)
                    pushes += [known] if known else []
                else:  # the first one that is refused makes the others wait
                    pushes += [part for part in (new[1:], new[:1], known) if part]
                continue
            if isinstance(result, Retry) and tenant is not None and not self._has_to_split(streams):
                self._let_wait(streams, tenant, result.reason, f"tenant {tenant}: {result.text}")
                continue
            opened = decoded(streams)
            if isinstance(result, Rejected) and result.refusals.items:
                picked = pick(result.refusals.items, opened)
                if picked.reasons:
                    rest = without(opened, picked.reasons, refused)
                    if result.refusals.final and not picked.missing:
                        accepted = True
                        self._stored(rest)
                    elif rest:
                        pushes.append(rest)  # stored entries are not stored twice, and other errors are reported
                    continue
            entries = sum(len(values) for _, values in opened)
            search -= isinstance(result, Rejected)
            if isinstance(result, TooLarge):
                too_large += 1
                singles_too_large += entries == 1
                if singles_too_large >= _SINGLES_TOO_LARGE and not accepted:
                    raise _Suspended(
                        "too_large", "status 413, also for single entries. Check url and what is before it"
                    )
                if too_large > _QUICK_TOO_LARGE:
                    self._failures += 1
                    if self._stop_asked.wait(self._backoff()):
                        raise _Stopped
            if entries > 1 and (search > 0 or accepted or isinstance(result, Retry)):
                pushes += reversed(halves(opened))
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

    def _check_destination(self, suspects: list[Refused]) -> None:
        """Suspend the batch if too many batches in a row had no accepted entry (for example, if the URL is wrong)."""
        if self._refused_batches >= _REFUSED_BATCHES:
            raise _Suspended("bad_request", f"none of the last {len(suspects)} entries was accepted; check the url")
        self._refused_batches += 1

    def _has_to_split(self, streams: Streams) -> bool:
        """Whether these streams may be more than Loki accepts at once, since they have been refused for long."""
        return self._refused_rounds >= _RATE_LIMITED_TO_SPLIT and size_of(streams) > _MIN_SPLIT_BYTES

    # A push

    def _push_until_answered(self, streams: Streams, tenant: str | None) -> Result:
        """Push until the response is about the entries, or about their tenant.

        If 429 persists, return it for a push that can be split.
        """
        limited = 0
        while True:
            if self._stop_asked.is_set():
                raise _Stopped
            began = time.monotonic()
            result = self._pusher.push(streams, tenant)
            self.counts.observe(time.monotonic() - began)
            if not isinstance(result, Retry):
                self._answered(result)
                return result
            if self._stop_asked.is_set():
                raise _Stopped  # the stop may have caused the failure
            if tenant is not None and result.reason in _OF_A_TENANT:
                return result
            self._failed(result.reason, result.text)
            wait = self._backoff()
            if result.after is not None:
                wait = max(wait, min(result.after, _MAX_RETRY_AFTER))
            if self._stop_asked.wait(wait):
                raise _Stopped
            limited = limited + 1 if result.reason == "rate_limited" else 0
            if limited >= _RATE_LIMITED_TO_SPLIT and size_of(streams) > _MIN_SPLIT_BYTES:
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
        if isinstance(result, NewStreamRefused):
            return
        if not isinstance(result, Accepted):
            self.counts.failures["too_large" if isinstance(result, TooLarge) else "rejected"] += 1
            if not isinstance(result, Rejected) or not result.refusals.items:
                return
        self._failures = self._refused_batches = 0
        if not self._refused_rounds:
            self._recovered()

    def _recovered(self) -> None:
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

    def _set_aside(self, refused: list[Refused]) -> None:
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
