"""The log pipeline from files and the agent's own log through the spool to Loki: threads and saved state.

The path of a line:

    RuleReader.take         read (tailing/) and parse (parsing/) the files of a rule, ordered by time (merge.py)
    Batcher.add, take       collect entries and the file positions after them into a payload (loki/batch.py)
    Spool.append            write the payload to disk (spool/)
    RuleReader.commit       advance the file positions
    Shipper                 push the spool's payloads, one thread per destination (loki/ship.py)

A payload is written to the spool completely or not at all, so after a crash each file is read from the last spooled
position. Before the spool deletes payloads, the checkpoint saves their positions.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING

from deckwatch.config.open_files import log_files
from deckwatch.config.private_files import NotPrivateError, make_private_folder
from deckwatch.logs.checkpoint import Checkpoint, position_as_list, position_from_list
from deckwatch.logs.entry import shown_path
from deckwatch.logs.journal_reader import JournalReader, source_names
from deckwatch.logs.known_positions import adopted_positions, checkpoint_key, positions_of, rule_names
from deckwatch.logs.loki.batch import Batcher, Part, counts, decode_header, join
from deckwatch.logs.loki.quarantine import Quarantine
from deckwatch.logs.loki.ship import Shipper
from deckwatch.logs.rule_reader import RuleReader
from deckwatch.logs.spool.segment import HEAD_BYTES, HEADER
from deckwatch.logs.spool.spool import Spool, SpoolError, SpoolFull
from deckwatch.logs.tailing.discovery import Discovery

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from deckwatch.config.log_settings import LogsSettings
    from deckwatch.logs.counts import LogCounts
    from deckwatch.logs.entry import Labels, Position, Progress
    from deckwatch.logs.log_metrics import LogMetrics
    from deckwatch.logs.sources.own_log import OwnLog

# A payload is spooled when it reaches either limit, even if there is more to read.
_MAX_PAYLOAD_LINES = 2000
_MAX_PAYLOAD_BYTES = 1024 * 1024  # as read from the files
_SYNC_EVERY = 1.0  # seconds
_RETRY_AFTER = 2.0  # seconds, if the spool cannot be opened
_FULL_RETRY_AFTER = 0.1  # seconds, if the spool is full
_LAG_EVERY = 5.0  # seconds
_MAX_LAG_FILES = 50
# Number of streams, most recently used first, for which the newest timestamp survives a restart.
_MAX_STREAM_TIMES = 1000


class Pipeline:
    """Runs from `start()` to `stop()`. Restarts after a failure.

    `folder` is where the checkpoint and the quarantine are stored; `own` is the agent's own log,
    `metrics` what is measured in lines.
    """

    def __init__(
        self,
        settings: LogsSettings,
        folder: Path,
        spool_folder: Path,
        counts: LogCounts,
        own: OwnLog,
        metrics: LogMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._spool_folder = spool_folder
        self.counts = counts
        self._clock = clock
        self._log = logging.getLogger("deckwatch.logs")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="deckwatch-logs", daemon=True)
        self._own = own
        self._metrics = metrics
        #: Why spooling fails; empty while it works.
        self.error = ""

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Spool what can be read, then stop. Wait at most `timeout` seconds."""
        self._stop.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            try:
                with _PipelineRun(
                    self._settings,
                    self._folder,
                    self._spool_folder,
                    self.counts,
                    self._own,
                    self._metrics,
                    self._clock,
                ) as work:
                    self._set_error("")
                    work.run(self._stop)
                return
            except (SpoolError, OSError, ValueError) as failure:
                self._set_error(str(failure))
            except Exception as failure:  # noqa: BLE001  the next run reads again what was not spooled
                error = f"{type(failure).__name__}: {failure}"
                if error != self.error:
                    self._log.exception("reading logs", extra={"event": "logs.failed"})
                self._set_error(error)
            if self._stop.wait(_RETRY_AFTER):
                return

    def _set_error(self, error: str) -> None:
        before, self.error = self.error, error
        if error and error != before:
            self._log.error(
                "log reading is paused because the spool cannot be used: %s", error, extra={"event": "logs.failing"}
            )
        elif before and not error:
            self._log.info("log reading has resumed", extra={"event": "logs.recovered"})


