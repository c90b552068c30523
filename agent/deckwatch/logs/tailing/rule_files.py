"""The files of one rule of the config: read, parsed, and given out in the order in which they are to go."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.logs.parsing.parser import Parser
from deckwatch.logs.tailing.merge import Source, in_order
from deckwatch.logs.tailing.tail import Tail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from deckwatch.config.log_settings import FileSettings
    from deckwatch.logs.entry import Entry, Position
    from deckwatch.logs.parsing.parser import Counts
    from deckwatch.logs.tailing.followed_file import FollowedFile

_READ = 256 * 1024  # bytes at once of one file
_READ_TOGETHER = 8 * 1024 * 1024  # bytes at once of all files that have to be merged
_LEAST_READ = 16 * 1024
_FILES_TOGETHER = 1000
_PARSERS_KEPT = 500


class Run(NamedTuple):
    """Entries of one file that may go out now; everything before `offset` is with them or has gone before."""

    file: FollowedFile
    entries: Sequence[Entry]
    offset: int


@dataclass
class _Read:
    """What was read of a file and has not gone out yet."""

    file: FollowedFile
    entries: Sequence[Entry] = field(default_factory=list)
    end: int = 0  # where the file goes on after all of them
    more: bool = False


class Following:
    def __init__(
        self,
        settings: FileSettings,
        positions: Mapping[str, Position],
        labels: Mapping[str, str],
        counts: Counts,
        problem: Callable[[str, str], None],
    ) -> None:
        self.settings = settings
        self._labels = labels
        self._counts = counts
        self._problem = problem
        self._told: set[str] = set()  # what is wrong with lines and labels: once for all files of a rule
        self._tail = Tail(settings, positions, problem)
        self._parsers: dict[str, tuple[str, Parser]] = {}  # with the path, by the file's key
        self._held: dict[str, _Read] = {}
        # With the file's name among the labels, each file is a stream of its own.
        self._merges = not settings.filename_label

    def poll(self) -> None:
        self._tail.poll()
        if len(self._parsers) > _PARSERS_KEPT:  # of thousands of files most are quiet
            for key in [key for key, (_, parser) in self._parsers.items() if parser.pending_start is None]:
                del self._parsers[key]

    def take(self) -> Iterable[Run]:
        """What may go out now. Empty when there is nothing to read."""
        if not self._merges:
            for file in self._tail.ready():
                read = self._read(file, _READ)
                yield Run(file, read.entries, read.end)
            for read in self._flushed():
                yield Run(read.file, read.entries, read.end)
            return
        # There are such where the last run was not taken: to be read on before others go out, which may be newer.
        yield from self._done()
        ready = [file for file in self._tail.ready() if file.key not in self._held][:_FILES_TOGETHER]
        size = max(_LEAST_READ, min(_READ, _READ_TOGETHER // max(1, len(ready))))
        for file in ready:
            self._held[file.key] = self._read(file, size)
        for read in self._flushed():
            held = self._held.get(read.file.key)
            if held is None:
                self._held[read.file.key] = read
            else:
                held.entries, held.end = [*held.entries, *read.entries], read.end
        runs = in_order([Source(key, read.entries, read.more) for key, read in self._held.items()])
        for key, entries in runs:
            read = self._held[key]
            read.entries = read.entries[len(entries) :]
            yield Run(read.file, entries, entries[-1].end if read.entries else read.end)
        yield from self._done()

    def _done(self) -> Iterable[Run]:
        """Let go of what has gone out as a whole."""
        for key in [key for key, read in self._held.items() if not read.entries]:
            read = self._held.pop(key)
            yield Run(read.file, (), read.end)

    def _read(self, file: FollowedFile, size: int) -> _Read:
        chunk = self._tail.read(file, size)
        path, parser = self._parsers.get(file.key, ("", None))
        if parser is None or path != file.path:  # a key is used again when its file is gone
            parser = Parser(self.settings, file.path, self._labels, self._counts)
            self._parsers[file.key] = file.path, parser
        entries = parser.feed(chunk.lines, chunk.start, chunk.cut)
        if parser.problems:
            self._tell(file.path, parser)
        return _Read(file, entries, _resume(parser, chunk.end), chunk.more)

    def _tell(self, path: str, parser: Parser) -> None:
        for problem in parser.problems:
            if problem not in self._told:
                self._told.add(problem)
                self._problem(path, problem)

    def _flushed(self) -> Iterable[_Read]:
        """Records that have waited for their end for long enough."""
        for file in self._tail.files():
            _, parser = self._parsers.get(file.key, ("", None))
            if parser is not None and parser.pending_start is not None:
                entries = parser.flush(final=file.is_finished)
                if entries:
                    yield _Read(file, entries, _resume(parser, entries[-1].end))

    def commit(self, file: FollowedFile, offset: int) -> None:
        """Everything before `offset` is in the spool."""
        self._tail.commit(file, offset)

    def positions(self) -> Mapping[str, Position]:
        return self._tail.positions()

    def lag(self) -> Iterable[tuple[str, int]]:
        return self._tail.lag()

    def close(self) -> None:
        self._tail.close()


def _resume(parser: Parser, end: int) -> int:
    return end if parser.pending_start is None else parser.pending_start
