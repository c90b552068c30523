"""`setup_logging`: the log of an application as JSON lines, on standard output or in files."""

import logging
import os
import select
import sys
from pathlib import Path
from typing import TextIO

from deckwatch.sdk.app_folder import service_name
from deckwatch.sdk.logs.events import LOGGER as EVENTS
from deckwatch.sdk.logs.files import DailyFile, LogFile, SizeRotatedFile
from deckwatch.sdk.logs.json_lines import JsonLines
from deckwatch.sdk.logs.writer import Write, Writer

_MAX_BYTES = 10_000_000
_KEEP = 5
_AUDIT_DAYS = 30
_MAIN, _ERRORS, _AUDIT = "main", "errors", "audit"


class LineHandler(logging.Handler):
    """Formats records in the calling thread, while their trace and arguments are current, and queues the lines."""

    def __init__(self, formatter: logging.Formatter, writer: Writer, *, has_files: bool) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.writer = writer
        self._has_files = has_files

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - logging's own way: a record must not break the application
            self.handleError(record)
            return
        names = [_MAIN]
        if self._has_files:
            if record.levelno >= logging.ERROR:
                names.append(_ERRORS)
            if record.name == f"{EVENTS}.audit":
                names.append(_AUDIT)
        self.writer.put(tuple(names), line)


def setup_logging(
    service: str | None = None, *, file: str | os.PathLike[str] | None = None, level: int | str = logging.INFO
) -> None:
    """Write all log records as JSON lines to standard output, or to a file that is rotated (10 MB, 5 old files).

    With a file, errors are also in `FILE.errors`, and audit events in `FILE.audit`, of which the last 30 days are
    kept. `service` is the value of the field `service` (default `DECKWATCH_SERVICE`, otherwise the name of the
    program). Replaces the handlers of the root logger. Raises ValueError if `level` is unknown.
    """
    root = logging.getLogger()
    root.setLevel(level)
    # An audit trail must be complete, whatever the level of other records.
    logging.getLogger(EVENTS).setLevel(logging.INFO)
    destinations: dict[str, Write] = {}
    problem = ""
    if file is not None:
        path = str(Path(file).absolute())
        try:
            destinations = _files(path)
        except OSError as failure:
            problem = f"cannot write the log to {path}: {failure.strerror}. It goes to standard output."
    if not destinations:
        destinations = {_MAIN: _to_stream(sys.stdout)}
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        if isinstance(handler, LineHandler):
            handler.writer.close()
        handler.close()
    formatter = JsonLines(service or service_name())
    root.addHandler(LineHandler(formatter, Writer(destinations), has_files=_ERRORS in destinations))
    if problem:
        logging.getLogger("deckwatch").error(problem)


def flush_logs() -> None:
    """Wait until the lines logged so far have been written, for processes that end without atexit functions."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LineHandler):
            handler.writer.flush()


def _files(path: str) -> dict[str, Write]:
    """Raises OSError if the file cannot be written."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    files: dict[str, LogFile] = {
        _MAIN: SizeRotatedFile(path, _MAX_BYTES, _KEEP),
        _ERRORS: SizeRotatedFile(f"{path}.errors", _MAX_BYTES, _KEEP),
        _AUDIT: DailyFile(f"{path}.audit", _AUDIT_DAYS),
    }
    files[_MAIN].write(b"")
    return {name: one.write for name, one in files.items()}


def _to_stream(stream: TextIO | None) -> Write:
    """Writes without the stream's buffer, which a fork would copy."""
    if stream is None:
        return lambda _: None  # a program without standard output
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):
        return lambda data: _write_text(stream, data)
    return lambda data: _write_all(descriptor, data)


def _write_text(stream: TextIO, data: bytes) -> None:
    stream.write(data.decode())
    stream.flush()


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:
            select.select([], [descriptor], [])
