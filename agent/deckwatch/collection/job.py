"""A job: collectors that run one after another, because they share a connection or cannot block."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from deckwatch.collection.run import gone, run_once
from deckwatch.metrics.encoding import Encoder

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Sequence

    from deckwatch.collection.board import Board
    from deckwatch.collection.run import NamedCollector, SeriesBudget, Snapshot
    from deckwatch.collection.run_times import RunTimes
    from deckwatch.metrics.encoding import Layouts

# A snapshot is withdrawn when no newer one has come within this many gaps.
_GAPS_TO_EXPIRE = 3
_LOGGED_PARSE_ERRORS = 100  # different ones of each collector
_SLOW = 0.05  # seconds
_EARLY = 1.0  # seconds


class _Member:
    """One collector of a job and what is known of its runs."""

    def __init__(self, named: NamedCollector, layouts: Layouts | None) -> None:
        self.named = named
        self.encoder = Encoder(layouts)
        self.began: float | None = None  # Unix seconds: the last run
        self.error = ""
        self.was_unreachable = False
        self.parse_errors: set[tuple[str, str]] = set()
        self.is_limited = False  # whether the last run exceeded its series limit

    def is_due(self, now: float, gap: float) -> bool:
        """Whether to take part in a run of the job; `gap` (seconds) is the time between two of them."""
        interval = self.named.interval
        if self.began is None or interval is None or self.began > now:
            return True
        return now - self.began >= interval - gap / 2


def _valid_for(named: NamedCollector, gap: float) -> float:
    return _GAPS_TO_EXPIRE * max(gap, named.interval or 0.0)


class Job:
    """Collectors of one target that never overlap, and when they run.

    A collector with a longer interval takes part in some of the runs only. `on_end()` is called once, after the job was
    removed and its last run has ended.
    """

    def __init__(
        self,
        name: str,
        collectors: Sequence[NamedCollector],
        budget: SeriesBudget,
        run_times: RunTimes,
        board: Board,
        logger: logging.Logger,
        clock: Callable[[], float],
        on_end: Callable[[], None],
        layouts: Layouts | None = None,
    ) -> None:
        self.name = name
        self.collectors = tuple(collectors)
        self.run_times = run_times
        self.next_run = 0.0  # Unix seconds
        self.is_slow = False  # whether the next run may take long, as the last one did
        self.planned = 0  # counts plans: of several entries in the scheduler's queue only the newest is valid
        self._members = [_Member(named, layouts) for named in collectors]
        self._removed = threading.Event()
        self._idle = threading.Lock()  # held by a run that is under way
        self._budget = budget
        self._board = board
        self._log = logger
        self._clock = clock
        self._on_end = on_end
        self._is_down = False
        self._due = 0.0  # Unix seconds: when the run that comes next was due
        self._lead: Snapshot | None = None  # the last one of the first collector

    def valid_for(self, named: NamedCollector) -> float:
        """Seconds for which a snapshot counts when no newer one comes."""
        return _valid_for(named, self.gap)

    @property
    def is_down(self) -> bool:
        """Whether the last run could not reach the target."""
        return self._is_down

    @property
    def gap(self) -> float:
        """Seconds between two runs at present."""
        return self.run_times.gap(self._clock())

    @property
    def longest_wait(self) -> float:
        """The longest time in seconds until the next run can be due."""
        return 2.0 * self.gap + 1.0

    def plan(self) -> None:
        """Set `next_run` to when the job is due again after the run that is due now."""
        now = self._clock()
        # A run may be a little early; one that is due much later than now was planned before the clock was set back.
        # The first runs of many targets wait for each other, and keep that distance.
        previous = self.next_run if self.planned and self.next_run - now <= _EARLY else now
        self._due = self.next_run
        self.next_run = self.run_times.next_run(previous, now)
        self.planned += 1

    def run(self) -> bool:
        """Run the collectors that are due. True when the target came up or went down: the next run is replanned."""
        if not self._idle.acquire(blocking=False):
            return False  # removed, or the last run still hangs
        was_down = self._is_down
        try:
            self._run()
        finally:
            self._idle.release()
        if self._removed.is_set():
            self._end()
        return was_down != self._is_down

    def remove(self) -> None:
        """End the job: now, or when the run that is under way ends."""
        self._removed.set()
        self._end()

    def _run(self) -> None:
        began = self._clock()
        gap = self.run_times.gap(began)
        is_down = False
        for member in self._members:
            if self._removed.is_set():
                break
            if is_down:
                self._board.skip(member.named, _valid_for(member.named, gap))
                member.began = None  # due at once when the target is back
                continue
            if not member.is_due(began, gap):
                continue
            member.began = began
            snapshot = run_once(member.named, member.encoder, self._budget, self._clock)
            if self._removed.is_set():
                break  # after a reload, the slot may belong to the new target of the same name
            self._board.post(snapshot, _valid_for(member.named, gap))
            self._log_change(member, snapshot)
            is_down = snapshot.is_unreachable
            if member is self._members[0]:
                self._lead = snapshot
        first = self._members[0].named
        if is_down and self._lead is not None and not self._lead.is_unreachable and first.up is not None:
            self._board.post(gone(self._lead, first.up), _valid_for(first, gap))
            self._members[0].began = None  # its next run says whether the target is back
        self._is_down = is_down
        took = self._clock() - began
        self.is_slow = is_down or took > _SLOW
        late = began - self._due
        # A run that had to wait for others begins earlier the next time. Over a gap, the clock was set or stood still.
        self.run_times.ran(took + (late if 0 < late < gap else 0.0), reached=not is_down)

    def _end(self) -> None:
        if self._idle.acquire(blocking=False):
            # Never released, so that the job ends once and no later run can start.
            self._on_end()

    def _log_change(self, member: _Member, snapshot: Snapshot) -> None:
        if not (snapshot.cause or snapshot.malformed or snapshot.dropped or member.error):
            member.is_limited = False
            return
        concerns_target = snapshot.is_unreachable or (member.was_unreachable and not snapshot.error)
        name = snapshot.collector.partition(".")[0] if concerns_target else snapshot.collector
        member.was_unreachable = snapshot.is_unreachable
        what = f'{name} "{snapshot.target}"' if snapshot.target else name
        fields = {"collector": snapshot.collector, "target": snapshot.target, "duration": round(snapshot.duration, 3)}
        for malformed in snapshot.malformed:
            if malformed not in member.parse_errors and len(member.parse_errors) < _LOGGED_PARSE_ERRORS:
                member.parse_errors.add(malformed)
                message = "%s: cannot parse %s: %r. The value is not exported."
                extra = {"event": "collector.parse_error", **fields}
                self._log.warning(message, what, malformed.what, malformed.text[:200], extra=extra)
        if snapshot.dropped and not member.is_limited:
            message = "%s: %d series exceed the limit and are not exported. Increase max_series."
            extra = {"event": "collector.series_dropped", **fields}
            self._log.warning(message, what, snapshot.dropped, extra=extra)
        member.is_limited = snapshot.dropped > 0
        before, member.error = member.error, snapshot.cause
        if bool(before) == bool(snapshot.cause):
            return
        if snapshot.cause:
            state = "is unreachable" if snapshot.is_unreachable else "failed"
            extra = {"event": "collector.failing", **fields}
            self._log.warning("%s %s: %s", what, state, snapshot.cause, extra=extra)
        else:
            self._log.info("%s works again", what, extra={"event": "collector.recovered", **fields})
