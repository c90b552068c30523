"""The agent's own log: one JSON object per line on stdout, or text if stdout is a terminal."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

from pythonjsonlogger.json import JsonFormatter

from deckwatch.logs.printable import printable


def configure(stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Write all log records to `stream` (default: stdout), replacing the previous configuration."""
    stream = stream or sys.stdout
    handler = logging.StreamHandler(stream)
    if stream.isatty():
        handler.setFormatter(_TerminalFormatter("%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S"))
    else:
        handler.setFormatter(json_formatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


class _TerminalFormatter(logging.Formatter):
    """Messages may quote text from elsewhere. JSON escapes its control characters anyway."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def json_formatter() -> logging.Formatter:
    """Format a record as one JSON line: level, logger, message, timestamp (RFC 3339) and its `extra` fields."""
    return JsonFormatter(
        "%(levelname)s %(name)s %(message)s",
        rename_fields={"levelname": "level", "name": "logger"},
        timestamp=True,
    )
