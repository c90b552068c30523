"""`deckwatch logs`: preview the entries of a file, and list quarantined entries."""

from __future__ import annotations

import glob
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from deckwatch.logs.loki.quarantine import entries as quarantined
from deckwatch.logs.parsing.parser import Counts, Parser
from deckwatch.logs.printable import printable, printable_line
from deckwatch.logs.tailing.discovery import Discovery
from deckwatch.logs.tailing.fingerprint import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from deckwatch.config.log_settings import FileSettings, LogsSettings
    from deckwatch.logs.entry import Entry

_READ = 1024 * 1024
_POLL = 0.25  # seconds


class PreviewError(Exception):
    """The preview is not possible. The message gives the reason."""


def preview(settings: LogsSettings, pattern: str, lines: int, follow: bool, out: TextIO) -> None:
    """Print the last `lines` entries of each file that matches `pattern` as they would be sent.

    With `follow`, print new entries until interrupted. Sends nothing and changes no position. Raises PreviewError.
    """
    rules = {path: _rule_of(path, settings.files) for path in _files(pattern)}
    unruled = sorted(path for path, rule in rules.items() if rule is None)
    if unruled:
        out.write("".join(f"{printable_line(path)}: not matched by any entry of logs.files\n" for path in unruled))
    views = [_View(path, rule, settings) for path, rule in sorted(rules.items()) if rule is not None]
    if not views:
        raise PreviewError(
            f"no entry of logs.files matches {pattern}. Add one to the config."
            if rules
            else f"no file matches {pattern}. Check the path."
        )
    for view in views:
        for entry in view.read(final=not follow)[-lines:]:
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


class _View:
    """One file, read from its beginning because a multi-line record may begin anywhere."""

    def __init__(self, path: str, rule: FileSettings, settings: LogsSettings) -> None:
        self.path = path
        labels = settings.destinations[0].labels if settings.destinations else {}
        self._parser = Parser(rule, path, labels, Counts())
        self._offset = 0

    def read(self, final: bool) -> list[Entry]:
        """Return the entries since the last call. If `final`, include a record that still waits for more lines."""
        try:
            fd = open_regular(self.path)
        except OSError as failure:
            raise PreviewError(f"{self.path}: {failure.strerror or failure}") from None
        found: list[Entry] = []
        try:
            if os.fstat(fd).st_size < self._offset:
                self._offset = 0
            while data := os.pread(fd, _READ, self._offset):
                end = data.rfind(b"\n") + 1
                if not end:
                    if len(data) < _READ and not final:
                        break
                    end = len(data)
                found += self._parser.feed(data[:end].removesuffix(b"\n").split(b"\n"), self._offset)
                self._offset += end
        finally:
            os.close(fd)
        return found + self._parser.flush(final=final)

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
