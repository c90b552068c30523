"""Counters and metrics of the log pipeline."""

from __future__ import annotations

import collections
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from deckwatch.logs.loki.ship_counts import DURATION_BUCKETS, ShipCounts
from deckwatch.logs.parsing.counts import Counts
from deckwatch.metrics.declaration import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from deckwatch.config.log_settings import LokiSettings
    from deckwatch.logs.spool.spool import Spool
    from deckwatch.metrics.declaration import Sample

READ = Counter("deckwatch_log_lines_read_total", "Number of lines read from files, blank lines excluded.")
READ_BYTES = Counter("deckwatch_log_bytes_spooled_total", "Number of bytes written to the spool.")
UNPARSED = Counter(
    "deckwatch_log_lines_unparsed_total", "Number of lines that did not match their format; they are shipped unchanged."
)
CUT = Counter("deckwatch_log_lines_cut_total", "Number of lines truncated to max_line_bytes.")
UNREAD_TIMES = Counter(
    "deckwatch_log_times_unread_total",
    "Number of lines with a time that could not be read; they are sent with the time when they were read.",
)
NULS = Counter(
    "deckwatch_log_nul_bytes_total", "Number of NUL bytes that were skipped before lines, as truncation leaves them."
)
REDACTED = Counter("deckwatch_log_lines_redacted_total", "Number of lines with redacted text.")
DROPPED = Counter(
    "deckwatch_log_lines_dropped_total",
    "Number of lines that were not shipped, by reason: a rule (drop, keep, sample), a full spool, damage, or Loki.",
    ["reason"],
)
SENT = Counter("deckwatch_log_lines_sent_total", "Number of lines that Loki accepted.", ["destination"])
SENT_BYTES = Counter(
    "deckwatch_log_bytes_sent_total", "Size of the lines that Loki accepted, as JSON, in bytes.", ["destination"]
)
PUSH_FAILURES = Counter(
    "deckwatch_log_push_failures_total",
    "Number of pushes that failed, by reason; they are retried.",
    ["destination", "reason"],
)
PUSH_DURATION = Histogram("deckwatch_log_push_duration_seconds", "Duration of pushes, in seconds.", ["destination"])
SHIPPING = Gauge("deckwatch_log_shipping", "Whether the last push was accepted (1) or failed (0).", ["destination"])
SPOOL_BYTES = Gauge(
    "deckwatch_log_spool_bytes", "Size of the spooled data that the slowest destination has not stored yet, in bytes."
)
SPOOL_LIMIT = Gauge("deckwatch_log_spool_limit_bytes", "Maximum size of the spool on disk, in bytes.")
SPOOL_OLDEST = Gauge(
    "deckwatch_log_spool_oldest_timestamp_seconds",
    "Timestamp of the oldest line that a destination has not stored yet, in Unix seconds.",
)
SPOOL_FAILURES = Counter(
    "deckwatch_log_spool_write_failures_total", "Number of writes to the spool that failed, for example on a full disk."
)
SPOOL_DAMAGED = Counter("deckwatch_log_spool_damaged_total", "Number of spool records that were lost to damage.")
LAG = Gauge(
    "deckwatch_log_lag_bytes",
    "Bytes of a file that are not in the spool yet, for the files that lag most.",
    ["file"],
)
JOURNAL = Gauge("deckwatch_log_journal_reading", "Whether all of a journal can be read (1) or not (0).", ["journal"])
MESSAGES = Counter("log_messages_total", "Number of log messages by job and level.", ["job", "level"])


@dataclass
class Destination:
    """A Loki server. Its name identifies it in metrics and in the spool's acknowledgements."""

    name: str
    settings: LokiSettings
    counts: ShipCounts = field(default_factory=ShipCounts)


