"""Log checks of `deckwatch check`: an empty push to each Loki, each file pattern and the spool folder."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from deckwatch.exporter import Finding
from deckwatch.logs.loki.push import Accepted, Pusher, Rejected
from deckwatch.logs.service import spool_folder
from deckwatch.logs.tailing.discovery import Discovery

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from deckwatch.config.log_settings import FileSettings, LogsSettings, LokiSettings

# Loki's response to a push without streams. It proves that the client is authorized to push.
_NO_STREAMS = "status_422"


def check_logs(settings: LogsSettings, state: Path) -> Iterator[tuple[str, Finding]]:
    """Yield the subject and the result of each check. Read-only."""
    for destination in settings.destinations:
        yield f"logs.loki {destination.name or urlsplit(destination.url).hostname}", _loki(destination)
    for rule in settings.files:
        yield f"logs.files {rule.path}", _files(rule)
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
    return Finding("ok", f"{len(found)} files" if found else "no file matches yet")


def _spool(folder: Path) -> Finding:
    nearest = folder
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        return Finding("failed", f"{nearest} is not a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        return Finding("failed", f"{folder} cannot be written", "start with --state-dir DIR, or set logs.spool.dir")
    return Finding("ok", str(folder))
