"""What became of the samples for one receiver, as metrics, log lines and status."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter as Tally
from typing import TYPE_CHECKING

from deckwatch.metrics.declaration import Counter, Gauge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.metrics.declaration import Sample

SENT = Counter("deckwatch_remote_write_samples_sent_total", "Samples that a receiver stored.", ["destination"])
DROPPED = Counter(
    "deckwatch_remote_write_samples_dropped_total",
    "Number of samples that were not sent, or that a receiver refused, by reason.",
    ["destination", "reason"],
)
FAILURES = Counter(
    "deckwatch_remote_write_failures_total",
    "Number of attempts that failed and were repeated, by reason.",
    ["destination", "reason"],
)
PENDING = Gauge("deckwatch_remote_write_pending_bytes", "Size of the requests that wait in the queue.", ["destination"])
LAG = Gauge(
    "deckwatch_remote_write_lag_seconds",
    "Age of the oldest samples that a receiver has not stored; 0 if there are none.",
    ["destination"],
)
LAST = Gauge(
    "deckwatch_remote_write_last_success_timestamp_seconds",
    "Time when a receiver last stored samples, in Unix seconds.",
    ["destination"],
)


class Counts:
    """The counts of one receiver. They survive a reload."""

    def __init__(self, destination: str) -> None:
        self._destination = destination
        self._log = logging.getLogger("deckwatch.remote_write")
        self._lock = threading.Lock()
        self._sent = 0
        self._dropped: Tally[str] = Tally()
        self._failures: Tally[str] = Tally()
        self._last = 0.0
        self._refused = ""
        self.pending_bytes = 0
        self.sending = 0.0  # Unix seconds: the time of the samples that are being sent
        self.failing_since: float | None = None
        self.error = ""

    def stored(self, samples: int) -> None:
        with self._lock:
            self._sent += samples
            self._last = time.time()
            self.sending = 0.0
            since, self.failing_since, self.error = self.failing_since, None, ""
        if since is not None:
            self._log.info(
                "remote_write to %s works again after %.0f s",
                self._destination,
                time.time() - since,
                extra={"event": "remote_write.recovered", "destination": self._destination},
            )

    def drop(self, reason: str, samples: int) -> None:
        with self._lock:
            self._dropped[reason] += samples

    def refused(self, text: str, samples: int) -> None:
        """Log once for each text."""
        if text == self._refused:
            return
        self._refused = text
        self._log.warning(
            "%s refused %d samples for good: %s",
            self._destination,
            samples,
            text,
            extra={"event": "remote_write.refused", "destination": self._destination},
        )

    def fail(self, reason: str, text: str) -> None:
        with self._lock:
            self._failures[reason] += 1
            is_new = self.error != text
            self.error = text
            self.failing_since = self.failing_since or time.time()
        if is_new:
            self._log.warning(
                "remote_write to %s fails: %s",
                self._destination,
                text,
                extra={"event": "remote_write.failing", "destination": self._destination, "reason": reason},
            )

    def samples(self) -> Iterator[Sample]:
        name = self._destination
        with self._lock:
            yield SENT(self._sent, destination=name)
            for reason in sorted({"full", "queue", "refused", *self._dropped}):
                yield DROPPED(self._dropped[reason], destination=name, reason=reason)
            for reason, count in sorted(self._failures.items()):
                yield FAILURES(count, destination=name, reason=reason)
            yield PENDING(self.pending_bytes, destination=name)
            is_behind = self.sending and self.pending_bytes
            yield LAG(max(0.0, time.time() - self.sending) if is_behind else 0.0, destination=name)
            if self._last:
                yield LAST(self._last, destination=name)
