"""An in-memory model of how Loki 3 handles a push: its limits, error texts and order of checks.

The texts and the order of the checks are those of Loki's pkg/distributor/validator.go, distributor.go,
pkg/ingester/instance.go, stream.go and pkg/validation/validate.go. One ingester, as in a single binary.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

Labels = tuple[tuple[str, str], ...]
#: Nanoseconds, line, structured metadata.
Entry = tuple[int, str, Labels]

SECOND = 1_000_000_000


@dataclass(frozen=True)
class Limits:
    """Loki's default limits, in bytes and seconds. Rate limits are off by default."""

    line: int = 256 * 1024
    labels: int = 15
    label_name: int = 1024
    label_value: int = 2048
    metadata_bytes: int = 64 * 1024
    metadata_entries: int = 128
    max_age: float = 7 * 24 * 3600
    future: float = 600
    behind: float = 3600
    body: int = 100 * 1024 * 1024
    rate: float = 0  # bytes per second and tenant
    burst: float = 6 * 1024 * 1024
    stream_rate: float = 0
    stream_burst: float = 15 * 1024 * 1024
    streams: int = 5000
    service_name: bool = False  # Loki adds this label by default, from `job` and others
    returned_errors: int = 10


class Refused(Exception):
    """A response other than 204. Valid entries may have been stored."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


@dataclass
class _Bucket:
    """A token bucket with `rate` bytes per second."""

    rate: float
    burst: float
    clock: Callable[[], float]
    tokens: float = field(init=False)
    at: float = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = self.burst
        self.at = self.clock()

    def take(self, amount: int) -> bool:
        if not self.rate:
            return True
        now = self.clock()
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if amount > self.tokens:
            return False
        self.tokens -= amount
        return True


@dataclass
class Stream:
    bucket: _Bucket
    entries: list[Entry] = field(default_factory=list)  # in order of arrival
    known: set[Entry] = field(default_factory=set)
    newest: int = 0
    sent_again: int = 0


class Store:
    """The stored entries of one tenant."""

    def __init__(self, limits: Limits, tenant: str, clock: Callable[[], float] = time.time) -> None:
        self.limits = limits
        self.tenant = tenant
        self.clock = clock
        self.streams: dict[Labels, Stream] = {}
        self.discarded: Counter[str] = Counter()
        self._bucket = _Bucket(limits.rate, limits.burst, time.monotonic)

    def push(self, streams: list[tuple[Labels, list[Entry]]]) -> None:
        """Store the valid entries. Raises Refused if some or all are rejected."""
        if not streams:
            raise Refused(422, "error at least one valid stream is required for ingestion")
        errors: list[str] = []
        valid: list[tuple[Labels, list[Entry]]] = []
        for labels, entries in streams:
            named = self._named(labels)
            wrong = self._check_labels(named, len(entries)) if entries else None
            if wrong:
                errors.append(wrong)
                continue
            kept = []
            for entry in entries:
                wrong = self._check_entry(named, entry)
                if wrong:
                    errors.append(wrong)
                else:
                    kept.append(entry)
            if kept:
                valid.append((named, kept))
        problem = Refused(400, _grouped(errors)) if errors else None
        if valid:
            self._check_rate(valid)
            self._ingest(valid)
        if problem:
            raise problem

    # The distributor

    def _named(self, labels: Labels) -> Labels:
        """Return sorted labels with Loki's own and without empty ones."""
        pairs = {name: text for name, text in labels if text}
        if self.limits.service_name and "service_name" not in pairs:
            source = next((pairs[n] for n in ("service", "app", "application", "name", "job") if n in pairs), "")
            pairs["service_name"] = source or "unknown_service"
        return tuple(sorted(pairs.items()))

    def _check_labels(self, labels: Labels, entries: int) -> str | None:
        limits, name_of = self.limits, label_text(labels)
        if not labels:
            return self._discard("missing_labels", entries, "error at least one label pair is required per stream")
        number = len(labels) - any(name == "service_name" for name, _ in labels)
        if number > limits.labels:
            text = f"entry for stream '{name_of}' has {number} label names; limit {limits.labels}"
            return self._discard("max_label_names_per_series", entries, text)
        for name, value in labels:
            if len(name.encode()) > limits.label_name:
                text = f"stream '{name_of}' has label name too long: '{name}'"
                return self._discard("label_name_too_long", entries, text)
            if len(value.encode()) > limits.label_value:
                text = f"stream '{name_of}' has label value too long: '{value}'"
                return self._discard("label_value_too_long", entries, text)
        return None

    def _check_entry(self, labels: Labels, entry: Entry) -> str | None:
        limits, name_of = self.limits, label_text(labels)
        moment, line, metadata = entry
        now = int(self.clock() * SECOND)
        oldest = now - int(limits.max_age * SECOND)
        if moment < oldest:
            text = (
                f"entry for stream '{name_of}' has timestamp too old: {rfc3339(moment)}, "
                f"oldest acceptable timestamp is: {rfc3339(oldest)}"
            )
            return self._discard("greater_than_max_sample_age", 1, text)
        if moment > now + int(limits.future * SECOND):
            text = f"entry for stream '{name_of}' has timestamp too new: {rfc3339(moment)}"
            return self._discard("too_far_in_future", 1, text)
        length = len(line.encode())
        if length > limits.line:
            text = (
                f"max entry size '{limits.line}' bytes exceeded for stream '{name_of}' while adding an entry with "
                f"length '{length}' bytes"
            )
            return self._discard("line_too_long", 1, text)
        size = sum(len(name.encode()) + len(value.encode()) for name, value in metadata)
        advice = "or contact your Loki administrator to increase it"
        if size > limits.metadata_bytes:
            text = (
                f"stream '{name_of}' has structured metadata too large: '{size}' bytes, limit: "
                f"'{limits.metadata_bytes}' bytes. Please see `limits_config.max_structured_metadata_size` {advice}"
            )
            return self._discard("structured_metadata_too_large", 1, text)
        if len(metadata) > limits.metadata_entries:
            text = (
                f"stream '{name_of}' has too many structured metadata labels: '{len(metadata)}', "
                f"limit: '{limits.metadata_entries}'. Please see "
                f"`limits_config.max_structured_metadata_entries_count` {advice}"
            )
            return self._discard("structured_metadata_too_many", 1, text)
        return None

    def _check_rate(self, streams: list[tuple[Labels, list[Entry]]]) -> None:
        lines = sum(len(entries) for _, entries in streams)
        size = sum(_size(entry) for _, entries in streams for entry in entries)
        if not self._bucket.take(size):
            self.discarded["rate_limited"] += lines
            raise Refused(
                429,
                f"ingestion rate limit exceeded for user {self.tenant} (limit: {self.limits.rate:.0f} bytes/sec) while "
                f"attempting to ingest '{lines}' lines totaling '{size}' bytes, reduce log volume or contact your Loki "
                "administrator to see if the limit can be increased",
            )

    # The ingester

    def _ingest(self, streams: list[tuple[Labels, list[Entry]]]) -> None:
        error: Refused | None = None
        for labels, entries in streams:
            # As in Loki, the result of the last stream is the result of the push and hides earlier ones.
            error = self._append(labels, entries)
        if error:
            raise error

    def _append(self, labels: Labels, entries: list[Entry]) -> Refused | None:
        limits, stream = self.limits, self.streams.get(labels)
        if stream is None:
            if len(self.streams) >= limits.streams:
                self.discarded["stream_limit"] += len(entries)
                return Refused(
                    429,
                    f"maximum active stream limit exceeded when trying to create stream {label_text(labels)}, reduce "
                    "the number of active streams (reduce labels or reduce label values), or contact your Loki "
                    f"administrator to see if the limit can be increased, user: '{self.tenant}'",
                )
            bucket = _Bucket(limits.stream_rate, limits.stream_burst, time.monotonic)
            stream = self.streams[labels] = Stream(bucket)
        newest, failed, valid = stream.newest, [], []
        for entry in entries:
            cutoff = newest - int(limits.behind * SECOND)
            if newest and entry[0] < cutoff:
                reason = (
                    f"entry too far behind, entry timestamp is: {rfc3339(entry[0])}, "
                    f"oldest acceptable timestamp is: {rfc3339(cutoff)}"
                )
                failed.append((entry[0], reason))
                continue
            newest = max(newest, entry[0])
            valid.append(entry)
        if not stream.bucket.take(sum(map(_size, valid))):
            start = (
                f"Per stream rate limit exceeded (limit: {limits.stream_rate:.0f}B/sec) while attempting to ingest for"
            )
            end = (
                "consider splitting a stream via additional labels or contact your Loki administrator to see if the "
                "limit can be increased"
            )
            reasons = [
                (entry[0], f"{start} stream '{label_text(labels)}' totaling {_size(entry)}B, {end}") for entry in valid
            ]
            self.discarded["per_stream_rate_limit"] += len(valid)
            return self._failed(429, labels, reasons, len(entries))
        stream.newest = newest
        for entry in valid:
            if entry in stream.known:
                stream.sent_again += 1
            else:
                stream.known.add(entry)
                stream.entries.append(entry)
        self.discarded["too_far_behind"] += len(failed)
        return self._failed(400, labels, failed, len(entries)) if failed else None

    def _failed(self, status: int, labels: Labels, failed: list[tuple[int, str]], total: int) -> Refused:
        listed = "".join(
            f"entry with timestamp {go_time(moment)} ignored, reason: '{reason}',\n"
            for moment, reason in failed[: self.limits.returned_errors]
        )
        end = f"user '{self.tenant}', total ignored: {len(failed)} out of {total} for stream: {label_text(labels)}"
        return Refused(status, listed + end)

    def _discard(self, reason: str, entries: int, text: str) -> str:
        self.discarded[reason] += entries
        return text


