"""The agent's own log and events as a log source."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

from deckwatch.logs.agent_log import json_formatter
from deckwatch.logs.entry import Entry, Labels
from deckwatch.logs.parsing.levels import normalized

if TYPE_CHECKING:
    from collections.abc import Mapping

#: These loggers are not shipped, because each message about a failed push would cause another push.
_SHIPPING = "deckwatch.logs"
_MAX_WAITING = 10_000


class OwnLog(logging.Handler):
    """Buffers log records until the pipeline takes them. Never blocks the logging code or raises into it.

    Survives a reload, so that no record is lost between two pipelines.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(json_formatter())
        self._labels: Mapping[str, str] = {}
        self._by_level: dict[str, Labels] = {}
        self._waiting: deque[Entry] = deque()
        self.dropped = 0  # lines dropped because the buffer was full

    def use(self, labels: Mapping[str, str] | None) -> None:
        """Start buffering with these labels, or stop if they are None."""
        if labels is None:
            logging.getLogger().removeHandler(self)
            return
        self._labels, self._by_level = dict(labels), {}
        logging.getLogger().addHandler(self)  # no effect if already added

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == _SHIPPING or record.name.startswith(f"{_SHIPPING}."):
            return
        if len(self._waiting) >= _MAX_WAITING:
            self.dropped += 1
            return
        try:
            text = self.format(record)
        except (TypeError, ValueError):
            self.handleError(record)
            return
        self._waiting.append(Entry(self._labels_of(record.levelname), int(record.created * 1e9), text, {}, 0))

    def _labels_of(self, level: str) -> Labels:
        known = self._by_level  # use() may replace it in another thread
        labels = known.get(level)
        if labels is None:
            labels = known[level] = tuple(sorted({**self._labels, "level": normalized(level)}.items()))
        return labels

    def take(self) -> list[Entry]:
        """Return and remove the buffered entries, oldest first."""
        entries = []
        while self._waiting:
            entries.append(self._waiting.popleft())
        return entries
