"""The data types of the log pipeline: lines, entries and file positions."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

NO_METADATA: Final[Mapping[str, str]] = {}
#: The first time of 19 digits, in 2001.
EARLIEST_OF_COLUMNS: Final = 10**18

#: The labels that identify a stream in Loki, as sorted pairs.
Labels = tuple[tuple[str, str], ...]


class Line(NamedTuple):
    """One line of a file without its line ending. `end` is the file offset after the line ending.

    `cut` is the number of bytes that were truncated from the end of a line that was too long.
    """

    data: bytes
    end: int
    cut: int = 0


class Entry(NamedTuple):
    """One entry for Loki. `time` is in Unix nanoseconds; `end` is the file offset after the entry."""

    labels: Labels
    time: int
    text: str
    metadata: Mapping[str, str]
    end: int


@dataclass(slots=True)
class Columns:
    """Entries of one file, in its order, without an object for each of them.

    `streams` has the labels by the keys. `times` are Unix nanoseconds as text of 19 digits, so that they sort as
    numbers do. `metadata` is empty if no entry has any. `without` are the numbers of the lines that have no entry.
    """

    keys: list[Any]
    streams: dict[Any, Labels]
    times: list[str]
    texts: list[str]
    metadata: Sequence[Mapping[str, str]]
    without: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.times)

    def replace(self, entries: Mapping[int, Sequence[Entry]]) -> None:
        """Replace some of the rows: each with one entry or none."""
        metadata = list(self.metadata)
        for index, found in entries.items():
            for labels, time, text, of_entry, _ in found:
                self.keys[index], self.streams[labels] = labels, labels
                self.times[index], self.texts[index] = f"{time:019}", text
                if of_entry and not metadata:
                    metadata = [NO_METADATA] * len(self.times)
                if metadata:
                    metadata[index] = of_entry
        self.metadata = metadata
        self.without = [index for index, found in entries.items() if not found]
        if self.without:
            lacking = set(self.without)
            kept = [index not in lacking for index in range(len(self.times))]
            self.keys, self.times, self.texts, self.metadata = (
                list(compress(column, kept)) for column in (self.keys, self.times, self.texts, self.metadata)
            )

    def entries(self, ends: Iterable[int]) -> list[Entry]:
        """The entries as objects. `ends` are the offsets after the lines."""
        lacking = set(self.without)
        kept = [end for index, end in enumerate(ends) if index not in lacking]
        metadata = self.metadata or [NO_METADATA] * len(self.times)
        return [
            Entry(self.streams[key], int(time), text, of_entry, end)
            for key, time, text, of_entry, end in zip(self.keys, self.times, self.texts, metadata, kept, strict=True)
        ]


class Identity(NamedTuple):
    """Identifies a file across renames. The fingerprint distinguishes files that reuse an inode number.

    `fingerprint` covers the first `length` bytes (up to 1024; fewer if the file was shorter).
    """

    device: int
    inode: int
    length: int
    fingerprint: str


class Position(NamedTuple):
    """The read position of a file: everything before `offset` is in the spool.

    `before` is the fingerprint of the last bytes before `offset`; empty if it is not known. `mtime` is that of the
    content that was last read, in Unix nanoseconds; -1 if it is not known.
    """

    path: str
    identity: Identity
    offset: int
    before: str = ""
    mtime: int = -1


def shown_path(path: str) -> str:
    """Return a path as text that UTF-8 can encode: bytes of a file name that are not UTF-8 become `\\xe9`."""
    return path if path.isascii() else os.fsencode(path).decode("utf-8", "backslashreplace")


class Progress(Protocol):
    """How far a file or another source is read."""

    @property
    def key(self) -> str: ...

    @property
    def committed(self) -> int:
        """The offset before which everything is in the spool."""
        ...

    def position_at(self, offset: int) -> Position:
        """Return the position to save once everything before `offset` is in the spool."""
        ...