def label_text(labels: Labels) -> str:
    return "{" + ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in labels) + "}"


def parse_labels(text: str) -> Labels:
    """Parse labels in PromQL syntax. Raises Refused, like Loki, for the whole push."""
    pair = r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*("(?:[^"\\]|\\.)*")\s*'
    if not re.fullmatch(r"\{(?:%s(?:,%s)*)?\}" % (pair, pair), text):  # noqa: UP031
        raise Refused(400, f"couldn't parse labels: 1:2: parse error: unexpected character in {text!r}")
    return tuple((name, json.loads(value)) for name, value in re.findall(pair, text))


def rfc3339(moment: int) -> str:
    return datetime.fromtimestamp(moment // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def go_time(moment: int) -> str:
    """Format a time like Go's time.Time."""
    seconds, fraction = divmod(moment, SECOND)
    digits = f".{fraction:09}".rstrip("0").rstrip(".")
    return datetime.fromtimestamp(seconds, UTC).strftime(f"%Y-%m-%d %H:%M:%S{digits} +0000 UTC")


def _size(entry: Entry) -> int:
    return len(entry[1].encode()) + sum(len(name.encode()) + len(value.encode()) for name, value in entry[2])


def _grouped(errors: list[str]) -> str:
    counted = Counter(errors)
    if len(errors) == 1:
        return errors[0]
    return "; ".join(f"{number} errors like: {text}" for text, number in counted.items())
