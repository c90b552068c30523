"""What parsers count."""

from __future__ import annotations

from collections import Counter
from typing import Final

_MAX_JOBS: Final = 100


class Counts:
    """What parsers count. `read` is lines without the blank ones, the rest is records."""

    def __init__(self) -> None:
        self.read = 0
        self.unparsed = 0  # sent as they are
        self.dropped: Counter[str] = Counter()  # by reason: drop, keep, sample
        self.redacted = 0
        self.cut = 0
        self.unread_times = 0
        self.nuls = 0  # bytes that were skipped
        self._cells: dict[tuple[str, str], list[int]] = {}
        self._jobs: set[str] = set()

    @property
    def messages(self) -> Counter[tuple[str, str]]:
        """Records by job and level, those that rules drop included. Beyond 100 jobs it is `other`."""
        return Counter({key: cell[0] for key, cell in list(self._cells.items())})

    def message_cell(self, job: str, level: str) -> list[int]:
        """A list of one number, to be raised for each message of this job and level."""
        if job not in self._jobs and len(self._jobs) >= _MAX_JOBS:
            job = "other"
        else:
            self._jobs.add(job)
        return self._cells.setdefault((job, level), [0])
