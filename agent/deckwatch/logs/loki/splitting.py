"""Takes a push apart after Loki refused some of it: entries that are refused leave, or it is halved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deckwatch.logs.loki.batch import part_of, values_of

if TYPE_CHECKING:
    from deckwatch.logs.loki.push import Streams

#: The decoded entries of a push: labels, and `[ns as text, line, metadata?]` of each entry.
Decoded = list[tuple[dict[str, str], list[list[Any]]]]
#: A rejected entry: reason, labels and `[ns as text, line, metadata?]`.
Refused = tuple[str, dict[str, str], list[Any]]


def size_of(streams: Streams) -> int:
    """Return the bytes of all entries."""
    return sum(len(part.values) for _, parts in streams for part in parts)


def decoded(streams: Streams) -> Decoded:
    """Return the streams with their entries decoded."""
    return [(labels, [value for part in parts for value in values_of(part)]) for labels, parts in streams]


def without(opened: Decoded, reasons: dict[tuple[int, int], str], refused: list[Refused]) -> Streams:
    """Move entries that have a reason to `refused`, and return the streams without them."""
    rest: Streams = []
    for index, (labels, values) in enumerate(opened):
        kept = []
        for position, value in enumerate(values):
            reason = reasons.get((index, position))
            if reason is None:
                kept.append(value)
            else:
                refused.append((reason, labels, value))
        if kept:
            rest.append((labels, [part_of(labels, kept)]))
    return rest


def halves(opened: Decoded) -> list[Streams]:
    """Split a push in two: by streams, or by entries if it has only one stream."""
    if len(opened) > 1:
        middle = len(opened) // 2
        halves = [opened[:middle], opened[middle:]]
    else:
        labels, values = opened[0]
        middle = len(values) // 2
        halves = [[(labels, values[:middle])], [(labels, values[middle:])]]
    return [[(labels, [part_of(labels, values)]) for labels, values in half] for half in halves]
