"""The data types of the log pipeline: lines, entries and file positions."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, Protocol

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
