"""`deckwatch logs`: preview the entries of a file, and list quarantined entries."""

from __future__ import annotations

import contextlib
import glob
import os
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from deckwatch.config.log_settings import FileSettings
from deckwatch.logs.loki.quarantine import entries as quarantined
from deckwatch.logs.parsing.counts import Counts
from deckwatch.logs.parsing.parser import Parser
from deckwatch.logs.printable import printable, printable_line
from deckwatch.logs.tailing.discovery import Discovery
from deckwatch.logs.tailing.fingerprint import open_regular
from deckwatch.logs.tailing.line_feeds import encoding_of, in_little_endian
from deckwatch.logs.tailing.line_splitter import LineSplitter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from deckwatch.config.log_settings import LogsSettings
    from deckwatch.logs.entry import Entry

_READ = 1024 * 1024
_POLL = 0.25  # seconds
_LAST_BYTES = 4 * 1024 * 1024  # where the last entries are looked for first


class PreviewError(Exception):
    """The preview is not possible. The message gives the reason."""


def preview(settings: LogsSettings | FileSettings, pattern: str, lines: int, follow: bool, out: TextIO) -> None:
    """Print the last `lines` entries of each file that matches `pattern` as they would be sent.

    `settings` is the config, or one rule for all files. With `follow`, print new entries until interrupted. Sends
    nothing and changes no position. Raises PreviewError.
    """
    rules: dict[str, FileSettings | None]
    if isinstance(settings, FileSettings):
        rules, labels = dict.fromkeys(_files(pattern), settings), {}
    else:
        rules = {path: _rule_of(path, settings.files) for path in _files(pattern)}
        labels = settings.destinations[0].labels if settings.destinations else {}
    unruled = sorted(path for path, rule in rules.items() if rule is None)
    if unruled:
        out.write("".join(f"{printable_line(path)}: not matched by any entry of logs.files\n" for path in unruled))
    ruled = [(path, rule) for path, rule in sorted(rules.items()) if rule is not None]
    if not ruled:
        raise PreviewError(
            f"no entry of logs.files matches {pattern}. Add one to the config."
            if rules
            else f"no file matches {pattern}. Check the path."
        )
    views = []
    for path, rule in ruled:
        view, entries = _last(path, rule, labels, lines, final=not follow)
        views.append(view)
        for entry in entries:
            out.write(_shown(entry))
        for problem in view.problems():
            out.write(printable_line(f"{view.path}: {problem}") + "\n")
    out.flush()
    while follow:
        time.sleep(_POLL)
        for view in views:
            for entry in view.read(final=False):
                out.write(_shown(entry))
        out.flush()


def _files(pattern: str) -> list[str]:
    return [path for path in glob.glob(str(Path(pattern).absolute()), recursive=True) if Path(path).is_file()]


def _rule_of(path: str, rules: Iterable[FileSettings]) -> FileSettings | None:
    return next((rule for rule in rules if Discovery(rule.path, rule.exclude, _ignore).matches(path)), None)


def _ignore(_path: str, _message: str) -> None:
    """Ignore paths that cannot be followed: the preview does not report them."""


def last_entries(
    path: str, rule: FileSettings, observe: Callable[[Mapping[str, Any], str, str], None], max_bytes: int
) -> Iterator[Entry]:
    """Yield the entries of the last `max_bytes` of a file, except what may be incomplete at their beginning.

    `observe` is called as by `Parser`. Raises PreviewError.
    """
    view = _View(path, rule, {}, observe, max_bytes)
    yield from view.read(final=True)


def _last(
    path: str, rule: FileSettings, labels: Mapping[str, str], lines: int, *, final: bool
) -> tuple[_View, Iterable[Entry]]:
    """The last `lines` entries of a file, and the view that continues after them."""
    view = _View(path, rule, labels, max_bytes=_LAST_BYTES)
    # One more, because the first one may begin before what is read.
    entries = deque(view.read(final=final), maxlen=lines + 1)
    if view.is_whole or len(entries) > lines:
        return view, list(entries)[max(0, len(entries) - lines) :]
    view = _View(path, rule, labels)
    return view, deque(view.read(final=final), maxlen=lines)


