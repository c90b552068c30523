"""What flows through the log pipeline: lines of files, entries of streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The labels of a stream as sorted pairs: what Loki knows it by.
Labels = tuple[tuple[str, str], ...]


class Line(NamedTuple):
    """One line of a file, without its line end, and the offset in the file right after it (and its line end).

    `cut` is how many bytes of a line that was too long are missing at its end.
    """

    data: bytes
    end: int
    cut: int = 0


class Entry(NamedTuple):
    """One entry for Loki. `time` is in Unix nanoseconds; `end` is where its file goes on after it."""

    labels: Labels
    time: int
    text: str
    metadata: Mapping[str, str]
    end: int


class Identity(NamedTuple):
    """What a file is known by through renames: a number that is used again begins with other bytes.

    `fingerprint` is of the first `length` bytes (up to 1024; fewer where the file was shorter).
    """

    device: int
    inode: int
    length: int
    fingerprint: str


class Position(NamedTuple):
    """How far a file was read: everything before `offset` is in the spool."""

    path: str
    identity: Identity
    offset: int
