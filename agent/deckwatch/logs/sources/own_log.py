"""The agent's own log and events on their way to Loki."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

from deckwatch.logs.agent_log import json_formatter
from deckwatch.logs.entry import Entry, Labels
from deckwatch.logs.parsing.levels import normalized

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What these say would go round in circles: each message about a failed push would be pushed.
_SHIPPING = "deckwatch.logs"
_MAX_WAITING = 10_000


class OwnLog(logging.Handler):
    """Takes what is logged until the pipeline fetches it. Never waits, and never raises into whoever logs.

    It outlives a reload, so that nothing is missed between two pipelines.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(json_formatter())
        self._labels: Mapping[str, str] = {}
        self._by_level: dict[str, Labels] = {}
        self._waiting: deque[Entry] = deque()
        self.dropped = 0  # lines, since nobody fetched those before them

    def use(self, labels: Mapping[str, str] | None) -> None:
        """Take what is logged from now on, with these labels; None is to take nothing."""
        if labels is None:
            logging.getLogger().removeHandler(self)
            return
        self._labels, self._by_level = dict(labels), {}
        logging.getLogger().addHandler(self)  # once, however often it is called

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
        known = self._by_level  # of the labels of this moment
        labels = known.get(level)
        if labels is None:
            labels = known[level] = tuple(sorted({**self._labels, "level": normalized(level)}.items()))
        return labels

    def take(self) -> list[Entry]:
        """What was logged since the last time, oldest first."""
        entries = []
        while self._waiting:
            entries.append(self._waiting.popleft())
        return entries
