"""The scheduler: when each job runs, and the threads that it runs in.

A run that hangs costs its thread, and does not start a second time while it hangs.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from deckwatch.collection.job import Job
from deckwatch.collection.run_times import RunTimes
from deckwatch.collection.scrape_period import ScrapePeriod

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from deckwatch.collection.board import Board
    from deckwatch.collection.run import NamedCollector, SeriesBudget

# Threads are started when they are needed: this only limits how many targets can hang at the same time.
_MAX_THREADS = 512
# The longest wait in seconds without a look at the clock, which may be set.
_MAX_WAIT = 5.0


class Scheduler:
    """Runs jobs; their snapshots go to the board."""

    def __init__(self, board: Board, clock: Callable[[], float] = time.time) -> None:
        self._board = board
        self._clock = clock
        self._log = logging.getLogger("deckwatch.collector")
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._jobs: dict[str, Job] = {}
        self._periods: dict[str, ScrapePeriod] = {}
        self._due: list[tuple[float, int, int, Job]] = []  # a heap: when, tie-breaker, which plan, job
        self._order = itertools.count()
        self._pool = ThreadPoolExecutor(_MAX_THREADS, "deckwatch-collect")
        self._thread = threading.Thread(target=self._run, name="deckwatch-scheduler", daemon=True)
        self._stopped = False

    def arrival(self, client: str, target: str = "") -> None:
        """A scrape of the whole agent, or of one target, has arrived."""
        self._period(target).arrival(client, self._clock())

    def add(
        self,
        name: str,
        collectors: Sequence[NamedCollector],
        budget: SeriesBudget,
        interval: float,
        *,
        exporter: str,
        scrape_prefix: str = "",
        fixed: bool = False,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        """Run `collectors`, all of one target, as a job of this (unique) name, the first time at once."""
        target = collectors[0].target
        own, whole = self._period(target), self._period("")
        with self._lock:
            spread = (len(self._jobs) % 16) * 0.02
        run_times = RunTimes(interval, lambda after: own.next_scrape(after) or whole.next_scrape(after), fixed, spread)
        job = Job(name, collectors, budget, run_times, self._board, self._log, self._clock, on_end)
        for named in collectors:
            self._board.add(named, exporter, scrape_prefix, job.valid_for(named))
        job.next_run = self._clock() + spread
        with self._changed:
            self._jobs[name] = job
            self._push(job)

    def remove(self, name: str) -> None:
        """Stop a job and withdraw its samples. A run that is under way ends first."""
        with self._lock:
            job = self._jobs.pop(name)
            self._due = [entry for entry in self._due if entry[3] is not job]
            heapq.heapify(self._due)
        job.remove()
        for named in job.collectors:
            self._board.remove(named)

    def set_interval(self, interval: float) -> None:
        """Change the interval (seconds) of all jobs that have no fixed one."""
        for job in self.jobs():
            if not job.run_times.fixed:
                job.run_times.interval = interval

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End all jobs. Does not wait for runs under way: one of them may hang."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._pool.shutdown(wait=False, cancel_futures=True)
        for job in self.jobs():
            job.remove()

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
                _, _, plan, job = heapq.heappop(self._due)
                if plan != job.planned:
                    continue  # replaced by a newer plan
                job.plan()
                self._push(job)
                self._pool.submit(self._run_job, job)

    def _run_job(self, job: Job) -> None:
        if job.run():
            with self._changed:
                if self._jobs.get(job.name) is job:
                    job.plan()
                    self._push(job)

    def _push(self, job: Job) -> None:
        heapq.heappush(self._due, (job.next_run, next(self._order), job.planned, job))
        self._changed.notify()

    def _left(self) -> float:
        """Seconds until something has to be done."""
        if not self._due:
            return _MAX_WAIT
        left = self._due[0][0] - self._clock()
        if left > _MAX_WAIT:
            return 0.0 if left > self._due[0][3].longest_wait else _MAX_WAIT  # it was set back
        return left

    def _period(self, target: str) -> ScrapePeriod:
        with self._lock:
            return self._periods.setdefault(target, ScrapePeriod())
