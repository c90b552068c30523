"""How busy the host is in three figures, for the status page and the health endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

from deckwatch.collection.status import HostStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deckwatch.metrics.declaration import Sample


class HostSummary:
    """A collector without samples: it keeps `status` up to date, so that no request has to ask a file system."""

    def __init__(self) -> None:
        self.status = HostStatus()
        self._has_cpu_times = False

    def collect(self) -> Iterable[Sample]:
        self.status = HostStatus(
            cpu_ratio=self._cpu_ratio(),
            memory_ratio=psutil.virtual_memory().percent / 100,
            disk_ratio=psutil.disk_usage("/").percent / 100,
        )
        return ()

    def _cpu_ratio(self) -> float | None:
        """CPU usage since the last run; unknown in the first one, for which psutil returns 0."""
        percent = psutil.cpu_percent()
        known, self._has_cpu_times = self._has_cpu_times, True
        return percent / 100 if known else None
