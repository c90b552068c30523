"""The agent's own log: one JSON object per line on stdout, or text if stdout is a terminal."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

from pythonjsonlogger.json import JsonFormatter


def configure(stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Write all log records to `stream` (default: stdout), replacing the previous configuration."""
    stream = stream or sys.stdout
    handler = logging.StreamHandler(stream)
    if stream.isatty():
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S"))
    else:
        handler.setFormatter(json_formatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


def json_formatter() -> logging.Formatter:
    """Format a record as one JSON line: level, logger, message, timestamp (RFC 3339) and its `extra` fields."""
    return JsonFormatter(
        "%(levelname)s %(name)s %(message)s",
        rename_fields={"levelname": "level", "name": "logger"},
        timestamp=True,
    )
