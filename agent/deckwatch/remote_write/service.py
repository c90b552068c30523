"""The agent's remote write: its receivers, replaced on reload, and a collector for their counts."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from urllib.parse import quote

from deckwatch.exporter import Finding
from deckwatch.logs.loki.protobuf import literals
from deckwatch.logs.spool.spool import SpoolError
from deckwatch.remote_write.counts import Counts
from deckwatch.remote_write.destination import Destination
from deckwatch.remote_write.sending import Sender

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from deckwatch.config.remote_write_settings import RemoteWriteSettings
    from deckwatch.metrics.declaration import Sample


class RemoteWrite:
    """Sends what `scrape` returns to all receivers. `folder` is the agent's state folder."""

    def __init__(self, folder: Path, scrape: Callable[[str], bytes]) -> None:
        self._folder = folder / "remote_write"
        self._scrape = scrape
        self._running: list[tuple[RemoteWriteSettings, Destination]] = []
        self._counts: dict[str, Counts] = {}
        self._interval = 0.0

    def use(self, settings: Sequence[RemoteWriteSettings], interval: float) -> None:
        """Send to these receivers, each `interval` seconds unless it has its own. Unchanged ones go on."""
        kept = settings if interval == self._interval else ()
        self._interval = interval
        for one, destination in self._running:
            if one not in kept:
                destination.stop()
        self._running = [running for running in self._running if running[0] in kept]
        titles = {one.title for one in settings}
        self._counts = {title: counts for title, counts in self._counts.items() if title in titles}
        for one in settings:
            if all(other != one for other, _ in self._running):
                self._start(one)

    def _start(self, settings: RemoteWriteSettings) -> None:
        counts = self._counts.setdefault(settings.title, Counts(settings.title))
        folder = self._folder / quote(settings.title, safe="")
        try:
            destination = Destination(settings, self._interval, self._scrape, folder, counts)
        except (SpoolError, OSError) as failure:
            counts.fail("queue", f"cannot use the queue: {failure}")
            return
        self._running.append((settings, destination))
        destination.start()

    def failing(self) -> dict[str, tuple[float | None, str]]:
        """Return the start of the failure (Unix seconds; None if it works) and the error, by receiver."""
        return {name: (counts.failing_since, counts.error) for name, counts in self._counts.items()}

    def collect(self) -> Iterable[Sample]:
        return [sample for counts in self._counts.values() for sample in counts.samples()]


def check_remote_write(settings: Sequence[RemoteWriteSettings]) -> Iterator[tuple[str, Finding]]:
    """Send an empty request to each receiver. Yields its name and the result."""
    for one in settings:
        try:
            sender = Sender(one, threading.Event())
        except OSError as failure:
            yield one.title, Finding("failed", f"{failure.filename}: {failure.strerror}", "check tls")
            continue
        sent = sender.send(one.protocol, literals(b""))
        sender.close()
        # Some receivers refuse a request without samples, which proves that the client may send.
        is_ok = not sent.reason or sent.is_final
        yield one.title, Finding("ok", "accepts samples") if is_ok else Finding("failed", sent.text)
