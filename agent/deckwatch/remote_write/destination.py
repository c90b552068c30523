"""One receiver: a thread that puts scrapes into a queue on disk, and one that sends them in order."""

from __future__ import annotations

import logging
import random
import struct
import threading
import time
from typing import TYPE_CHECKING

from deckwatch.logs.loki.protobuf import snappy
from deckwatch.logs.spool.spool import Spool, SpoolError, SpoolFull
from deckwatch.remote_write.encoding import RequestEncoder
from deckwatch.remote_write.sending import Sender
from deckwatch.remote_write.series import OwnLabels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from deckwatch.config.remote_write_settings import RemoteWriteSettings
    from deckwatch.remote_write.counts import Counts
    from deckwatch.remote_write.encoding import Request

#: Before each request in the queue: version of the protocol times ten, samples, time in Unix milliseconds.
_HEAD = struct.Struct("<BIQ")
_PROTOCOLS = {10: "1.0", 20: "2.0"}
_SEGMENT_BYTES = 8 * 1024**2
_FIRST_BACKOFF = 0.5  # seconds
_READ_BYTES = 4 * 1024**2


class Destination:
    """Sends to one receiver. `scrape` makes the exposition for a client; `folder` holds the queue."""

    def __init__(
        self,
        settings: RemoteWriteSettings,
        interval: float,
        scrape: Callable[[str], bytes],
        folder: Path,
        counts: Counts,
    ) -> None:
        self._settings = settings
        self._interval = settings.interval or interval
        self._scrape = scrape
        self._counts = counts
        self._log = logging.getLogger("deckwatch.remote_write")
        self._stopping = threading.Event()
        self._encoder = RequestEncoder(settings.protocol, OwnLabels(settings.job, settings.instance, settings.labels))
        self._compress = snappy()
        self._spool = Spool(folder, settings.queue.max_bytes, "drop_oldest", _SEGMENT_BYTES, self._dropped)
        self._reader = self._spool.reader("sent")
        self._spool.release(self._spool.end)
        self._threads = [
            threading.Thread(target=self._write, name=f"remote_write {settings.title}", daemon=True),
            threading.Thread(target=self._ship, name=f"remote_write sender {settings.title}", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End all series, and stop. What was not sent stays in the queue."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._spool.close()

    # The writer

    def _write(self) -> None:
        next_at = time.monotonic()
        while not self._stopping.wait(max(0.0, next_at - time.monotonic())):
            # Missed times are left out.
            next_at = max(next_at + self._interval, time.monotonic())
            self._queue_scrape()
        self._queue(self._encoder.ends(_milliseconds()))

    def _queue_scrape(self) -> None:
        began = time.perf_counter()
        try:
            exposition = self._scrape(f"remote_write {self._settings.title}")
        except Exception as failure:  # noqa: BLE001  the next scrape may succeed
            self._counts.fail("scrape", f"{type(failure).__name__}: {failure}")
            return
        self._queue(self._encoder.requests(exposition, _milliseconds(), time.perf_counter() - began))

    def _queue(self, requests: Iterable[Request]) -> None:
        version = int(float(self._settings.protocol) * 10)
        for request in requests:
            try:
                self._spool.append(_HEAD.pack(version, request.samples, request.time) + self._compress(request.body))
                self._spool.sync()
                self._spool.release(self._spool.end)
            except (OSError, SpoolFull) as failure:
                self._counts.drop("queue", request.samples)
                self._counts.fail(
                    "queue", f"cannot write to the queue: {getattr(failure, 'strerror', None) or failure}"
                )
        self._counts.pending_bytes = self._reader.pending_bytes

    def _dropped(self, payload: bytes, reason: str) -> None:
        self._counts.drop(reason, _HEAD.unpack_from(payload)[1])

    # The sender

    def _ship(self) -> None:
        try:
            sender = Sender(self._settings, self._stopping)
        except OSError as failure:
            self._counts.fail("tls", f"{failure.filename}: {failure.strerror}. Check tls.")
            return
        try:
            while not self._stopping.is_set():
                try:
                    self._ship_some(sender)
                except Exception as failure:  # noqa: BLE001  the shipping loop must not end unseen
                    self._counts.fail("internal", f"{type(failure).__name__}: {failure}")
                    self._reader.rewind()
                    self._stopping.wait(_FIRST_BACKOFF)
        finally:
            self._ship_rest(sender)
            sender.close()

    def _ship_some(self, sender: Sender) -> None:
        try:
            records = self._reader.read(_READ_BYTES, max_wait=1.0)
        except OSError as failure:
            self._counts.fail("queue", f"cannot read the queue: {failure.strerror}")
            self._stopping.wait(1.0)
            return
        for cursor, payload in records:
            if not self._send(sender, payload):
                self._reader.rewind()
                return
            self._acknowledge(cursor)

    def _ship_rest(self, sender: Sender) -> None:
        """At the end, send what is there as long as it is accepted at once: the ends of the series."""
        self._threads[0].join()
        try:
            for cursor, payload in self._reader.read(_READ_BYTES):
                version, samples, _ = _HEAD.unpack_from(payload)
                if sender.send(_PROTOCOLS[version], payload[_HEAD.size :]).reason:
                    return
                self._counts.stored(samples)
                self._acknowledge(cursor)
        except OSError:
            return

    def _acknowledge(self, cursor: object) -> None:
        try:
            self._reader.acknowledge(cursor)  # type: ignore[arg-type]  # a Cursor that read() gave
        except OSError as failure:
            self._counts.fail("queue", f"cannot write to the queue: {failure.strerror}")
        self._counts.pending_bytes = self._reader.pending_bytes

    def _send(self, sender: Sender, payload: bytes) -> bool:
        """Send until the receiver has stored or refused the request. False if the agent stops first."""
        version, samples, at = _HEAD.unpack_from(payload)
        backoff = _FIRST_BACKOFF
        while True:
            self._counts.sending = at / 1000
            sent = sender.send(_PROTOCOLS.get(version, "1.0"), payload[_HEAD.size :])
            if not sent.reason:
                self._counts.stored(samples)
                return True
            if sent.is_final:
                self._counts.drop("refused", samples)
                self._counts.refused(sent.text, samples)
                return True
            self._counts.fail(sent.reason, sent.text)
            wait = sent.after if sent.after is not None else backoff * random.uniform(0.8, 1.2)
            if self._stopping.wait(min(wait, 300.0)):
                return False
            backoff = min(backoff * 2, self._settings.max_backoff)


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000


__all__ = ["Destination", "SpoolError"]
