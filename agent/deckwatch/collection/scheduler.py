"""The schedule: when each job runs, and the threads that it runs in.

Probes that cannot block share one job for each target, since a job costs more than they do. A hung run costs its
thread, and never starts a second time while it hangs.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from deckwatch.collection.run import run_once
from deckwatch.collection.run_times import Rhythm
from deckwatch.collection.scrape_period import Pace
from deckwatch.metrics.encoding import Encoder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from deckwatch.collection.board import Board
    from deckwatch.collection.run import SeriesBudget, Snapshot
    from deckwatch.exporter import Probe

# Threads are started as they are needed: this only bounds how many hung targets one agent can bear.
_MAX_THREADS = 512
# Runs are called off after this many gaps without an end.
_GAPS_TO_EXPIRE = 3
# How long nobody looks at the clock at the most (seconds).
_LOOK = 5.0


class Job:
    """Probes of one target that run one after the other, and when they do."""

    def __init__(
        self,
        name: str,
        probes: Sequence[Probe],
        budget: SeriesBudget,
        rhythm: Rhythm,
        board: Board,
        logger: logging.Logger,
        clock: Callable[[], float],
    ) -> None:
        self.name = name
        self.probes = tuple(probes)
        self.rhythm = rhythm
        self.running_since: float | None = None
        self.next_run = 0.0  # Unix seconds
        self._removed = threading.Event()
        self._idle = threading.Lock()  # held by a run that is under way
        self._budget = budget
        self._board = board
        self._log = logger
        self._clock = clock
        self._encoders = {probe: Encoder(probe.target) for probe in self.probes}
        self._errors: dict[str, str] = {}

    @property
    def valid_for(self) -> float:
        """Seconds for which a snapshot counts when no newer one comes."""
        return _GAPS_TO_EXPIRE * self.rhythm.gap(self._clock())

    @property
    def longest_wait(self) -> float:
        """Seconds until the next run can be due at the most."""
        return 2.0 * max(self.rhythm.wanted_gap, self.rhythm.gap(self._clock())) + 1.0

    def plan(self) -> None:
        """Set `next_run` to when the job is due again after the run that is due now."""
        now = self._clock()
        self.next_run = self.rhythm.next_run(min(self.next_run, now), now)

    def run(self) -> None:
        if not self._idle.acquire(blocking=False):
            return  # closed in the meantime, or the last run still hangs
        try:
            self._run()
        finally:
            self._idle.release()
        if self._removed.is_set():
            self._close()

    def remove(self) -> None:
        """Close the probes: now, or when the run that is under way ends."""
        self._removed.set()
        self._close()

    def _run(self) -> None:
        self.running_since = began = self._clock()
        ok = False
        for probe in self.probes:
            if self._removed.is_set():
                break
            snapshot = run_once(probe, self._encoders[probe], self._budget, self._clock)
            ok = ok or not snapshot.error
            self._log_change(snapshot)
            self._board.post(snapshot, self.valid_for)
        # Back-off is for a target that keeps failing, not for one that lacks a privilege for some figure.
        self.rhythm.ran(self._clock() - began, ok)
        self.running_since = None

    def _close(self) -> None:
        if self._idle.acquire(blocking=False):
            # Never released: whoever gets here first closes, and no later run can start.
            for probe in self.probes:
                probe.close()

    def _log_change(self, snapshot: Snapshot) -> None:
        before = self._errors.get(snapshot.probe, "")
        if bool(before) == bool(snapshot.error):
            return
        self._errors[snapshot.probe] = snapshot.error
        what = f"{snapshot.probe} ({snapshot.target})" if snapshot.target else snapshot.probe
        fields = {"collector": snapshot.probe, "target": snapshot.target, "duration": round(snapshot.duration, 3)}
        if snapshot.error:
            self._log.warning("%s is failing: %s", what, snapshot.error, extra={"event": "collector.failing", **fields})
        else:
            self._log.info("%s works again", what, extra={"event": "collector.recovered", **fields})


class Schedule:
    """Runs jobs and posts what they give to the board."""

    def __init__(self, board: Board, clock: Callable[[], float] = time.time) -> None:
        self._board = board
        self._clock = clock
        self._log = logging.getLogger("deckwatch.collector")
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._jobs: dict[str, Job] = {}
        self._paces: dict[str, Pace] = {}
        self._due: list[tuple[float, int, Job]] = []  # a heap; a job stands there once, until it is removed
        self._order = itertools.count()
        self._pool = ThreadPoolExecutor(_MAX_THREADS, "deckwatch-collect")
        self._thread = threading.Thread(target=self._run, name="deckwatch-schedule", daemon=True)
        self._stopped = False

    def arrival(self, client: str, target: str = "") -> None:
        """A scrape of the whole agent, or of one target, has come."""
        self._pace(target).arrival(client, self._clock())

    def add(
        self,
        name: str,
        probes: Sequence[Probe],
        budget: SeriesBudget,
        interval: float,
        *,
        exporter: str,
        scrape_prefix: str = "",
        fixed: bool = False,
    ) -> None:
        """Run `probes`, all of one target, as a job of this (unique) name, the first time at once."""
        target = probes[0].target
        own, whole = self._pace(target), self._pace("")
        with self._lock:
            spread = (len(self._jobs) % 16) * 0.02
        rhythm = Rhythm(interval, lambda after: own.next_beat(after) or whole.next_beat(after), fixed, spread)
        job = Job(name, probes, budget, rhythm, self._board, self._log, self._clock)
        for probe in probes:
            self._board.add(probe, exporter, scrape_prefix, job.valid_for)
        job.next_run = self._clock() + spread
        with self._changed:
            self._jobs[name] = job
            heapq.heappush(self._due, (job.next_run, next(self._order), job))
            self._changed.notify()

    def remove(self, name: str) -> None:
        """Stop a job and take its samples away. One that is under way closes its probes when it ends."""
        with self._lock:
            job = self._jobs.pop(name)
            self._due = [entry for entry in self._due if entry[2] is not job]
            heapq.heapify(self._due)
        for probe in job.probes:
            self._board.remove(probe)
        job.remove()

    def set_interval(self, interval: float) -> None:
        """Change the interval (seconds) of all jobs that have no fixed one."""
        for job in self.jobs():
            if not job.rhythm.fixed:
                job.rhythm.interval = interval

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Start no more runs. Does not wait for those under way: one of them may hang."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def jobs(self) -> list[Job]:
        with self._lock:
            return list(self._jobs.values())

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._stopped and (left := self._left()) > 0:
                    self._changed.wait(left)
                if self._stopped:
                    return
                job = heapq.heappop(self._due)[2]
                job.plan()
                heapq.heappush(self._due, (job.next_run, next(self._order), job))
                self._pool.submit(job.run)

    def _left(self) -> float:
        """Seconds until something has to be done: at most `_LOOK`, since the clock may be set."""
        if not self._due:
            return _LOOK
        left = self._due[0][0] - self._clock()
        if left > _LOOK:
            return 0.0 if left > self._due[0][2].longest_wait else _LOOK  # it was set back
        return left

    def _pace(self, target: str) -> Pace:
        with self._lock:
            return self._paces.setdefault(target, Pace())
