"""Asking about keys: commands in a database, and walks over its keys with SCAN that end at a budget."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge
from deckwatch_exporters.clients.redis.connection import Connection, ConnectionFailed
from deckwatch_exporters.clients.redis.resp import Reply, ReplyError, pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from deckwatch.exporter import Sample

    from .settings import KeySelection, ScanSettings

_WALK = ("db", "pattern")

EXHAUSTED = Gauge("redis_key_scan_exhausted", "Whether SCAN ended at its budget, before it had seen all keys.", _WALK)
DURATION = Gauge("redis_key_scan_duration_seconds", "Time that the walk over the keys took, in seconds.", _WALK)
DROPPED = Gauge("redis_key_scan_dropped_keys", "Keys that match, but are over the limit on keys.", _WALK)

#: Keys that are asked about in one go: the server answers nobody else in the meantime.
BATCH = 200


@dataclass(frozen=True)
class Walk:
    """What a walk found: distinct names in order, and whether they are all there are."""

    keys: tuple[bytes, ...]
    is_complete: bool
    seconds: float


class Keyspace:
    """The keys of one server, for the length of a run. Raises ConnectionFailed from all of its methods."""

    def __init__(
        self,
        connection: Connection,
        budget: ScanSettings,
        home: int,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._budget = budget
        self._home = home
        self._stopwatch = stopwatch
        self._walks: dict[tuple[int, str], Walk] = {}

    def db_of(self, selection: KeySelection) -> int:
        return self._home if selection.db is None else selection.db

    def ask(self, db: int, commands: Sequence[bytes]) -> list[Reply]:
        """The replies to commands in a database; to all of them the same error where there is no such database."""
        if not commands:
            return []
        # The connection may be a new one at any time, and other probes do not care which database is selected.
        selected, *replies = self._connection.exchange([pack("SELECT", db), *commands])
        if isinstance(selected, ReplyError):
            replies = [selected] * len(commands)
        errors = [reply for reply in replies if isinstance(reply, ReplyError) and reply.is_transient]
        if len(errors) == len(replies):  # of a cluster, a few slots may be down
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
                names.update(dict.fromkeys(self.walk(db, selection.pattern).keys[: self._budget.max_keys]))
        return {db: list(names) for db, names in found.items()}

    def walk(self, db: int, pattern: str) -> Walk:
        """All keys that match; a pattern that was walked for in this run already is not walked for again."""
        known = self._walks.get((db, pattern))
        if known is None:
            known = self._walks[db, pattern] = self._walk(db, pattern)
        return known

    def _walk(self, db: int, pattern: str) -> Walk:
        began = self._stopwatch()
        names: set[bytes] = set()
        is_complete = False
        for keys, is_complete in self.steps(db, pattern):  # noqa: B007  the last one is what counts
            names.update(keys)
        return Walk(tuple(sorted(names)), is_complete, self._stopwatch() - began)

    def steps(self, db: int, pattern: str = "") -> Iterator[tuple[list[bytes], bool]]:
        """The keys of each step of SCAN, some of them maybe twice, and whether it was the last one."""
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
                    return  # not allowed, or no such database
            if cursor == b"0" or self._stopwatch() >= deadline:
                return

    def cost(self) -> Iterator[Sample]:
        """What the walks of this run cost and left out."""
        for (db, pattern), walk in self._walks.items():
            labels = {"db": f"db{db}", "pattern": pattern}
            yield EXHAUSTED(float(not walk.is_complete), **labels)
            yield DURATION(walk.seconds, **labels)
            yield DROPPED(max(0, len(walk.keys) - self._budget.max_keys), **labels)


def label_of(key: bytes) -> str:
    """A key as the value of a label; bytes that are no text as `\\xff`, so that two keys stay two."""
    return key.decode("utf-8", "backslashreplace")
