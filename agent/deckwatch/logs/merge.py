"""The order in which the entries of several files go into one stream.

Loki refuses an entry that is an hour older than the newest of its stream. So files that share a stream and have a
backlog are taken together in the order of time; as long as all are close to each other, each is taken as it comes.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deckwatch.logs.entry import Entry

#: How far apart the entries of one go may be without being sorted (nanoseconds).
_CLOSE = 30 * 60 * 10**9


class Source(NamedTuple):
    """What was read of one file, in its order; `more` where there is more to read at once."""

    key: str
    entries: Sequence[Entry]
    more: bool


def in_order(sources: Sequence[Source]) -> list[tuple[str, Sequence[Entry]]]:
    """What may go out now: runs of entries, each with its file's key, in the order in which they are to go.

    What is missing of a source has to wait: a file that has more to read may still bring older ones.
    """
    filled = [source for source in sources if source.entries]
    # Of one that gave nothing yet (its lines were dropped) it is not known how old the next are.
    if any(source.more and not source.entries for source in sources):
        return []
    if len(filled) < 2:
        return [(source.key, source.entries) for source in filled]
    first = min(source.entries[0].time for source in filled)
    last = max(source.entries[-1].time for source in filled)
    if last - first < _CLOSE and not any(source.more for source in filled):
        return [(source.key, source.entries) for source in filled]
    # Within a file the order stays, whatever the times say: each entry counts as the newest so far.
    keyed = {source.key: list(_rising(source.entries)) for source in filled}
    newest = max(keys[-1] for keys in keyed.values())
    bound = min((keyed[source.key][-1] for source in filled if source.more), default=newest)
    runs = [_run(source, keyed[source.key], bound) for source in filled]
    return _joined(heapq.merge(*runs, key=lambda item: item[0]))


def _rising(entries: Sequence[Entry]) -> Iterator[int]:
    newest = 0
    for entry in entries:
        if entry.time > newest:
            newest = entry.time
        yield newest


def _run(source: Source, keys: Sequence[int], bound: int) -> Iterator[tuple[int, str, Entry]]:
    for key, entry in zip(keys, source.entries, strict=True):
        if key > bound:
            return
        yield key, source.key, entry


def _joined(merged: Iterator[tuple[int, str, Entry]]) -> list[tuple[str, Sequence[Entry]]]:
    runs: list[tuple[str, list[Entry]]] = []
    for _, key, entry in merged:
        if not runs or runs[-1][0] != key:
            runs.append((key, []))
        runs[-1][1].append(entry)
    return list(runs)
