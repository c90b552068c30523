"""Lines that make one record: tracebacks by a first-line pattern, and lines that a container's runtime split.

Records come out in the order in which they begin. While one is open, all that begins after it is held back, and so
is all that it is interleaved with: what has come out never has to be read again, what has not come out is read again
as a whole.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deckwatch.config.patterns import Pattern
    from deckwatch.logs.parsing.formats import Piece

#: Bounds on what is held back while a split line waits for its end.
_MAX_WAIT = 3.0
_MAX_LINES = 1000
_MAX_RECORDS_BYTES = 4  # times the limit of one record


@dataclass(slots=True)
class Record:
    """One record of one stream. Offsets and sizes in bytes; `time` is the container runtime's text."""

    parts: list[str]
    begin: int
    end: int
    stream: str = ""
    time: str = ""
    missing: int = 0  # bytes that were cut
    size: int = 0
    lines: int = 1
    touched: float = 0.0  # Unix seconds of its last line
    open: bool = True
    split: bool = False  # its last line goes on
    wrapped: bool = True  # False: a line that is not in the runtime's format

    @property
    def text(self) -> str:
        return "".join(self.parts)


class RecordJoiner:
    """Joins the lines of one file to records of at most `max_bytes`.

    Without `first_line` only split lines are joined. A split line is cut at the limit; a multi-line record goes on
    as another one, since nothing of it has to be lost.
    """

    def __init__(
        self,
        max_bytes: int,
        first_line: Pattern | None = None,
        max_lines: int = _MAX_LINES,
        max_wait: float = _MAX_WAIT,
    ) -> None:
        self._first_line = first_line
        self._max_bytes = max_bytes
        self._max_lines = max_lines
        self._max_wait = max_wait if first_line is not None else _MAX_WAIT
        self._held_lines = max(_MAX_LINES, max_lines)
        self._pending: deque[Record] = deque()
        self._open: dict[str, Record] = {}
        self._lines = 0
        self._bytes = 0

    @property
    def pending_start(self) -> int | None:
        """The offset where the oldest record begins that has not come out."""
        return self._pending[0].begin if self._pending else None

    def add(
        self, piece: Piece, begin: int, end: int, missing: int, now: float, *, wrapped: bool = True
    ) -> list[Record]:
        """Take the next line; give the records that are complete."""
        size = _size(piece.text)
        record = self._open.get(piece.stream)
        if record is not None and record.split:
            self._append(record, piece.text, size, missing)
        elif record is not None and self._continues(record, piece.text, size):
            self._append(record, "\n" + piece.text, size + 1, missing)
        else:
            if record is not None:
                record.open = False
            record = Record([piece.text], begin, end, piece.stream, piece.time, missing, size, wrapped=wrapped)
            self._open[piece.stream] = record
            self._pending.append(record)
            self._bytes += size
        record.end, record.touched, record.split = end, now, piece.more
        if not piece.more and self._first_line is None:
            record.open = False
            del self._open[piece.stream]
        self._lines += 1
        if self._lines >= self._held_lines or self._bytes > _MAX_RECORDS_BYTES * self._max_bytes:
            self._close_all()
        return self._release()

    def flush(self, now: float, *, final: bool = False) -> list[Record]:
        """The records without a new line for `max_wait`; all of them if `final`."""
        for record in self._pending:
            if now < record.touched:
                record.touched = now  # the clock was set back
            if record.open and (final or now - record.touched >= self._max_wait):
                record.open = False
                del self._open[record.stream]
        return self._release()

    def _continues(self, record: Record, text: str, size: int) -> bool:
        return (
            self._first_line is not None
            and record.lines < self._max_lines
            and record.size + size < self._max_bytes
            and not self._first_line.search(text)
        )

    def _append(self, record: Record, text: str, size: int, missing: int) -> None:
        record.lines += 1
        room = 0 if record.missing else max(0, self._max_bytes - record.size)  # nothing after a gap
        if size > room:
            text = cut_bytes(text, room)
            record.missing += size - _size(text)
            size = _size(text)
        if text:
            record.parts.append(text)
        record.missing += missing
        record.size += size
        self._bytes += size

    def _close_all(self) -> None:
        for record in self._open.values():
            record.open = False
        self._open.clear()

    def _release(self) -> list[Record]:
        """Records from the front, up to where no open one begins before their ends.

        Of records that are interleaved only the last has the offset after them: the others keep the one where
        the first of them begins, so that no position lies within.
        """
        released: list[Record] = []
        pending = self._pending
        while pending:
            reach = count = 0
            for record in pending:
                if count and record.begin >= reach:
                    break
                if record.open:
                    return released
                reach = max(reach, record.end)
                count += 1
            group = [pending.popleft() for _ in range(count)]
            for record in group:
                record.end = group[0].begin
                self._lines -= record.lines
                self._bytes -= record.size
            group[-1].end = reach
            released += group
        return released


def cut_bytes(text: str, limit: int) -> str:
    """The longest beginning that has at most `limit` bytes in UTF-8."""
    if len(text) * 4 <= limit or (text.isascii() and len(text) <= limit):
        return text
    data = text.encode("utf-8", "replace")
    return text if len(data) <= limit else data[:limit].decode("utf-8", "ignore")


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
