"""A shipper in its own thread, reading from a real spool."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

from deckwatch.config.log_settings import LokiSettings
from deckwatch.logs.entry import Entry
from deckwatch.logs.loki.batch import Batcher
from deckwatch.logs.loki.quarantine import Quarantine, entries
from deckwatch.logs.loki.ship import Shipper
from deckwatch.logs.loki.ship_counts import ShipCounts
from deckwatch.logs.spool.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from deckwatch.logs.entry import Labels

APP: Labels = (("job", "app"), ("level", "info"))


def settings(url: str, **options: Any) -> LokiSettings:
    fast = {"batch_wait": "50ms", "max_backoff": "200ms", "timeout": "30s"}
    return LokiSettings.model_validate({"url": url, **fast, **options})


class Shipping:
    """A spool with test lines, and a new shipper on each `start()`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spool = Spool(folder / "spool", 2**28, "block", 2**24, lambda *_: None)
        self.reader = self.spool.reader("loki")
        self.batcher = Batcher()
        self.quarantine = Quarantine(folder)
        self.counts = ShipCounts()
        self.stop = threading.Event()
        self.shipper: Shipper | None = None
        self.now = time.time_ns()

    def add(
        self,
        lines: Sequence[str],
        labels: Labels = APP,
        at: int | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Spool lines as one payload, a microsecond apart, starting at `at` (ns) or after the last line."""
        if at is None:
            at, self.now = self.now, self.now + 1000 * len(lines)
        made = [Entry(labels, at + 1000 * n, line, metadata or {}, 0) for n, line in enumerate(lines)]
        self.batcher.add(made)
        self.spool.append(self.batcher.take({}))
        return list(lines)

    def start(self, url: str, **options: Any) -> Shipper:
        self.stop = threading.Event()
        self.shipper = Shipper(self.reader, settings(url, **options), self.quarantine, self.counts, self.stop)
        self.shipper.start()
        return self.shipper

    def halt(self) -> None:
        """Stop the shipper, which must end any wait."""
        self.stop.set()
        if self.shipper is not None:
            self.shipper.join(60)
            assert not self.shipper.is_alive()

    @property
    def done(self) -> bool:
        return self.reader.pending_bytes == 0

    def set_aside(self) -> list[dict[str, Any]]:
        return list(entries(self.folder))


@contextlib.contextmanager
def shipping(folder: Path) -> Iterator[Shipping]:
    made = Shipping(folder)
    try:
        yield made
    finally:
        made.halt()
        made.spool.close()
