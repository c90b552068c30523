"""Commands about the keys of a database, and scans of its keys within limits."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge, Malformed
from deckwatch_exporters.clients.redis.connection import Connection, ConnectionFailed
from deckwatch_exporters.clients.redis.resp import Reply, ReplyError, pack

from .values import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from deckwatch.exporter import Sample

    from .refusals import Refusals
    from .settings import KeySelection, ScanSettings

_SCAN = ("db", "pattern")

EXHAUSTED = Gauge("redis_key_scan_exhausted", "Whether SCAN reached its limit before it had seen all keys (1).", _SCAN)
DURATION = Gauge("redis_key_scan_duration_seconds", "Duration of the scan, in seconds.", _SCAN)
DROPPED = Gauge("redis_key_scan_dropped_keys", "Number of matching keys that exceed scan.max_keys.", _SCAN)

#: Commands that are sent together. The server serves no other client while it runs them.
BATCH = 200


@dataclass(frozen=True)
class ScanResult:
    """The result of a scan: distinct names in order, and whether these are all matching keys."""

    keys: tuple[bytes, ...]
    is_complete: bool
    seconds: float


class Keyspace:
    """The keys of one server during one run. All methods raise ConnectionFailed."""

    def __init__(
        self,
        connection: Connection,
        budget: ScanSettings,
        default_db: int,
        refusals: Refusals,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._budget = budget
        self._default_db = default_db
        self._refusals = refusals
        self._stopwatch = stopwatch
        self._scans: dict[tuple[int, str], ScanResult] = {}
        self._expanded: set[tuple[int, str]] = set()  # patterns with keys that are exported one by one
        self._unfinished: set[tuple[int, str]] = set()
        self.malformed: list[Malformed] = []

    def db_of(self, selection: KeySelection) -> int:
        return self._default_db if selection.db is None else selection.db

    def note_malformed(self, command: str, reply: Reply) -> None:
        """Note a reply that cannot be right, unless it is an error: those are refusals or keys of another type."""
        if not isinstance(reply, ReplyError):
            self.malformed.append(Malformed(command, shown(reply)))

    def ask(self, db: int, commands: Sequence[bytes]) -> list[Reply]:
        """The replies to commands in a database; the same error for all of them if it cannot be selected."""
        if not commands:
            return []
        # The connection can be a new one, and other collectors of the target do not select a database.
        select = pack("SELECT", db)
        selected, *replies = self._connection.exchange([select, *commands])
        if isinstance(selected, ReplyError):
            replies = [selected] * len(commands)
            self._refusals.note(select, selected)
        else:
            for command, reply in zip(commands, replies, strict=True):
                self._refusals.note(command, reply)
        errors = [reply for reply in replies if isinstance(reply, ReplyError) and reply.is_transient]
        if len(errors) == len(replies):  # otherwise some slots of a cluster are down
            raise ConnectionFailed(f"{self._connection.address}: {errors[0].message}")
        return replies

    def in_batches(self, db: int, groups: Sequence[Sequence[bytes]]) -> Iterator[list[Reply]]:
        """The replies to each group of commands."""
        for start in range(0, len(groups), BATCH):
            some = groups[start : start + BATCH]
            replies = iter(self.ask(db, [command for group in some for command in group]))
            for group in some:
                yield [next(replies) for _ in group]

    def expand(self, selections: Sequence[KeySelection]) -> dict[int, list[bytes]]:
        """The selected keys by database, each once."""
        found: dict[int, dict[bytes, None]] = {}
        for selection in selections:
            db = self.db_of(selection)
            names = found.setdefault(db, {})
            if selection.key:
                names[selection.key.encode("utf-8", "surrogateescape")] = None
            else:
                self._expanded.add((db, selection.pattern))
                names.update(dict.fromkeys(self.scan(db, selection.pattern).keys[: self._budget.max_keys]))
        return {db: list(names) for db, names in found.items()}

    def scan(self, db: int, pattern: str) -> ScanResult:
        """All keys that match. Each pattern is scanned for once in a run."""
        known = self._scans.get((db, pattern))
        if known is None:
            known = self._scans[db, pattern] = self._scan(db, pattern)
        return known

    def _scan(self, db: int, pattern: str) -> ScanResult:
        began = self._stopwatch()
        names: set[bytes] = set()
        is_complete = False
        for keys, is_complete in self.steps(db, pattern):  # noqa: B007  the last value counts
            names.update(keys)
        return ScanResult(tuple(sorted(names)), is_complete, self._stopwatch() - began)

    def steps(self, db: int, pattern: str = "") -> Iterator[tuple[list[bytes], bool]]:
        """The keys of each step of SCAN, possibly repeated, and whether it was the last step."""
        deadline = self._stopwatch() + self._budget.time
        matching = ("MATCH", pattern.encode("utf-8", "surrogateescape")) if pattern else ()
        cursor: bytes | str = "0"
        for _ in range(self._budget.iterations):
            (reply,) = self.ask(db, [pack("SCAN", cursor, *matching, "COUNT", self._budget.count)])
            match reply:
                case [bytes(next_cursor), list(keys)]:
                    cursor = next_cursor
                    yield [key for key in keys if isinstance(key, bytes)], cursor == b"0"
                case _:
                    self.note_malformed("SCAN", reply)
                    return  # refused, or no such database
            if cursor == b"0":
                return
            if self._stopwatch() >= deadline:
                break
        if pattern:  # figures of key groups are estimates
            self._unfinished.add((db, pattern))

    def cost(self) -> Iterator[Sample]:
        """The duration of the scans of this run, and what they left out."""
        for (db, pattern), result in self._scans.items():
            labels = {"db": f"db{db}", "pattern": pattern}
            yield EXHAUSTED(float(not result.is_complete), **labels)
            yield DURATION(result.seconds, **labels)
            yield DROPPED(max(0, len(result.keys) - self._budget.max_keys), **labels)

    def limits(self) -> dict[str, str]:
        """What the scans of this run left out, each with the settings to change, by database and pattern."""
        found = {}
        for db, pattern in self._unfinished:
            found[f"db{db}={pattern}"] = (
                f"the scan of db{db} for {pattern} stopped before it had seen all keys. "
                "Increase scan.iterations, scan.count or scan.time"
            )
        for db, pattern in self._expanded - self._unfinished:
            if (more := len(self._scans[db, pattern].keys) - self._budget.max_keys) > 0:
                found[f"db{db}={pattern}"] = (
                    f"{more} keys of db{db} that match {pattern} are not exported. "
                    "Increase scan.max_keys or make the pattern narrower"
                )
        return found


def label_of(key: bytes) -> str:
    r"""A key as a label value; undecodable bytes as `\xff`, so that two keys stay two."""
    return key.decode("utf-8", "backslashreplace")