class LogCounts:
    """Counters that survive a reload. Each is written by one thread."""

    def __init__(self) -> None:
        self.parsed = Counts()
        self.dropped: collections.Counter[str] = collections.Counter()
        self.own_dropped = 0  # lines of the agent's own log that were dropped because its queue was full
        self.spooled_bytes = 0
        self.write_failures = 0
        self._is_writing = True
        self.lags: Mapping[str, int] = {}  # bytes by path; always replaced, never modified
        self.journals: dict[str, bool] = {}  # whether each journal is read, by name
        self.journal_errors: dict[str, str] = {}  # of those that cannot be read
        self._destinations: dict[str, Destination] = {}
        self._damaged = 0
        self._spool: Spool | None = None
        self._limit = 0
        self._log = logging.getLogger("deckwatch.logs")

    def destinations(self, settings: Iterable[LokiSettings]) -> list[Destination]:
        """Return the configured destinations with unique names. Known ones keep their counters."""
        found: dict[str, Destination] = {}
        settings = list(settings)
        hosts = collections.Counter(urlsplit(one.url).hostname for one in settings if not one.name)
        for one in settings:
            url = urlsplit(one.url)
            # Acknowledgements are stored by name, so after a reload a name must not refer to another destination.
            alone = hosts[url.hostname] == 1
            name = base = one.name or (url.hostname if alone else url.netloc.rpartition("@")[2]) or "loki"
            number = 2
            while name in found:
                name, number = f"{base}-{number}", number + 1
            known = self._destinations.get(name)
            found[name] = Destination(name, one, known.counts if known is not None else ShipCounts())
        self._destinations = found
        return list(found.values())

    def failing(self) -> dict[str, tuple[float | None, str]]:
        """Return the start of the failure (Unix seconds; None if it works) and the error, by destination."""
        return {
            name: (destination.counts.failing_since, destination.counts.failure)
            for name, destination in dict(self._destinations).items()
        }

    def use_spool(self, spool: Spool | None, limit: int = 0) -> None:
        """Set the spool to report the usage of, and its limit in bytes."""
        if self._spool is not None:
            self._damaged += self._spool.damaged
        self._spool, self._limit = spool, limit
        self.lags = {}

    def written(self, size: int) -> None:
        self.spooled_bytes += size
        if not self._is_writing:
            self._is_writing = True
            self._log.info("the spool is writable again", extra={"event": "logs.spool_recovered"})

    def write_failed(self, failure: OSError) -> None:
        self.write_failures += 1
        if self._is_writing:
            self._is_writing = False
            self._log.error(
                "cannot write to the spool: %s. Reading of log files is paused; it resumes when the spool is writable. "
                "Check the disk of logs.spool.dir.",
                failure.strerror or failure,
                extra={"event": "logs.spool_failing"},
            )

    def samples(self) -> Iterator[Sample]:
        parsed = self.parsed
        yield READ(parsed.read)
        yield READ_BYTES(self.spooled_bytes)
        yield UNPARSED(parsed.unparsed)
        yield CUT(parsed.cut)
        yield NULS(parsed.nuls)
        yield UNREAD_TIMES(parsed.unread_times)
        yield REDACTED(parsed.redacted)
        yield SPOOL_FAILURES(self.write_failures)
        dropped = collections.Counter(dict(self.dropped)) + collections.Counter(dict(parsed.dropped))
        if self.own_dropped:
            dropped["own_backlog"] += self.own_dropped
        for (job, level), count in parsed.messages.items():
            yield MESSAGES(count, job=job, level=level)
        for destination in list(self._destinations.values()):
            dropped += collections.Counter(dict(destination.counts.dropped))
            yield from _shipped(destination)
        for reason, count in ({"full": 0} | dropped).items():
            yield DROPPED(count, reason=reason)
        spool = self._spool
        yield SPOOL_DAMAGED(self._damaged + (spool.damaged if spool is not None else 0))
        if spool is not None:
            yield SPOOL_BYTES(spool.bytes)
            yield SPOOL_LIMIT(self._limit)
        oldest = [it.counts.oldest for it in self._destinations.values() if it.counts.oldest is not None]
        if oldest:
            yield SPOOL_OLDEST(min(oldest))
        for journal, is_read in dict(self.journals).items():
            yield JOURNAL(is_read, journal=journal)
        for path, lag in self.lags.items():
            yield LAG(lag, file=path)


def _shipped(destination: Destination) -> Iterator[Sample]:
    name, shipped = destination.name, destination.counts
    yield SENT(shipped.lines, destination=name)
    yield SENT_BYTES(shipped.bytes, destination=name)
    yield SHIPPING(shipped.failing_since is None, destination=name)
    for reason, count in dict(shipped.failures).items():
        yield PUSH_FAILURES(count, destination=name, reason=reason)
    buckets, total = {}, 0
    for bound, count in zip((*DURATION_BUCKETS, float("inf")), shipped.durations, strict=True):
        total += count
        buckets[bound] = float(total)
    yield from PUSH_DURATION.cumulative(buckets, shipped.duration_sum, destination=name)
