"""The scheduler: when each job runs, and the threads that it runs in.

One thread waits for the next job and runs it itself, then the ones that are due by then. A second one takes over when
that takes long. So jobs that end quickly, as most do, cost no hand-off between threads, and one that hangs costs its
thread. A job does not start a second time while it hangs.

The threads are a bounded pool. It grows only by runs that are stuck, or that begin while their target is down.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from typing import TYPE_CHECKING

from deckwatch.collection.job import Job
from deckwatch.collection.run_times import RunTimes
from deckwatch.collection.scrape_period import ScrapePeriod
from deckwatch.metrics.encoding import Layouts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from deckwatch.collection.board import Board
    from deckwatch.collection.run import NamedCollector, SeriesBudget

#: Runs at the same time, without those that are stuck.
MAX_RUNS = 32
# The interpreter executes one thread at a time: while it is busy for this part of the time, more runs would end no
# earlier, and delay answers.
_BUSY = 0.7
_MAX_RUNS_WHILE_BUSY = 2
_LOAD_OVER = 0.1  # seconds
# Seconds after which a run counts as stuck.
_STUCK = 0.5
# Limits how many targets can hang at the same time.
_MAX_THREADS = 512
# The longest wait in seconds without a look at the clock, which may be set.
_MAX_WAIT = 5.0
# Seconds after which the second thread takes over the jobs that are due.
_GRACE = 0.05
# A thread that has just run a job also runs those that are due within so many seconds, which saves a wake-up.
_AHEAD = 0.05


class Scheduler:
    """Runs jobs; their snapshots go to the board. A run counts as stuck after `stuck_after` seconds."""

    def __init__(self, board: Board, clock: Callable[[], float] = time.time, stuck_after: float = _STUCK) -> None:
        self._board = board
        self._clock = clock
        self._stuck_after = stuck_after
        self._layouts = Layouts()
        self._log = logging.getLogger("deckwatch.collector")
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)  # the first thread waits for it
        self._overdue = threading.Condition(self._lock)  # the second one does
        self._jobs: dict[str, Job] = {}
        self._periods: dict[str, ScrapePeriod] = {}
        self._due: list[tuple[float, int, int, Job]] = []  # a heap: when, tie-breaker, which plan, job
        self._order = itertools.count()
        self._threads = 0
        self._running: dict[int, float] = {}  # by thread: when (by time.monotonic()) its run counts as stuck
        self._load = _Load()
        self._has_first = self._has_second = False  # whether a thread waits in this role
        self._must_lead = False  # whether the second thread becomes the first at once
        self._second_until = 0.0  # Unix seconds: when the second thread looks at the jobs
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
        run_times = RunTimes(interval, lambda after: own.next_scrape(after) or whole.next_scrape(after), fixed)
        job = Job(name, collectors, budget, run_times, self._board, self._log, self._clock, on_end, self._layouts)
        for named in collectors:
            self._board.add(named, exporter, scrape_prefix, job.valid_for(named))
        job.next_run = self._clock()
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
        with self._lock:
            self._start_thread()

    def stop(self) -> None:
        """End all jobs. Does not wait for runs under way: one of them may hang."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
            self._overdue.notify()
        for job in self.jobs():
            job.remove()

    def jobs(self) -> list[Job]:
        with self._lock:
            return list(self._jobs.values())

    def _start_thread(self) -> None:
        self._threads += 1
        threading.Thread(target=self._work, name="deckwatch-collect", daemon=True).start()

    def _work(self) -> None:
        """Run jobs until two other threads wait for them."""
        ahead = 0.0
        while (job := self._next(ahead)) is not None:
            if job.run():
                with self._changed:
                    if self._jobs.get(job.name) is job:
                        job.plan()
                        self._push(job)
            ahead = _AHEAD

    def _next(self, ahead: float) -> Job | None:
        """Wait for a job and plan its following run. `ahead`: take one that is due within so many seconds.

        None ends the thread.
        """
        with self._lock:
            self._running.pop(threading.get_ident(), None)
            job = self._take(ahead)
            if job is None and not self._has_first:
                job = self._wait_first()
            elif job is None and not self._has_second:
                job = self._wait_second()
            if job is None:
                self._threads -= 1
                return None
            self._running[threading.get_ident()] = time.monotonic() + (0.0 if job.is_down else self._stuck_after)
            if job.is_slow and self._has_second:
                self._must_lead = True
                self._overdue.notify()
            elif not (self._has_first or self._has_second) and self._threads < _MAX_THREADS:
                self._start_thread()
            return job

    def _wait_first(self) -> Job | None:
        """Wait until a job is due. None when the scheduler stops."""
        self._has_first = True
        job = None
        while not self._stopped and (job := self._take()) is None:
            self._changed.wait(self._left())
        self._has_first = False
        return job

    def _wait_second(self) -> Job | None:
        """Wait until a job is overdue while no first thread waits, or take its role. None when the scheduler stops."""
        self._has_second = True
        job = None
        while not self._stopped and not self._must_lead:
            left = max(0.0, self._left())
            self._second_until = self._clock() + left
            self._overdue.wait(left + _GRACE)
            if not self._has_first and (job := self._take()) is not None:
                break
        self._has_second = self._must_lead = False
        if job is None and not self._has_first:
            return self._wait_first()
        return job

    def _take(self, ahead: float = 0.0) -> Job | None:
        """The job that is due within so many seconds, with its following run planned. None while the pool is full."""
        while not self._stopped and self._due and not self._is_full():
            _, _, plan, job = self._due[0]
            if plan == job.planned:  # else it was replaced by a newer plan
                left = self._left()
                if left > 0 and left > min(ahead, job.gap / 10):
                    return None
                heapq.heappop(self._due)
                job.plan()
                self._push(job)
                return job
            heapq.heappop(self._due)
        return None

    def _push(self, job: Job) -> None:
        heapq.heappush(self._due, (job.next_run, next(self._order), job.planned, job))
        if self._has_first:
            if self._due[0][3] is job:
                self._changed.notify()
        elif job.next_run < self._second_until:
            self._overdue.notify()

    def _left(self) -> float:
        """Seconds until something has to be done."""
        if not self._due:
            return _MAX_WAIT
        if self._is_full():
            return _GRACE
        left = self._due[0][0] - self._clock()
        if left > _MAX_WAIT:
            return 0.0 if left > self._due[0][3].longest_wait else _MAX_WAIT  # it was set back
        return left

    def _is_full(self) -> bool:
        if len(self._running) < _MAX_RUNS_WHILE_BUSY:
            return False
        now = time.monotonic()
        runs = sum(stuck_at > now for stuck_at in self._running.values())
        return runs >= MAX_RUNS or (runs >= _MAX_RUNS_WHILE_BUSY and self._load.ratio(now) > _BUSY)

    def _period(self, target: str) -> ScrapePeriod:
        with self._lock:
            return self._periods.setdefault(target, ScrapePeriod())


class _Load:
    """The CPU time that the process uses, as a ratio of the last tenth of a second."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._used = time.process_time()
        self._ratio = 0.0

    def ratio(self, now: float) -> float:
        """The ratio at `now` (by time.monotonic())."""
        if now - self._since >= _LOAD_OVER:
            used = time.process_time()
            self._ratio = (used - self._used) / (now - self._since)
            self._since, self._used = now, used
        return self._ratio
