"""The files of one rule of the config: read, parsed, and handed out in the order in which they have to be sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.logs.merge import Source, in_order
from deckwatch.logs.parsing.parser import Parser
from deckwatch.logs.tailing.tail import Tail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from deckwatch.config.log_settings import FileSettings
    from deckwatch.logs.entry import Entry, Position
    from deckwatch.logs.parsing.parser import Counts
    from deckwatch.logs.tailing.followed_file import FollowedFile

_READ_BYTES = 256 * 1024  # in one read of one file
_READ_BYTES_MERGED = 8 * 1024 * 1024  # in one read of all files that have to be merged
_MIN_READ_BYTES = 16 * 1024
_MAX_FILES_MERGED = 1000
_MAX_IDLE_PARSERS = 500


class FileEntries(NamedTuple):
    """Entries of one file that may be spooled now. They and earlier ones are all there is before `offset`."""

    file: FollowedFile
    entries: Sequence[Entry]
    offset: int


@dataclass
class _Pending:
    """What was read of a file and is not handed out yet."""

    file: FollowedFile
    entries: Sequence[Entry] = field(default_factory=list)
    end: int = 0  # the file's offset after all of them
    more: bool = False


class RuleReader:
    """Reads what one entry of `logs.files` names. One thread calls it."""

    def __init__(
        self,
        settings: FileSettings,
        positions: Mapping[str, Position],
        labels: Mapping[str, str],
        counts: Counts,
        problem: Callable[[str, str], None],
        max_open: int = 100,
    ) -> None:
        self._settings = settings
        self._labels = labels
        self._counts = counts
        self._problem = problem
        self._reported: set[str] = set()  # problems of lines and labels, once for all files of the rule
        self._tail = Tail(settings, positions, problem, max_open=max_open)
        self._parsers: dict[str, tuple[str, Parser]] = {}  # with the path, by the file's key
        self._pending: dict[str, _Pending] = {}
        # With the file's name among the labels, each file is a stream of its own.
        self._has_to_merge = not settings.filename_label

    def poll(self) -> None:
        """Look for new, rotated and grown files."""
        self._tail.poll()
        if len(self._parsers) > _MAX_IDLE_PARSERS:  # of thousands of files most are quiet
            for key in [key for key, (_, parser) in self._parsers.items() if parser.pending_start is None]:
                del self._parsers[key]

    def take(self) -> Iterable[FileEntries]:
        """The entries that may be spooled now. Empty when there is nothing to read."""
        return self._take_merged() if self._has_to_merge else self._take_each()

    def _take_each(self) -> Iterable[FileEntries]:
        for file in self._tail.ready():
            read = self._read(file, _READ_BYTES)
            yield FileEntries(file, read.entries, read.end)
        for read in self._overdue():
            yield FileEntries(read.file, read.entries, read.end)

    def _take_merged(self) -> Iterable[FileEntries]:
        # The last call may have been abandoned. What it left goes first: what is read from now on may be newer.
        yield from self._complete()
        ready = [file for file in self._tail.ready() if file.key not in self._pending][:_MAX_FILES_MERGED]
        size = max(_MIN_READ_BYTES, min(_READ_BYTES, _READ_BYTES_MERGED // max(1, len(ready))))
        for file in ready:
            self._pending[file.key] = self._read(file, size)
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
        """Remove what was handed out completely; its offset is now after all lines, also after dropped ones."""
        for key in [key for key, pending in self._pending.items() if not pending.entries]:
            pending = self._pending.pop(key)
            yield FileEntries(pending.file, (), pending.end)

    def _read(self, file: FollowedFile, size: int) -> _Pending:
        chunk = self._tail.read(file, size)
        path, parser = self._parsers.get(file.key, ("", None))
        if parser is None or path != file.path:  # a key is used again when its file is gone
            parser = Parser(self._settings, file.path, self._labels, self._counts)
            self._parsers[file.key] = file.path, parser
        entries = parser.feed(chunk.lines, chunk.start, chunk.cut)
        if parser.problems:
            self._report(file.path, parser)
        return _Pending(file, entries, _resume_offset(parser, chunk.end), chunk.more)

    def _report(self, path: str, parser: Parser) -> None:
        for problem in parser.problems:
            if problem not in self._reported:
                self._reported.add(problem)
                self._problem(path, problem)

    def _overdue(self) -> Iterable[_Pending]:
        """Records of several lines that have waited long enough for their next line."""
        for file in self._tail.files():
            _, parser = self._parsers.get(file.key, ("", None))
            if parser is not None and parser.pending_start is not None:
                entries = parser.flush(final=file.is_finished)
                if entries:
                    yield _Pending(file, entries, _resume_offset(parser, entries[-1].end))

    def commit(self, file: FollowedFile, offset: int) -> None:
        """Everything before `offset` is in the spool."""
        self._tail.commit(file, offset)

    def positions(self) -> Mapping[str, Position]:
        """How far each file was committed, by the file's key."""
        return self._tail.positions()

    def lag(self) -> Iterable[tuple[str, int]]:
        """For each path the bytes that are not committed yet."""
        return self._tail.lag()

    def close(self) -> None:
        self._tail.close()


def _resume_offset(parser: Parser, end: int) -> int:
    """Where to read on after a restart: an incomplete record is read again."""
    return end if parser.pending_start is None else parser.pending_start