class _View:
    """One file, read from its beginning because a multi-line record may begin anywhere, or from `max_bytes` before its
    end."""

    def __init__(
        self,
        path: str,
        rule: FileSettings,
        labels: Mapping[str, str],
        observe: Callable[[Mapping[str, Any], str, str], None] | None = None,
        max_bytes: int | None = None,
    ) -> None:
        self.path = path
        start = 0
        self._encoding = rule.encoding
        with contextlib.suppress(OSError):
            fd = open_regular(path)
            try:
                self._encoding = encoding_of(os.pread(fd, 2, 0), rule.encoding)
                start = 0 if max_bytes is None else max(0, os.fstat(fd).st_size - max_bytes)
            finally:
                os.close(fd)
        self._parser = Parser(rule, path, labels, Counts(), observe=observe, encoding=self._encoding)
        self.is_whole = not start
        self._begins_in_line = start > 0
        self._splitter = LineSplitter(start, rule.max_line_bytes, self._encoding)

    def read(self, final: bool) -> Iterator[Entry]:
        """Yield the entries since the last call. If `final`, include a record that still waits for more lines."""
        try:
            fd = open_regular(self.path)
        except OSError as failure:
            raise PreviewError(f"{self.path}: {failure.strerror or failure}") from None
        try:
            if os.fstat(fd).st_size < self._splitter.offset:
                self._splitter.truncate(0)
            head = os.pread(fd, 2, 0)
            size = self._splitter.read_size(_READ)
            while data := os.pread(fd, size, self._splitter.offset):
                text = in_little_endian(data, head, self._encoding)
                chunk = self._splitter.split(text, len(data) == size, is_last=final)
                lines, cut = chunk.lines, chunk.cut
                if self._begins_in_line and lines:
                    self._begins_in_line = False
                    lines, cut = lines[1:], {index - 1: missing for index, missing in cut.items()}
                yield from self._parser.feed(lines, chunk.start, cut)
                if not chunk.more:
                    break
        finally:
            os.close(fd)
        yield from self._parser.flush(final=final)

    def problems(self) -> list[str]:
        return self._parser.problems


def _shown(entry: Entry) -> str:
    moment = datetime.fromtimestamp(entry.time / 10**9, UTC).isoformat(timespec="microseconds")
    metadata = f" {_pairs(dict(entry.metadata))}" if entry.metadata else ""
    return f"{moment} {_pairs(dict(entry.labels))}{metadata}\n    {_indented(entry.text)}\n"


def _pairs(values: Mapping[str, str]) -> str:
    return "{" + ", ".join(f'{name}="{printable_line(value)}"' for name, value in values.items()) + "}"


def _indented(text: str) -> str:
    """All lines of a record below its labels: none of them is taken for another record's."""
    return printable(text).replace("\n", "\n    ")


def show_quarantine(folder: Path, out: TextIO) -> int:
    """Print quarantined entries, oldest first, and a summary. Return the number of entries."""
    number = 0
    reasons: dict[str, int] = {}
    for it in quarantined(folder):
        number += 1
        reasons[it["reason"]] = reasons.get(it["reason"], 0) + 1
        quarantined_at = datetime.fromtimestamp(it["set_aside"], UTC).isoformat(timespec="seconds")
        moment = datetime.fromtimestamp(it["time"] / 10**9, UTC).isoformat(timespec="microseconds")
        labels = _pairs(it["labels"])
        place = f"{quarantined_at} {it['destination']} {it['reason']}: {moment} {labels}"
        out.write(f"{place}\n    {_indented(it['line'])}\n")
    summary = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    out.write(f"{number} lines quarantined ({summary})\n" if number else "no lines are quarantined\n")
    return number
