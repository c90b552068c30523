"""Keys by what their names have in common: counted on a walk, their memory estimated from a sample."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge
from deckwatch_exporters.clients.redis.resp import number_of, pack

from .keyspace import label_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deckwatch.exporter import Sample

    from .keyspace import Keyspace
    from .settings import KeyGroupSettings

_GROUP = ("db", "key_group")

COUNT = Gauge("redis_key_group_count", "Keys of the group; an estimate where not all keys were looked at.", _GROUP)
MEMORY = Gauge(
    "redis_key_group_memory_usage_bytes", "Memory of the group's keys, estimated from a sample, in bytes.", _GROUP
)
GROUPS = Gauge("redis_number_of_distinct_key_groups", "Groups that the keys fall into.", ["db"])
SCANNED = Gauge("redis_key_group_scanned_ratio", "Share of the database's keys that were looked at.", ["db"])

UNCLASSIFIED = "unclassified"
OVERFLOW = "overflow"

#: Groups that are told apart on a walk: a pattern that takes in an id would make one of each key.
_MOST_TOLD_APART = 10_000
_LARGEST_SAMPLE = 200


@dataclass
class Group:
    """Keys with the same part in their names, and some of them, each as likely as any other."""

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
    for keys, is_complete in keyspace.steps(db):  # noqa: B007  the last one is what counts
        for key in keys:
            if key not in seen:
                seen.add(key)
                name = group_name(label_of(key), settings)
                if name not in groups and len(groups) >= _MOST_TOLD_APART:
                    name = OVERFLOW
                groups.setdefault(name, Group()).add(key)
    (size,) = keyspace.ask(db, [pack("DBSIZE")])
    total = number_of(size)
    if total is None or (not seen and not is_complete):
        return
    # SCAN goes by hash, not by name: the part that it got through is as good a sample as any.
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
    """Give each group its memory: that of its sample, for all of its keys. None where nothing could be measured."""
    left, waiting = settings.memory_samples, sorted(groups.values(), key=lambda group: len(group.sample))
    for number, group in enumerate(waiting):
        share = -(-left // (len(waiting) - number))  # small groups leave the rest of theirs to large ones
        keys = group.sample[: min(share, left)]
        left -= len(keys)
        group.sample = []
        questions = [[pack("MEMORY", "USAGE", key)] for key in keys]
        sizes = [number_of(reply) for (reply,) in keyspace.in_batches(db, questions)]
        known = [size for size in sizes if size is not None]
        if known:
            group.memory = sum(known) / len(known) * group.count
