"""How busy the host is in three figures, for the status page and the health endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deckwatch.metric import Sample


class HostSummary:
    """A collector without samples: it keeps `ratios` up to date, so that no request has to ask a file system."""

    def __init__(self) -> None:
        self.ratios: dict[str, float | None] = {"cpu_ratio": None, "memory_ratio": None, "disk_ratio": None}

    def collect(self) -> Iterable[Sample]:
        self.ratios = {
            "cpu_ratio": psutil.cpu_percent() / 100,
            "memory_ratio": psutil.virtual_memory().percent / 100,
            "disk_ratio": psutil.disk_usage("/").percent / 100,
        }
        return ()
