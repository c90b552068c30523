"""The board: the latest snapshot of every collector, and the exposition made of them.

Scrapes are answered from memory. A snapshot disappears as soon as a later run fails or times out;
`deckwatch_collector_success` reports it. The exposition is assembled once for each change and format: a second scrape
costs only the lines with the ages of the snapshots.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

from isal import isal_zlib

from deckwatch.collection.collector_metrics import AGE, AboutLines, LastRun, about
from deckwatch.metrics.declaration import Gauge
from deckwatch.metrics.encoding import Family, format_number, openmetrics_header, text_header
from deckwatch.metrics.exposition import Part, Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from deckwatch.collection.run import NamedCollector, Snapshot
    from deckwatch.collection.status import State
    from deckwatch.metrics.declaration import Metric

CONFLICTS = Gauge(
    "deckwatch_series_conflicting",
    "Number of series that were dropped because another collector exposes them or declares their metric differently.",
)

_MAX_CACHED_ANSWERS = 64
_MAX_CACHED_BYTES = 16 * 1024 * 1024
_MAX_CACHED_PLANS = 64
_METRIC_OF = attrgetter("metric")


class UnknownSelectionError(Exception):
    """A scrape selects a collector or target that does not exist. The message is one line for the client."""


@dataclass(kw_only=True)
class Slot(LastRun):
    """The place of one collector on the board, and what is known of its last run."""

    named: NamedCollector
    exporter: str
    about: AboutLines
    expires: float  # Unix seconds: the snapshot is overdue after this
    since: float  # Unix seconds: when its state changed last
    version: int = 0  # changes with every change
    shape: int = 0  # changes when other metrics appear or disappear

    @property
    def part(self) -> str:
        return self.named.part

    def matches(self, name: str) -> bool:
        return name in (self.named.name, self.exporter, self.part)

    @property
    def state(self) -> State:
        if self.overdue:
            return "hung"
        if self.skipped:
            return "not_run"
        if self.snapshot is None:
            return "pending"
        return "failing" if self.snapshot.cause else "ok"

    @property
    def families(self) -> tuple[Family, ...]:
        return () if self.snapshot is None or self.overdue else self.snapshot.families


#: Selects everything that belongs to no named target. No target can have this name.
NO_TARGET = "-"


@dataclass(frozen=True)
class Selection:
    """The part of the board that a scrape selects: everything, some collectors, or one target (without its label)."""

    collect: tuple[str, ...] = ()
    target: str | None = None


@dataclass
class _Answer:
    version: tuple[int, int]
    shape: tuple[int, ...]
    plan: Plan
    body: bytes
    conflicts: int


#: The metrics of some parts and of the board, and the format: the plans of similar targets are the same.
_Shape = tuple[tuple[tuple["Metric", ...], ...], tuple["Metric", ...], bool]

#: Target, the collectors chosen by name, format and compression.
_Key = tuple[str | None, tuple[tuple[str, str], ...] | None, bool, bool]


class Board:
    def __init__(self, clock: Callable[[], float] = time.time, logger: logging.Logger | None = None) -> None:
        self._clock = clock
        self._log = logger or logging.getLogger("deckwatch.board")
        self._lock = threading.Lock()
        self._slots: dict[tuple[str, str], Slot] = {}
        self._by_target: dict[str, dict[str, Slot]] = {}  # by name of the collector
        self._next_expiry = math.inf  # Unix seconds: no slot expires before
        self._structure = 0
        self._generation = 0
        self._answers: OrderedDict[_Key, _Answer] = OrderedDict()
        self._plans: OrderedDict[_Shape, Plan] = OrderedDict()  # of single targets
        self._warned: set[str] = set()

    def add(self, named: NamedCollector, exporter: str, scrape_prefix: str, valid_for: float) -> None:
        """Add a collector. Its first run is overdue after `valid_for` seconds."""
        lines = AboutLines(named.name, named.part, named.target, scrape_prefix)
        now = self._clock()
        slot = Slot(named=named, exporter=exporter, about=lines, expires=now + valid_for, since=now)
        with self._lock:
            self._slots[named.name, named.target] = slot
            self._by_target.setdefault(named.target, {})[named.name] = slot
            self._next_expiry = min(self._next_expiry, slot.expires)
            self._structure += 1

    def remove(self, named: NamedCollector) -> None:
        """Withdraw a collector and its samples; unknown ones are ignored."""
        with self._lock:
            if self._slots.pop((named.name, named.target), None) is None:
                return
            of_target = self._by_target[named.target]
            del of_target[named.name]
            if not of_target:
                del self._by_target[named.target]
            self._structure += 1
            self._answers.clear()

    def post(self, snapshot: Snapshot, valid_for: float) -> None:
        """Replace a collector's snapshot. It is overdue after `valid_for` seconds unless a newer one replaces it."""
        with self._lock:
            slot = self._slots.get((snapshot.collector, snapshot.target))
            if slot is None:
                return  # the collector was removed while its last run was under way
            before, state = slot.families, slot.state
            slot.snapshot = snapshot
            slot.cpu += snapshot.cpu
            self._set_expiry(slot, valid_for)
            slot.overdue = slot.skipped = False
            if not snapshot.error:
                slot.last_success = snapshot.ended
            self._changed(slot, before, state)

    def skip(self, named: NamedCollector, valid_for: float) -> None:
        """Withdraw a collector's samples: it was not run, because its target cannot be reached."""
        with self._lock:
            slot = self._slots.get((named.name, named.target))
            if slot is None:
                return
            self._set_expiry(slot, valid_for)
            if slot.skipped and not slot.overdue:
                return
            before, state = slot.families, slot.state
            slot.snapshot = None
            slot.skipped, slot.overdue = True, False
            self._changed(slot, before, state)

    def slots(self) -> list[Slot]:
        """The slots by name and target; `overdue` is up to date."""
        with self._lock:
            self._expire()
            return [self._slots[key] for key in sorted(self._slots)]

    def is_complete(self) -> bool:
        """Whether every collector's first run has ended, is overdue or was skipped."""
        with self._lock:
            self._expire()
            return all(slot.snapshot is not None or slot.overdue or slot.skipped for slot in self._slots.values())

    def render(self, selection: Selection, openmetrics: bool, compress: bool) -> bytes:
        """The exposition of a selection. Raises UnknownSelectionError."""
        return b"".join(self.parts(selection, openmetrics, compress))

    def parts(self, selection: Selection, openmetrics: bool, compress: bool) -> tuple[bytes, bytes]:
        """The exposition in two parts: the cached one, which answers share, and the lines with the ages.

        Compressed, each part is a gzip member. Raises UnknownSelectionError.
        """
        with self._lock:
            self._expire()
            chosen = self._choose(selection)
            version = (self._structure, max((slot.version for slot in chosen), default=0))
            # The collectors that are chosen, not the request: it may name them in any order.
            names = tuple((slot.named.name, slot.named.target) for slot in chosen) if selection.collect else None
            key = (selection.target, names, openmetrics, compress)
            answer = self._answers.get(key)
            if answer is None or answer.version != version:
                # Only what needs the lock; rendering happens outside it.
                shape = (self._structure, *(slot.shape for slot in chosen))
                labelled = selection.target is None
                parts = [_part(slot, labelled) for slot in chosen]
                own = about([(slot.about, slot) for slot in chosen], labelled)
                plan = answer.plan if answer is not None and answer.shape == shape else None
                answer = None
        if answer is None:
            plan = plan or self._plan(parts, tuple(own), openmetrics, is_kept=not labelled)
            text, refused = plan.fill(parts, own)
            self._warn(refused)
            body = text.encode()
            answer = _Answer(version, shape, plan, _compress(body) if compress else body, sum(refused.values()))
            with self._lock:
                self._answers[key] = answer
                self._answers.move_to_end(key)
                self._forget_old_answers()
        tail = self._ages(chosen, answer.conflicts, openmetrics, labelled=selection.target is None)
        return answer.body, _compress(tail) if compress else tail

    def _plan(self, parts: list[Part], own: tuple[Metric, ...], openmetrics: bool, is_kept: bool) -> Plan:
        if not is_kept:
            return Plan(parts, own, openmetrics)
        shape = (tuple(tuple(family[0] for family in part.families) for part in parts), own, openmetrics)
        with self._lock:
            plan = self._plans.get(shape)
            if plan is not None:
                self._plans.move_to_end(shape)
                return plan
        plan = Plan(parts, own, openmetrics)
        with self._lock:
            self._plans[shape] = plan
            if len(self._plans) > _MAX_CACHED_PLANS:
                self._plans.popitem(last=False)
        return plan

    def _forget_old_answers(self) -> None:
        held = sum(len(answer.body) for answer in self._answers.values())
        while len(self._answers) > 1 and (len(self._answers) > _MAX_CACHED_ANSWERS or held > _MAX_CACHED_BYTES):
            held -= len(self._answers.popitem(last=False)[1].body)

    def _choose(self, selection: Selection) -> list[Slot]:
        if selection.target is None:
            slots = list(self._slots.values())
        else:
            of_target = self._by_target.get("" if selection.target == NO_TARGET else selection.target)
            if not of_target or not selection.target:
                raise UnknownSelectionError(f"unknown target {selection.target!r}")
            slots = list(of_target.values())
        for name in selection.collect:
            if not any(slot.matches(name) for slot in slots):
                raise UnknownSelectionError(f"unknown collector {name!r}")
        if selection.collect:
            slots = [slot for slot in slots if any(slot.matches(name) for name in selection.collect)]
        return slots

    def _set_expiry(self, slot: Slot, valid_for: float) -> None:
        slot.expires = self._clock() + valid_for
        self._next_expiry = min(self._next_expiry, slot.expires)

    def _expire(self) -> None:
        now = self._clock()
        if now <= self._next_expiry:
            return
        self._next_expiry = math.inf
        for slot in self._slots.values():
            if slot.overdue:
                continue
            if slot.expires >= now:
                self._next_expiry = min(self._next_expiry, slot.expires)
                continue
            before, state = slot.families, slot.state
            slot.overdue = True
            self._changed(slot, before, state)

    def _changed(self, slot: Slot, before: tuple[Family, ...], state: State) -> None:
        if slot.state != state:
            slot.since = self._clock()
        self._generation += 1
        slot.version = self._generation
        after = slot.families
        if after is not before and list(map(_METRIC_OF, after)) != list(map(_METRIC_OF, before)):
            slot.shape = self._generation

    def _warn(self, refused: Mapping[str, int]) -> None:
        for name, series in refused.items():
            if name not in self._warned:
                self._warned.add(name)
                self._log.warning(
                    "two collectors expose %s: %d series of the second one were dropped",
                    name,
                    series,
                    extra={"metric": name},
                )

    def _ages(self, chosen: Sequence[Slot], conflicts: int, openmetrics: bool, labelled: bool) -> bytes:
        header = openmetrics_header if openmetrics else text_header
        now = self._clock()
        lines = [header(AGE)]
        lines += [
            f"{slot.about.age[labelled]}{max(0.0, now - slot.snapshot.ended):.3f}\n"
            for slot in chosen
            if slot.snapshot is not None and not slot.overdue
        ]
        if labelled:
            lines.append(f"{header(CONFLICTS)}{CONFLICTS.name} {format_number(conflicts)}\n")
        if openmetrics:
            lines.append("# EOF\n")
        return "".join(lines).encode()


def _part(slot: Slot, labelled: bool) -> Part:
    return Part(slot.named.target if labelled else "", slot.families)


def _compress(body: bytes) -> bytes:
    compressed: bytes = isal_zlib.compress(body, 1, 31)  # 31: a gzip member, by zlib's convention
    return compressed
