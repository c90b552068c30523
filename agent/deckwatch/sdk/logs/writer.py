"""A thread that writes lines, so that no call to a logger waits for a disk or a pipe."""

import atexit
import contextlib
import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping

from deckwatch.sdk.declared import LOG_LINES_DROPPED
from deckwatch.sdk.library_metrics import counter_of

_MAX_QUEUED = 10_000
_MAX_BATCH = 500
_MAX_WAIT_AT_EXIT = 5.0

Write = Callable[[bytes], None]
_Line = tuple[tuple[str, ...], str]


class Writer:
    """Writes lines to named destinations in the order in which they were put. Safe to use before and after a fork.

    If the queue is full, lines are dropped and counted. Lines that are put after the end of the interpreter has begun
    are written at once.
    """

    def __init__(self, destinations: Mapping[str, Write]) -> None:
        self._destinations = dict(destinations)
        self._reported: set[str] = set()
        self._is_closed = False
        self._start_empty()
        atexit.register(self.close)
        os.register_at_fork(after_in_child=self._after_fork)

    def put(self, names: tuple[str, ...], line: str) -> None:
        """Queue a line for these destinations. Never blocks; may be called by a signal handler."""
        if self._is_closed:
            self._write_now([(names, line)])
            return
        if self._queue.qsize() >= _MAX_QUEUED:
            counter_of(LOG_LINES_DROPPED).labels("queue_full").inc()
            return
        self._queue.put((names, line))
        if self._thread is None:
            self._start_thread()

    def flush(self, timeout: float = _MAX_WAIT_AT_EXIT) -> None:
        """Wait until all lines that were put before have been written, or the timeout is over."""
        if self._thread is not None and self._thread.is_alive():
            written = threading.Event()
            self._queue.put(written)
            written.wait(timeout)

    def close(self) -> None:
        if not self._is_closed:
            self.flush()
            self._is_closed = True
            self._queue.put(None)

    def _start_empty(self) -> None:
        self._queue: queue.SimpleQueue[_Line | threading.Event | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._start_lock = threading.RLock()
        self._write_lock = threading.RLock()

    def _start_thread(self) -> None:
        with self._start_lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="deckwatch-log", daemon=True)
                with contextlib.suppress(RuntimeError):  # the interpreter is ending: `close` follows
                    self._thread.start()

    def _run(self) -> None:
        lines = self._queue
        while True:
            batch: list[_Line] = []
            item = lines.get()
            while isinstance(item, tuple):
                batch.append(item)
                if len(batch) >= _MAX_BATCH or lines.empty():
                    break
                item = lines.get()
            self._write_now(batch)
            if isinstance(item, threading.Event):
                item.set()
            elif item is None:
                return

    def _write_now(self, batch: list[_Line]) -> None:
        texts: dict[str, list[str]] = {}
        for names, line in batch:
            for name in names:
                texts.setdefault(name, []).append(line)
        with self._write_lock:
            for name, lines in texts.items():
                data = ("\n".join(lines) + "\n").encode("utf-8", "replace")
                try:
                    self._destinations[name](data)
                    self._reported.discard(name)
                except (OSError, ValueError) as failure:  # ValueError: the stream is closed
                    self._report(name, len(lines), failure)

    def _report(self, name: str, lines: int, failure: Exception) -> None:
        """Count lines that could not be written, and say so once on standard error."""
        counter_of(LOG_LINES_DROPPED).labels("write_failed").inc(lines)
        if name not in self._reported:
            self._reported.add(name)
            with contextlib.suppress(OSError, ValueError, AttributeError):
                sys.stderr.write(f"deckwatch: cannot write log lines: {name}: {failure}. Lines are dropped.\n")

    def _after_fork(self) -> None:
        """The queued lines are the parent's; the child starts a thread with its first line."""
        self._start_empty()
        # Children of these libraries end without the functions of atexit, and clear finalizers when they start.
        for library in ("multiprocessing.util", "billiard.util"):
            util = sys.modules.get(library)
            if util is not None:
                util.register_after_fork(self, _flush_at_exit_of[library])


def _flush_at_exit(library: str) -> Callable[[Writer], None]:
    def register(writer: Writer) -> None:
        sys.modules[library].Finalize(writer, writer.flush, exitpriority=-1000)

    return register


_flush_at_exit_of = {library: _flush_at_exit(library) for library in ("multiprocessing.util", "billiard.util")}