class _PipelineRun:
    """One run of the pipeline, from opening the spool to closing it."""

    def __init__(
        self,
        settings: LogsSettings,
        folder: Path,
        spool_folder: Path,
        counted: LogCounts,
        own: OwnLog,
        metrics: LogMetrics,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._counts = counted
        self._own = own
        self._clock = clock
        self._log = logging.getLogger("deckwatch.logs")
        self._batcher = Batcher()
        # The offset up to which each file's entries are in the batcher, by rule number and file key.
        self._batched: dict[tuple[int, str], tuple[Progress, int]] = {}
        self._payload: bytes | None = None  # a payload that did not fit into the spool
        self._newest: dict[Labels, int] = {}  # newest Unix nanoseconds by stream, most recently used last
        self._synced = clock()
        self._lag_due = 0.0
        self._stopping = threading.Event()
        spool = settings.spool
        # A payload must fit into the spool, which may be small.
        self._max_payload_bytes = min(_MAX_PAYLOAD_BYTES, spool.max_bytes // 8)
        _make_state_folder(folder)
        self._spool = Spool(spool_folder, spool.max_bytes, spool.when_full, spool.segment_bytes, self._dropped)
        try:
            self._checkpoint = Checkpoint(folder / "positions.json")
            positions = self._recovered()
            self._names = rule_names(settings.files)
            most = log_files(len(settings.files))
            patterns = [Discovery(one.path, one.exclude, self._problem) for one in settings.files]
            # Of files that no rule follows any more. An edited pattern may match them, or the next reload restores it.
            names = {*self._names, *source_names(settings.journal)}
            orphaned = {key: one for key, one in positions.items() if key.partition(" ")[2] not in names}
            adopted: set[str] = set()
            self._rules: list[RuleReader | JournalReader] = [
                RuleReader(
                    one,
                    adopted_positions(own_pattern, positions_of(name, positions), orphaned, adopted),
                    {},
                    counted.parsed,
                    self._problem,
                    most,
                    metrics,
                    [other for other in patterns if other is not own_pattern],
                )
                for name, one, own_pattern in zip(self._names, settings.files, patterns, strict=True)
            ]
            counted.journals.clear()
            counted.journal_errors.clear()
            for name, source in zip(source_names(settings.journal), settings.journal, strict=True):
                self._names.append(name)
                known = positions_of(name, positions)
                self._rules.append(JournalReader(source, name, known, counted, self._problem, metrics=metrics))
            self._orphaned = {
                key: position
                for key, position in orphaned.items()
                if key not in adopted and os.path.lexists(position.path)
            }
            counted.use_spool(self._spool, spool.max_bytes)
            quarantine = Quarantine(folder)
            self._shippers = [
                Shipper(self._spool.reader(it.name), it.settings, quarantine, it.counts, self._stopping)
                for it in counted.destinations(settings.destinations)
            ]
        except BaseException:
            self._spool.close()
            raise

    def __enter__(self) -> _PipelineRun:
        for shipper in self._shippers:
            shipper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._counts.use_spool(None)
        for rule in self._rules:
            rule.close()
        for shipper in self._shippers:
            shipper.join(2.0)
        self._spool.close()

    def _recovered(self) -> dict[str, Position]:
        """Return the file positions from the checkpoint and from the payloads that were spooled after it."""
        place, positions, newest = self._checkpoint.load()
        if newest:
            self._batcher.resume(join([Part(dict(labels), b"", 0, time, time) for labels, time in newest.items()], {}))
        self._newest = newest
        for _, payload in self._spool.records(place):
            for key, values in decode_header(payload)["p"].items():
                positions[key] = position_from_list(values)
            self._batcher.resume(payload)
            self._note_newest(payload)
        return positions

    def _note_newest(self, payload: bytes) -> None:
        for stream in decode_header(payload)["s"]:
            labels = tuple(sorted(stream["l"].items()))
            self._newest[labels] = max(self._newest.pop(labels, 0), stream["t"][1])
        for labels in list(self._newest)[: max(0, len(self._newest) - _MAX_STREAM_TIMES)]:
            del self._newest[labels]

    def run(self, stop: threading.Event) -> None:
        due = 0.0
        while True:
            stopping = stop.is_set()
            now = self._clock()
            if now >= due or stopping:
                due = now + self._settings.poll_interval
                for rule in self._rules:
                    rule.poll()
            moved = self._payload is None and self._read()
            moved = self._write() or moved
            if now - self._synced >= _SYNC_EVERY or stopping:
                self._sync()
            if self._payload is not None:
                self._sync()  # frees payloads that all destinations have acknowledged
                if stop.wait(_FULL_RETRY_AFTER):
                    return
            elif stopping and not moved:
                self._sync()
                return
            elif not moved:
                stop.wait(max(0.0, due - self._clock()))

    def _read(self) -> bool:
        """Fill the batcher. Return whether there was anything to read."""
        moved, size = False, 0
        if entries := self._own.take():
            self._batcher.add(entries)
            for entry in entries:
                labels = dict(entry.labels)
                self._counts.parsed.message_cell(labels.get("job", ""), labels["level"])[0] += 1
            moved = True
        for number, rule in enumerate(self._rules):
            for run in rule.take():
                moved = True
                if run.entries:
                    self._batcher.add(run.entries)
                _, before = self._batched.get((number, run.file.key), (run.file, run.file.committed))
                size += run.offset - before
                self._batched[number, run.file.key] = run.file, run.offset
                if self._batcher.lines >= _MAX_PAYLOAD_LINES or size >= self._max_payload_bytes:
                    size = 0
                    self._write()
                    if self._payload is not None:
                        return True
        return moved

    def _write(self) -> bool:
        """Spool the contents of the batcher. Return whether any position advanced."""
        if self._payload is None:
            if not self._batched and not self._batcher.lines:
                return False
            positions = {
                checkpoint_key(self._names[number], key): position_as_list(file.position_at(offset))
                for (number, key), (file, offset) in self._batched.items()
            }
            if self._batcher.lines:
                self._payload = self._batcher.take(positions)
        if self._payload is not None and not self._append(self._payload):
            return False
        self._payload = None
        for (number, _), (file, offset) in self._batched.items():
            self._rules[number].commit(file, offset)
        self._batched.clear()
        return True

    def _append(self, payload: bytes) -> bool:
        """Spool or drop a payload. Return False if it must be retried: the spool or the disk is full."""
        try:
            self._spool.append(payload)
        except SpoolFull:
            room = self._settings.spool.max_bytes - len(HEADER) - HEAD_BYTES
            if self._settings.spool.when_full == "block" and len(payload) <= room:
                return False
            self._dropped(payload, "full")
            return True
        except OSError as failure:
            self._counts.write_failed(failure)
            return False
        self._counts.written(len(payload))
        self._note_newest(payload)
        return True

    def _dropped(self, payload: bytes, reason: str) -> None:
        self._counts.dropped[reason] += counts(payload)[0]

    def _sync(self) -> None:
        self._synced = self._clock()
        end = self._spool.end
        positions = self._orphaned | {
            checkpoint_key(name, key): position
            for name, rule in zip(self._names, self._rules, strict=True)
            for key, position in rule.positions().items()
        }
        try:
            self._spool.sync()
            self._checkpoint.save(end, positions, self._newest)
        except OSError as failure:
            self._counts.write_failed(failure)
            return
        self._spool.release(end)
        if self._synced >= self._lag_due:
            self._lag_due = self._synced + _LAG_EVERY
            lags = sorted(((lag, path) for rule in self._rules for path, lag in rule.lag()), reverse=True)
            self._counts.lags = {shown_path(path): lag for lag, path in reversed(lags[:_MAX_LAG_FILES])}

    def _problem(self, path: str, message: str) -> None:
        shown = shown_path(path)
        self._log.warning("%s: %s", shown, shown_path(message), extra={"event": "logs.file", "path": shown})


def _make_state_folder(folder: Path) -> None:
    try:
        make_private_folder(folder)
    except NotPrivateError as error:
        raise SpoolError(f"the state folder {folder} is not used: {error.filename}: {error.strerror}") from None
    except OSError as error:
        raise SpoolError(f"the state folder {folder} cannot be made ({error.strerror}): set --state-dir") from None
