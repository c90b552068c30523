"""Log checks of `deckwatch check`: an empty push to each Loki, each file pattern and journal, and the spool folder."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from deckwatch.config.log_parsing_settings import LEVEL, LINE
from deckwatch.exporter import Finding
from deckwatch.logs.loki.push import Accepted, Pusher, Rejected
from deckwatch.logs.preview import PreviewError, last_entries
from deckwatch.logs.service import spool_folder
from deckwatch.logs.sources.journal import JournalError, check_journal
from deckwatch.logs.tailing.discovery import Discovery

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from deckwatch.config.journal_settings import JournalSettings
    from deckwatch.config.log_settings import FileSettings, LogsSettings, LokiSettings

# Loki's response to a push without streams. It proves that the client is authorized to push.
_NO_STREAMS = "status_422"
# How much of the end of a file is read to see which fields its lines have.
_CHECKED_BYTES = 256 * 1024


def check_logs(settings: LogsSettings, state: Path) -> Iterator[tuple[str, Finding]]:
    """Yield the subject and the result of each check. Read-only."""
    for destination in settings.destinations:
        yield f"logs.loki {destination.name or urlsplit(destination.url).hostname}", _loki(destination)
    for rule in settings.files:
        yield f"logs.files {rule.path}", _files(rule)
    for number, journal in enumerate(settings.journal):
        yield f"logs.journal[{number}]", _journal(journal)
    yield "logs.spool", _spool(spool_folder(settings, state / "logs"))


def _loki(settings: LokiSettings) -> Finding:
    try:
        pusher = Pusher(settings, threading.Event())
    except (ValueError, OSError) as wrong:
        return Finding("failed", str(wrong))
    try:
        result = pusher.push([])
    finally:
        pusher.close()
    if isinstance(result, Accepted | Rejected) or getattr(result, "reason", "") == _NO_STREAMS:
        return Finding("ok", "accepts logs")
    return Finding("failed", result.text)


def _files(rule: FileSettings) -> Finding:
    if os.path.isdir(rule.path):
        return Finding("failed", f"{rule.path} is a directory", f"name files: {rule.path.rstrip('/')}/*.log")
    problems: list[str] = []
    found = Discovery(rule.path, rule.exclude, lambda _path, message: problems.append(message)).find(0.0) or []
    unreadable = [path for path in found if os.path.isfile(path) and not os.access(path, os.R_OK)]  # noqa: PTH113  there can be many paths
    if unreadable:
        return Finding(
            "failed", f"{len(unreadable)} of {len(found)} files cannot be read, for example {unreadable[0]}",
            f"setfacl -m u:deckwatch:r {unreadable[0]}",
        )  # fmt: skip
    missing = _missing_output_fields(rule, found)
    if missing:
        return Finding("failed", missing, "correct output, or remove it")
    return Finding("ok", f"{len(found)} files" if found else "no file matches yet")


def _missing_output_fields(rule: FileSettings, paths: Sequence[str]) -> str:
    """Say which field of `output` no line at the end of the newest file has; empty if there is none."""
    files = [path for path in paths if os.path.isfile(path)]  # noqa: PTH113  as above
    if not rule.output or not files:
        return ""
    newest = max(files, key=os.path.getmtime)
    seen: set[str] = {LINE, LEVEL}
    lines = with_fields = 0

    def observe(fields: Mapping[str, Any], _level: str, _text: str) -> None:
        nonlocal lines, with_fields
        lines += 1
        with_fields += bool(fields)
        seen.update(fields)

    try:
        for _ in last_entries(newest, rule, observe, _CHECKED_BYTES):
            pass
    except PreviewError:
        return ""
    missing = [name for name in rule.output_fields if name not in seen]
    if not missing or not with_fields:
        return ""
    return f"output names the field {missing[0]}, which none of the last {lines} lines of {newest} has"


def _journal(settings: JournalSettings) -> Finding:
    try:
        found = check_journal(settings)
    except JournalError as wrong:
        return Finding("failed", str(wrong))
    return Finding("ok", "readable" if found else "readable; no entry matches yet")


def _spool(folder: Path) -> Finding:
    nearest = folder
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        return Finding("failed", f"{nearest} is not a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        return Finding("failed", f"{folder} cannot be written", "start with --state-dir DIR, or set logs.spool.dir")
    return Finding("ok", str(folder))
