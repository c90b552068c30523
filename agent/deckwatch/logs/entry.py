"""The data types of the log pipeline: lines, entries and file positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

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


class Identity(NamedTuple):
    """Identifies a file across renames. The fingerprint distinguishes files that reuse an inode number.

    `fingerprint` covers the first `length` bytes (up to 1024; fewer if the file was shorter).
    """

    device: int
    inode: int
    length: int
    fingerprint: str


class Position(NamedTuple):
    """The read position of a file: everything before `offset` is in the spool."""

    path: str
    identity: Identity
    offset: int
