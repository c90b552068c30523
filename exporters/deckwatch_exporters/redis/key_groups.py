"""Groups of keys by parts of their names: counted on a scan, their memory estimated from a sample."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge
from deckwatch_exporters.clients.redis.resp import number_of, pack

from .keyspace import label_of
from .values import LARGEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deckwatch.exporter import Sample

    from .keyspace import Keyspace
    from .settings import KeyGroupSettings

_GROUP = ("db", "key_group")

COUNT = Gauge("redis_key_group_count", "Number of keys in the group; an estimate if the scan was incomplete.", _GROUP)
MEMORY = Gauge(
    "redis_key_group_memory_usage_bytes",
    "Estimated memory used by the keys of the group, in bytes.",
    _GROUP,
)
GROUPS = Gauge("redis_number_of_distinct_key_groups", "Number of groups that the keys belong to.", ["db"])
SCANNED = Gauge("redis_key_group_scanned_ratio", "Fraction of the keys of the database that the scan has seen.", ["db"])

UNCLASSIFIED = "unclassified"
OVERFLOW = "overflow"

#: Groups that one scan keeps apart: a pattern that captures an ID would make a group of each key.
_MAX_GROUPS = 10_000
_LARGEST_SAMPLE = 200


@dataclass
class Group:
    """Keys with the same part in their names, and a uniform random sample of them."""

    count: int = 0
    sample: list[bytes] = field(default_factory=list)
    memory: float | None = None

    def add(self, key: bytes) -> None:
        self.count += 1
        if len(self.sample) < _LARGEST_SAMPLE:
            self.sample.append(key)
        elif (place := random.randrange(self.count)) < _LARGEST_SAMPLE:
            self.sample[place] = key


def group_name(key: str, settings: KeyGroupSettings) -> str:
    for pattern in settings.patterns:
        if (parts := pattern.groups(key)) is not None:
            return "".join(parts)
    return UNCLASSIFIED


def group_samples(keyspace: Keyspace, settings: KeyGroupSettings, databases: Sequence[int]) -> Iterator[Sample]:
    for db in databases:
        yield from _of_database(keyspace, settings, db)


def _of_database(keyspace: Keyspace, settings: KeyGroupSettings, db: int) -> Iterator[Sample]:
    groups: dict[str, Group] = {}
    seen: set[bytes] = set()
    is_complete = False
    for keys, is_complete in keyspace.steps(db):  # noqa: B007  the last value counts
        for key in keys:
            if key not in seen:
                seen.add(key)
                name = group_name(label_of(key), settings)
                if name not in groups and len(groups) >= _MAX_GROUPS:
                    name = OVERFLOW
                groups.setdefault(name, Group()).add(key)
    (size,) = keyspace.ask(db, [pack("DBSIZE")])
    total = number_of(size)
    if total is None or not 0 <= total <= LARGEST:
        keyspace.note_malformed("DBSIZE", size)
        total = len(seen) if is_complete else None
    if total is None or (not seen and not is_complete):
        return
    # SCAN follows the hash of the keys: the part that it has seen is a random sample.
    scale = 1.0 if is_complete or not seen else max(1.0, total / len(seen))
    _measure(keyspace, settings, db, groups)
    distinct = len(groups)
    ranked = sorted(groups.items(), key=lambda item: (-(item[1].memory or 0), -item[1].count, item[0]))
    kept = dict(ranked[: settings.max_groups])
    if rest := [group for _, group in ranked[settings.max_groups :]]:
        others = kept.setdefault(OVERFLOW, Group(memory=0.0))
        others.count += sum(group.count for group in rest)
        others.memory = (others.memory or 0.0) + sum(group.memory or 0.0 for group in rest)
    for name, group in kept.items():
        yield COUNT(round(group.count * scale), db=f"db{db}", key_group=name)
        if group.memory is not None:
            yield MEMORY(round(group.memory * scale), db=f"db{db}", key_group=name)
    yield GROUPS(distinct, db=f"db{db}")
    yield SCANNED(1.0 if is_complete else min(1.0, len(seen) / total) if total else 0.0, db=f"db{db}")


def _measure(keyspace: Keyspace, settings: KeyGroupSettings, db: int, groups: dict[str, Group]) -> None:
    """Set the memory of each group, extrapolated from its sample; None if nothing could be measured."""
    left, waiting = settings.memory_samples, sorted(groups.values(), key=lambda group: len(group.sample))
    for number, group in enumerate(waiting):
        share = -(-left // (len(waiting) - number))  # small groups leave the rest of their share to large ones
        keys = group.sample[: min(share, left)]
        left -= len(keys)
        group.sample = []
        questions = [[pack("MEMORY", "USAGE", key)] for key in keys]
        known = []
        for (reply,) in keyspace.in_batches(db, questions):
            size = number_of(reply)
            if size is not None and 0 <= size <= LARGEST:
                known.append(size)
            elif reply is not None:  # the key is gone
                keyspace.note_malformed("MEMORY USAGE", reply)
        if known:
            group.memory = sum(known) / len(known) * group.count
