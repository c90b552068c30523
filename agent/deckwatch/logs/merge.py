"""Merges the entries of several files that share a stream.

Loki rejects an entry that is an hour older than the newest entry of its stream. Files that share a stream and have a
backlog are therefore merged by time. If all entries are close in time, they are not sorted.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deckwatch.logs.entry import Entry

#: Maximum time span of entries that are sent without sorting, in nanoseconds.
_CLOSE = 30 * 60 * 10**9


class Source(NamedTuple):
    """The entries read from one file, in file order. `more` means that more can be read immediately."""

    key: str
    entries: Sequence[Entry]
    more: bool


def in_order(sources: Sequence[Source]) -> list[tuple[str, Sequence[Entry]]]:
    """Return the entries that can be sent now: runs of entries with their file's key, in sending order.

    Entries left out must wait, because a file that has more to read may still contain older entries.
    """
    filled = [source for source in sources if source.entries]
    # If a source returned no entries yet (all its lines were dropped), the age of its next entries is unknown.
    if any(source.more and not source.entries for source in sources):
        return []
    if len(filled) < 2:
        return [(source.key, source.entries) for source in filled]
    first = min(source.entries[0].time for source in filled)
    last = max(source.entries[-1].time for source in filled)
    if last - first < _CLOSE and not any(source.more for source in filled):
        return [(source.key, source.entries) for source in filled]
    # The order within a file never changes, even if its timestamps do: the sort key is the newest time so far.
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
