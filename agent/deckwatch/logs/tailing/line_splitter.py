"""Splits the data read from a file into complete lines with their offsets.

An incomplete last line is not kept but read again with its rest, so that a file needs no memory between two reads. The
exception is a line longer than the limit: its beginning is kept, and the rest is skipped block by block.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Chunk(NamedTuple):
    """Complete lines of one read, without their newlines; the \\r of CRLF is still there.

    `lines[0]` begins at offset `start`; the next read begins at `end`. An object for each line would cost more than
    reading it: line i ends `len(lines[i]) + cut.get(i, 0) + 1` bytes after the previous one. `cut` holds the number of
    missing bytes of each line that was too long. For a last line without a newline that is one byte too many; `end` is
    right. `more` is true if there is more to read now.
    """

    lines: list[bytes]
    start: int
    end: int
    more: bool
    cut: Mapping[int, int]


class LineSplitter:
    """The lines of one file from `offset` on. Lines longer than `max_line` bytes are cut."""

    __slots__ = ("_long", "_long_bytes", "_max_line", "_offset")

    def __init__(self, offset: int, max_line: int) -> None:
        self._offset = offset
        self._max_line = max_line
        self._long = b""  # the beginning of a line that is too long
        self._long_bytes = 0  # how many bytes of it were read

    @property
    def offset(self) -> int:
        """Where the next read begins."""
        return self._offset

    @property
    def is_in_long_line(self) -> bool:
        """Whether the offset is in the middle of a line that is too long."""
        return self._long_bytes > 0

    @property
    def line_start(self) -> int:
        """The offset where the next line begins."""
        return self._offset - self._long_bytes

    def read_size(self, max_bytes: int) -> int:
        """How many bytes to read: at most `max_bytes`, but enough for the longest line, its CRLF included."""
        return max(max_bytes, self._max_line + 2)

    def truncate(self, size: int) -> None:
        """Continue in a copy of the file that has only `size` bytes."""
        self._long, self._long_bytes = b"", 0
        self._offset = min(self._offset, size)

    def skip_to(self, offset: int) -> Chunk:
        """Skip everything before `offset`."""
        self._offset = offset
        return self.empty()

    def empty(self, more: bool = False) -> Chunk:
        """A chunk without lines."""
        return Chunk([], self.line_start, self.line_start, more, _NO_CUTS)

    def split(self, data: bytes, more: bool, is_last: bool) -> Chunk:
        """The lines of `data`, which was read at `offset`. `more` is true if the file has more than this.

        With `is_last`, an incomplete line at the end of the file counts as a line.
        """
        if self._long_bytes:
            return self._continue_long_line(data, more, is_last)
        start, limit = self._offset, self._max_line
        newline = data.rfind(b"\n")
        last = b""
        if is_last and not more:
            last = data[newline + 1 :]
        elif newline < 0:
            if len(data) >= limit + 2:
                self._long, self._long_bytes = data[:limit], len(data)
                self._offset += len(data)
                more = True
            return self.empty(more)
        lines = data[:newline].split(b"\n") if newline >= 0 else []
        end = start + newline + 1
        if last:
            lines.append(last)
            end += len(last)
        self._offset = end
        # A block shorter than the limit has no line that is longer.
        cut = _NO_CUTS if len(data) <= limit else _cut(lines, limit)
        return Chunk(lines, start, end, more, cut)

    def _continue_long_line(self, data: bytes, more: bool, is_last: bool) -> Chunk:
        start, newline = self.line_start, data.find(b"\n")
        if newline < 0:
            self._offset += len(data)
            self._long_bytes += len(data)
            if more or not is_last:
                return self.empty(more)
        else:
            self._offset += newline + 1
            self._long_bytes += newline
            more = more or newline + 1 < len(data)
        line, missing = self._long, self._long_bytes - len(self._long)
        self._long, self._long_bytes = b"", 0
        return Chunk([line], start, self._offset, more, {0: missing})


_NO_CUTS: Mapping[int, int] = MappingProxyType({})


def _cut(lines: list[bytes], limit: int) -> Mapping[int, int]:
    """Cut the lines that are too long; return the number of bytes cut from each, by index."""
    if not lines or max(map(len, lines)) <= limit:
        return _NO_CUTS
    cut = {}
    for index, line in enumerate(lines):
        if len(line) > limit + line.endswith(b"\r"):
            lines[index], cut[index] = line[:limit], len(line) - limit
    return cut
