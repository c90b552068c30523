"""Reads and parses one `logs.journal` entry. The cursor of the journal is saved as a position."""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final

from deckwatch.config.log_parsing_settings import LineSettings
from deckwatch.config.log_settings import FileSettings
from deckwatch.logs.entry import Entry, Identity, Position
from deckwatch.logs.parsing.parser import Parser
from deckwatch.logs.rule_reader import FileEntries
from deckwatch.logs.sources.journal import Journalctl, JournalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from deckwatch.config.journal_settings import JournalSettings
    from deckwatch.logs.counts import LogCounts
    from deckwatch.logs.entry import Progress
    from deckwatch.logs.log_metrics import LogMetrics

_KEY: Final = "journal"
_RETRY_AFTER: Final = 2.0  # seconds
_READING_AFTER: Final = 2.0  # seconds for which journalctl has to run: an error ends it sooner
_DIRECTORY: Final = "/var/log/journal"


class _Cursors:
    """The position in the journal. Offsets count entries; each one that is not committed yet has its cursor."""

    key = _KEY

    def __init__(self, directory: str, position: Position | None) -> None:
        self._directory = directory
        self.committed = position.offset if position is not None else 0
        self.end = self.committed
        self._cursor = position.identity.fingerprint if position is not None else ""
        self._ahead: deque[tuple[int, str]] = deque()

    @property
    def newest(self) -> str:
        """The cursor of the last entry that was read."""
        return self._ahead[-1][1] if self._ahead else self._cursor

    def add(self, cursor: str) -> int:
        self.end += 1
        self._ahead.append((self.end, cursor))
        return self.end

    def position_at(self, offset: int) -> Position:
        cursor = self._cursor
        for end, known in self._ahead:
            if end > offset:
                break
            cursor = known
        return Position(self._directory, Identity(0, 0, 0, cursor), offset)

    def commit(self, offset: int) -> None:
        while self._ahead and self._ahead[0][0] <= offset:
            self._cursor = self._ahead.popleft()[1]
        self.committed = max(self.committed, offset)


class JournalReader:
    """Reads one journal. `name` identifies it in metrics. Used by one thread, as `RuleReader`."""

    def __init__(
        self,
        settings: JournalSettings,
        name: str,
        positions: Mapping[str, Position],
        counts: LogCounts,
        problem: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
        metrics: LogMetrics | None = None,
    ) -> None:
        self._settings = settings
        self._name = name
        self._counts = counts
        self._problem = problem
        self._clock = clock
        self._retry_at = self._started_at = 0.0
        self._told: set[str] = set()
        self._cursors = _Cursors(settings.directory or _DIRECTORY, positions.get(_KEY))
        observe = metrics.observer(settings) if metrics is not None else None
        self._parser = Parser(_line_settings(settings), name, {}, counts.parsed, observe=observe)
        self._journalctl: Journalctl | None = None
        counts.journals[name] = False

    def poll(self) -> None:
        """Start journalctl if it does not run."""
        if self._journalctl is not None or self._clock() < self._retry_at:
            return
        try:
            self._journalctl = Journalctl(self._settings, self._cursors.newest)
            self._started_at = self._clock()
        except JournalError as error:
            self._failed(str(error))

    def _failed(self, error: str) -> None:
        self._retry_at = self._clock() + _RETRY_AFTER
        self._counts.journals[self._name] = False
        self._counts.journal_errors[self._name] = error
        self._tell(error)

    def _tell(self, problem: str) -> None:
        if problem not in self._told:
            self._told.add(problem)
            self._problem(self._name, problem)

    def take(self) -> Iterable[FileEntries]:
        """Return the entries that have arrived."""
        if self._journalctl is None:
            return ()
        entries: list[Entry] = []
        before = self._cursors.end
        try:
            for fields in self._journalctl.read():
                entries += self._entry(fields)
        except JournalError as error:
            self._journalctl.close()
            self._journalctl = None
            self._failed(str(error))
        else:
            refused = self._journalctl.refused()
            if refused:
                self._counts.journals[self._name] = False
                self._counts.journal_errors[self._name] = refused
                self._tell(refused)
            elif entries or self._clock() - self._started_at >= _READING_AFTER:
                if not self._counts.journals[self._name]:
                    self._told.clear()
                self._counts.journals[self._name] = True
                self._counts.journal_errors.pop(self._name, None)
            if self._journalctl.too_long:
                self._counts.dropped["too_long"] += self._journalctl.too_long
                self._journalctl.too_long = 0
        for problem in self._parser.problems:
            self._tell(problem)
        return [FileEntries(self._cursors, entries, self._cursors.end)] if self._cursors.end > before else ()

    def _entry(self, fields: dict[str, Any]) -> Sequence[Entry]:
        cursor = fields.pop("__CURSOR", "")
        if cursor == self._cursors.newest:
            return ()  # where journalctl was started
        end = self._cursors.add(cursor)
        texts = {name: _text(value) for name, value in fields.items()}
        message = texts.pop("MESSAGE", "").rstrip("\n")
        if not message.strip():
            return ()
        entry = self._parser.record(message, texts, _nanoseconds(fields), end)
        return () if entry is None else (entry,)

    def commit(self, _: Progress, offset: int) -> None:
        """Record that everything before `offset` is in the spool."""
        self._cursors.commit(offset)

    def positions(self) -> Mapping[str, Position]:
        """Return the committed position, unless nothing was read yet."""
        at = self._cursors.position_at(self._cursors.committed)
        return {_KEY: at} if at.identity.fingerprint else {}

    def lag(self) -> Iterable[tuple[str, int]]:
        """Return nothing: the journal does not say how much there is to read."""
        return ()

    def close(self) -> None:
        if self._journalctl is not None:
            self._journalctl.close()
            self._journalctl = None


def source_names(journals: Sequence[JournalSettings]) -> list[str]:
    """Return the name of each journal: what it selects, since another selection has another position."""
    names: list[str] = []
    seen: Counter[str] = Counter()
    for one in journals:
        chosen = [*sorted(one.units), *(f"{field}={json.dumps(one.match[field])}" for field in sorted(one.match))]
        name = " ".join(["journal", *([one.directory] if one.directory else []), *chosen])
        names.append(f"{name}\n{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return names


def _line_settings(settings: JournalSettings) -> FileSettings:
    """Return the settings for the parser. They are valid already."""
    shared = ("format", "labels", "label_fields", "metadata_fields", "level_field", "max_line_bytes")
    rules = ("drop", "keep", "redact", "sample", "metrics")
    values = {name: getattr(settings, name) for name in (*LineSettings.model_fields, *shared, *rules)}
    return FileSettings.model_construct(path=_KEY, filename_label=False, **values)


def _nanoseconds(fields: Mapping[str, Any]) -> int | None:
    """Return when the journal received an entry. Entries are in this order, except after a change of the clock."""
    try:
        return int(fields["__REALTIME_TIMESTAMP"]) * 1000
    except (KeyError, ValueError, TypeError):
        return None


def _text(value: object) -> str:
    """Return the text of a field. A list has bytes, or the values of a field that an entry has several times."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        return ""
    if all(isinstance(one, int) and 0 <= one < 256 for one in value):
        return bytes(value).decode("utf-8", "replace")
    return "\n".join(_text(one) for one in value)
