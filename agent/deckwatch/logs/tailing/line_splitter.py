"""Splits the data read from a file into complete lines with their offsets.

An incomplete last line is not kept but read again with its rest, so that a file needs no memory between two reads. The
exception is a line longer than the limit: its beginning is kept, and the rest is skipped block by block.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from deckwatch.logs.tailing.line_feeds import line_feeds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deckwatch.logs.tailing.line_feeds import LineFeeds


@dataclass(frozen=True, slots=True)
class Chunk:
    """Complete lines of one read; the \\r of CRLF is still there.

    `block` is the lines with a newline between them, or None without any. The first one begins at offset `start`; the
    next read begins at `end`. Line i ends `len(lines[i]) + cut.get(i, 0) + 1` bytes after the previous one (2 in
    UTF-16). `cut` holds the number of missing bytes of each line that was too long. For a last line without a newline
    that is too many; `end` is right. `more` is true if there is more to read now. `nuls` is the number of NUL bytes
    that were skipped before the first line. `is_partial` means that the last line has no newline yet.
    """

    block: bytes | None
    start: int
    end: int
    more: bool
    cut: Mapping[int, int]
    feeds: LineFeeds
    nuls: int = 0
    is_partial: bool = False

    @property
    def lines(self) -> list[bytes]:
        """The lines without their newlines, split again each time."""
        return [] if self.block is None else self.feeds.split(self.block)


class LineSplitter:
    """The lines of one file from `offset` on. Lines longer than `max_line` bytes are cut."""

    __slots__ = ("_feeds", "_long", "_long_bytes", "_max_line", "_offset")

    def __init__(self, offset: int, max_line: int, encoding: str = "utf-8") -> None:
        self._feeds = line_feeds(encoding)
        size = self._feeds.size
        self._offset = -(-offset // size) * size
        self._max_line = max(size, max_line // size * size)
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
        return max(max_bytes // 2 * 2, self._max_line + 2 * self._feeds.size)

    def truncate(self, size: int) -> None:
        """Continue in a copy of the file that has only `size` bytes."""
        self._long, self._long_bytes = b"", 0
        self._offset = min(self._offset, size)

    def end_of_lines(self, data: bytes) -> int:
        """Where the last complete line of `data` ends; 0 without one."""
        return self._feeds.last(data) + self._feeds.size if self._feeds.last(data) >= 0 else 0

    def use_encoding(self, encoding: str) -> None:
        """Split the lines of a file that turned out to be in this encoding."""
        self._feeds = line_feeds(encoding)

    def skip_to(self, offset: int) -> Chunk:
        """Skip everything before `offset`."""
        self._offset = offset
        return self.empty()

    def empty(self, more: bool = False) -> Chunk:
        """A chunk without lines."""
        return Chunk(None, self.line_start, self.line_start, more, _NO_CUTS, self._feeds)

    def split(self, data: bytes, more: bool, is_last: bool) -> Chunk:
        """The lines of `data`, which was read at `offset`. `more` is true if the file has more than this.

        With `is_last`, an incomplete line at the end of the file counts as a line.
        """
        feed = self._feeds.size
        if not is_last or more:
            data = data[: len(data) // feed * feed]  # a character may have been written in part
        if self._long_bytes:
            return self._continue_long_line(data, more, is_last)
        start, limit = self._offset, self._max_line
        newline = self._feeds.last(data)
        after = newline + feed if newline >= 0 else 0  # where an incomplete last line begins
        has_last = is_last and not more and after < len(data)
        if newline < 0 and not has_last:
            if len(data) >= limit + 2 * feed:
                self._long, self._long_bytes = data[:limit], len(data)
                self._offset += len(data)
                more = True
            return self.empty(more)
        block = data if has_last else data[:newline]
        end = start + (len(data) if has_last else after)
        self._offset = end
        # A block shorter than the limit has no line that is longer.
        cut = _NO_CUTS
        if len(block) > limit:
            lines = self._feeds.split(block)
            cut = _cut(lines, limit, self._feeds.carriage_return)
            block = self._feeds.feed.join(lines) if cut else block
        return Chunk(block, start, end, more, cut, self._feeds)

    def _continue_long_line(self, data: bytes, more: bool, is_last: bool) -> Chunk:
        start, newline = self.line_start, self._feeds.first(data)
        if newline < 0:
            self._offset += len(data)
            self._long_bytes += len(data)
            if more or not is_last:
                return self.empty(more)
        else:
            end = newline + self._feeds.size
            self._offset += end
            self._long_bytes += newline
            more = more or end < len(data)
        line, missing = self._long, self._long_bytes - len(self._long)
        self._long, self._long_bytes = b"", 0
        return Chunk(line, start, self._offset, more, {0: missing}, self._feeds)


_NO_CUTS: Mapping[int, int] = MappingProxyType({})


def _cut(lines: list[bytes], limit: int, carriage_return: bytes) -> Mapping[int, int]:
    """Cut the lines that are too long; return the number of bytes cut from each, by index."""
    if not lines or max(map(len, lines)) <= limit:
        return _NO_CUTS
    cut = {}
    for index, line in enumerate(lines):
        if len(line) > limit + len(carriage_return) * line.endswith(carriage_return):
            lines[index], cut[index] = line[:limit], len(line) - limit
    return cut
