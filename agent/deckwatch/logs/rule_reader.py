"""Reads and parses the files of one `logs.files` entry and returns their entries in sending order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.logs.merge import Source, in_order
from deckwatch.logs.parsing.parser import Parser
from deckwatch.logs.tailing.followed_file import FollowedFile
from deckwatch.logs.tailing.tail import Tail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from deckwatch.config.log_settings import FileSettings
    from deckwatch.logs.entry import Columns, Entry, Position, Progress
    from deckwatch.logs.log_metrics import LogMetrics
    from deckwatch.logs.parsing.counts import Counts
    from deckwatch.logs.tailing.discovery import Discovery
    from deckwatch.logs.tailing.line_splitter import Chunk

_READ_BYTES = 256 * 1024  # per file and read
_READ_BYTES_MERGED = 8 * 1024 * 1024  # per read of all files that are merged
_MIN_READ_BYTES = 16 * 1024
_MAX_FILES_MERGED = 1000
_MAX_IDLE_PARSERS = 500


class FileEntries(NamedTuple):
    """Entries of one file that can be spooled now. Together with earlier ones, they cover the file up to `offset`."""

    file: Progress
    entries: Columns | Sequence[Entry]
    offset: int


@dataclass
class _Pending:
    """Entries that were read from a file but not returned yet."""

    file: FollowedFile
    entries: Sequence[Entry] = field(default_factory=list)
    end: int = 0  # the file offset after all of them
    more: bool = False


class RuleReader:
    """Reads the files of one `logs.files` entry. Used by one thread."""

    def __init__(
        self,
        settings: FileSettings,
        positions: Mapping[str, Position],
        labels: Mapping[str, str],
        counts: Counts,
        problem: Callable[[str, str], None],
        max_open: int = 100,
        metrics: LogMetrics | None = None,
        other_rules: Sequence[Discovery] = (),
    ) -> None:
        self._settings = settings
        self._labels = labels
        self._counts = counts
        self._problem = problem
        self._observe = metrics.observer(settings) if metrics is not None else None
        self._reported: set[str] = set()  # problems of lines and labels, reported once per rule
        self._tail = Tail(settings, positions, problem, max_open=max_open, other_rules=other_rules)
        self._parsers: dict[str, tuple[str, Parser]] = {}  # path and parser by file key
        self._pending: dict[str, _Pending] = {}
        # With the file name as a label, each file has its own stream.
        self._has_to_merge = not settings.filename_label

    def poll(self) -> None:
        """Look for new, rotated and grown files."""
        self._tail.poll()
        if len(self._parsers) > _MAX_IDLE_PARSERS:  # most of thousands of files are idle
            for key in [key for key, (_, parser) in self._parsers.items() if parser.pending_start is None]:
                del self._parsers[key]

    def take(self) -> Iterable[FileEntries]:
        """Return the entries that can be spooled now. Empty if there is nothing to read."""
        return self._take_merged() if self._has_to_merge else self._take_each()

    def _take_each(self) -> Iterable[FileEntries]:
        for file in self._tail.ready():
            parser, chunk = self._read(file, _READ_BYTES)
            entries: Columns | list[Entry]
            if parser.reads_columns and chunk.block is not None and not chunk.cut and not chunk.is_partial:
                entries = parser.columns(chunk.block, chunk.start)
            else:
                entries = _entries(parser, chunk)
            self._report(file.path, parser)
            yield FileEntries(file, entries, _resume_offset(parser, chunk.end))
        for read in self._overdue():
            yield FileEntries(read.file, read.entries, read.end)

    def _take_merged(self) -> Iterable[FileEntries]:
        # The caller may not have consumed the last call's entries. Return them first: entries read now may be newer.
        yield from self._complete()
        ready = [file for file in self._tail.ready() if file.key not in self._pending][:_MAX_FILES_MERGED]
        size = max(_MIN_READ_BYTES, min(_READ_BYTES, _READ_BYTES_MERGED // max(1, len(ready))))
        for file in ready:
            parser, chunk = self._read(file, size)
            read = _Pending(file, _entries(parser, chunk), _resume_offset(parser, chunk.end), chunk.more)
            self._report(file.path, parser)
            self._pending[file.key] = read
        for read in self._overdue():
            pending = self._pending.get(read.file.key)
            if pending is None:
                self._pending[read.file.key] = read
            else:
                pending.entries, pending.end = [*pending.entries, *read.entries], read.end
        merged = in_order([Source(key, read.entries, read.more) for key, read in self._pending.items()])
        for key, entries in merged:
            pending = self._pending[key]
            pending.entries = pending.entries[len(entries) :]
            yield FileEntries(pending.file, entries, entries[-1].end if pending.entries else pending.end)
        yield from self._complete()

    def _complete(self) -> Iterable[FileEntries]:
        """Remove files when all their entries were returned. Their offset is now after all lines, dropped ones too."""
        for key in [key for key, pending in self._pending.items() if not pending.entries]:
            pending = self._pending.pop(key)
            yield FileEntries(pending.file, (), pending.end)

    def _read(self, file: FollowedFile, size: int) -> tuple[Parser, Chunk]:
        """Read the next lines of a file. Return them with the file's parser."""
        chunk = self._tail.read(file, size)
        path, parser = self._parsers.get(file.key, ("", None))
        if parser is None or path != file.path:  # the key of a deleted file can be reused
            parser = Parser(
                self._settings, file.path, self._labels, self._counts, observe=self._observe, encoding=file.encoding
            )
            self._parsers[file.key] = file.path, parser
        self._counts.nuls += chunk.nuls
        return parser, chunk

    def _report(self, path: str, parser: Parser) -> None:
        for problem in parser.problems:
            if problem not in self._reported:
                self._reported.add(problem)
                self._problem(path, problem)

    def _overdue(self) -> Iterable[_Pending]:
        """Yield multi-line records that have waited long enough for another line."""
        for file in self._tail.files():
            _, parser = self._parsers.get(file.key, ("", None))
            if parser is not None and parser.pending_start is not None:
                entries = parser.flush(final=file.is_finished)
                if entries:
                    yield _Pending(file, entries, _resume_offset(parser, entries[-1].end))

    def commit(self, file: Progress, offset: int) -> None:
        """Record that everything before `offset` is in the spool."""
        assert isinstance(file, FollowedFile)
        self._tail.commit(file, offset)

    def positions(self) -> Mapping[str, Position]:
        """Return the committed position of each file by its key."""
        return self._tail.positions()

    def lag(self) -> Iterable[tuple[str, int]]:
        """Return the number of uncommitted bytes of each path."""
        return self._tail.lag()

    def close(self) -> None:
        self._tail.close()


def _entries(parser: Parser, chunk: Chunk) -> list[Entry]:
    entries = parser.feed(chunk.lines, chunk.start, chunk.cut)
    if chunk.is_partial and entries and entries[-1].end >= chunk.end:
        last = entries[-1]
        entries[-1] = last._replace(metadata={**last.metadata, "deckwatch_partial": "true"})
    return entries


def _resume_offset(parser: Parser, end: int) -> int:
    """Return where to resume after a restart: at the beginning of an incomplete record, if there is one."""
    return end if parser.pending_start is None else parser.pending_start
