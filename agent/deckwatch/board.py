"""The board: the latest snapshot of every probe, and the exposition made of them.

What is served comes from memory alone. A snapshot disappears as soon as a later run failed or did not come in time;
`deckwatch_collector_success` says so. The answer is put together once for each change and format: a second scraper
costs only the few lines that tell how old everything is.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from isal import isal_zlib

from deckwatch.exposition import Encoder, Family, format_number, openmetrics_header, text_header
from deckwatch.metric import MetricPattern, gauge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from deckwatch.collector import Probe, Snapshot
    from deckwatch.metric import Metric, Sample

SUCCESS = gauge(
    "deckwatch_collector_success",
    "Whether the collector's last run succeeded; 0 also when none ended in time.",
    ["collector"],
)
DURATION = gauge(
    "deckwatch_collector_duration_seconds", "Duration of the collector's last run, in seconds.", ["collector"]
)
LAST_SUCCESS = gauge(
    "deckwatch_collector_last_success_timestamp_seconds",
    "When the collector's last successful run ended, in Unix seconds.",
    ["collector"],
)
SERIES = gauge("deckwatch_series", "Series in the collector's last snapshot.", ["collector"])
DROPPED = gauge(
    "deckwatch_series_dropped", "Series that the collector's last run yielded over the series budget.", ["collector"]
)
AGE = gauge(
    "deckwatch_snapshot_age_seconds", "Age of the collector's snapshot when it was served, in seconds.", ["collector"]
)
CONFLICTS = gauge(
    "deckwatch_series_conflicting",
    "Series left out of the exposition because another collector exposes them, or declares their metric differently.",
)
# The peers' own spelling of the first two, `collector` without the exporter's name.
PEER_SUCCESS = MetricPattern(
    "*_scrape_collector_success", "gauge", "Whether the collector's last run succeeded.", ("collector",)
)
PEER_DURATION = MetricPattern(
    "*_scrape_collector_duration_seconds", "gauge", "Duration of the collector's last run, in seconds.", ("collector",)
)

_MAX_CACHED_ANSWERS = 64


class UnknownSelectionError(Exception):
    """A scrape asked for a collector or target that does not exist. The message is one line for the one who asked."""


@dataclass
class Slot:
    """The place of one probe on the board, and what is known of its last run."""

    probe: Probe
    exporter: str
    scrape_prefix: str
    encoder: Encoder
    expires: float  # Unix seconds: when what is here counts as not ended in time
    version: int = 0
    snapshot: Snapshot | None = None
    last_success: float | None = None
    overdue: bool = False
    meta: tuple[Family, ...] = ()
    age_starts: dict[bool, str] = field(default_factory=dict)  # by whether the target label is there

    @property
    def part(self) -> str:
        return self.probe.name.partition(".")[2] or self.probe.name

    def matches(self, name: str) -> bool:
        return name in (self.probe.name, self.exporter, self.part)

    def families(self) -> Iterator[Family]:
        if self.snapshot is not None and not self.overdue:
            yield from self.snapshot.families
        yield from self.meta


#: The target of a selection that asks for what belongs to none; no target may bear it as its name.
NO_TARGET = "-"


@dataclass(frozen=True)
class Selection:
    """Which part of the board a scrape wants: all, some collectors, or one target (without its label).

    `NO_TARGET` is what belongs to no named target: with one scrape for each of those, it is the rest.
    """

    collect: tuple[str, ...] = ()
    target: str | None = None


@dataclass
class _Answer:
    version: tuple[int, int]
    body: bytes
    conflicts: int


class Board:
    def __init__(self, clock: Callable[[], float] = time.time, logger: logging.Logger | None = None) -> None:
        self._clock = clock
        self._log = logger or logging.getLogger("deckwatch.board")
        self._lock = threading.Lock()
        self._slots: dict[tuple[str, str], Slot] = {}
        self._structure = 0
        self._generation = 0
        self._answers: OrderedDict[tuple[Selection, bool, bool], _Answer] = OrderedDict()
        self._headers: dict[tuple[Metric, bool, bool], str] = {}
        self._warned: set[str] = set()

    def add(self, probe: Probe, exporter: str, scrape_prefix: str, valid_for: float) -> None:
        """Make a place for a probe. `valid_for` (seconds): how long its first run may take to count as in time."""
        with self._lock:
            slot = Slot(probe, exporter, scrape_prefix, Encoder(probe.target), self._clock() + valid_for)
            for labelled in (True, False):
                series = AGE(0, collector=probe.name).series
                with_target = labelled and probe.target
                slot.age_starts[labelled] = series.text_for(probe.target) if with_target else series.text
            self._slots[probe.name, probe.target] = slot
            self._structure += 1

    def remove(self, probe: Probe) -> None:
        """Take a probe and its samples away; unknown ones are ignored."""
        with self._lock:
            if self._slots.pop((probe.name, probe.target), None) is not None:
                self._structure += 1
                self._answers.clear()

    def post(self, snapshot: Snapshot, valid_for: float) -> None:
        """Replace a probe's snapshot. It counts for `valid_for` seconds from now, unless a newer one comes."""
        with self._lock:
            slot = self._slots.get((snapshot.probe, snapshot.target))
            if slot is None:
                return  # the probe was removed while its last run was under way
            slot.snapshot = snapshot
            slot.expires = self._clock() + valid_for
            slot.overdue = False
            if not snapshot.error:
                slot.last_success = snapshot.ended
            self._describe(slot)

    def slots(self) -> list[Slot]:
        """The places, by name and target; what did not come in time is marked `overdue`."""
        with self._lock:
            self._expire()
            return [self._slots[key] for key in sorted(self._slots)]

    def render(self, selection: Selection, openmetrics: bool, compress: bool) -> bytes:
        """The exposition of a part of the board. Raises UnknownSelectionError when there is no such part.

        A compressed answer is two gzip members: what is kept between changes, and the lines about its age.
        """
        with self._lock:
            self._expire()
            chosen = self._choose(selection)
            version = (self._structure, max((slot.version for slot in chosen), default=0))
            key = (selection, openmetrics, compress)
            answer = self._answers.get(key)
            gathered = None if answer is not None and answer.version == version else self._gather(chosen)
        if gathered is not None:
            body, conflicts = self._put_together(gathered, openmetrics, labelled=selection.target is None)
            answer = _Answer(version, _compress(body) if compress else body, conflicts)
            with self._lock:
                self._answers[key] = answer
                self._answers.move_to_end(key)
                while len(self._answers) > _MAX_CACHED_ANSWERS:
                    self._answers.popitem(last=False)
        assert answer is not None
        tail = self._ages(chosen, answer.conflicts, openmetrics, labelled=selection.target is None)
        return answer.body + (_compress(tail) if compress else tail)

    def _choose(self, selection: Selection) -> list[Slot]:
        slots = list(self._slots.values())
        if selection.target is not None:
            wanted = "" if selection.target == NO_TARGET else selection.target
            slots = [slot for slot in slots if slot.probe.target == wanted]
            if not slots or not selection.target:
                raise UnknownSelectionError(f"unknown target {selection.target!r}")
        for name in selection.collect:
            if not any(slot.matches(name) for slot in slots):
                raise UnknownSelectionError(f"unknown collector {name!r}")
        if selection.collect:
            slots = [slot for slot in slots if any(slot.matches(name) for name in selection.collect)]
        return slots

    def _expire(self) -> None:
        now = self._clock()
        for slot in self._slots.values():
            if not slot.overdue and slot.expires < now:
                slot.overdue = True
                self._describe(slot)

    def _describe(self, slot: Slot) -> None:
        """Renew the samples about the probe itself."""
        self._generation += 1
        slot.version = self._generation
        slot.meta = slot.encoder.families(_about(slot))

    @staticmethod
    def _gather(chosen: Sequence[Slot]) -> dict[str, list[tuple[str, Family]]]:
        by_name: dict[str, list[tuple[str, Family]]] = {}
        for slot in chosen:
            target = slot.probe.target
            for family in slot.families():
                by_name.setdefault(family.metric.name, []).append((target, family))
        return by_name

    def _put_together(
        self, by_name: dict[str, list[tuple[str, Family]]], openmetrics: bool, labelled: bool
    ) -> tuple[bytes, int]:
        parts: list[str] = []
        headers: dict[tuple[Metric, bool, bool], str] = {}
        taken = frozenset(by_name)
        conflicts = 0
        for name in sorted(by_name):
            contributions = by_name[name]
            metric = contributions[0][1].metric
            key = (metric, openmetrics, name.removesuffix("_total") != name and name.removesuffix("_total") in taken)
            header = self._headers.get(key)
            if header is None:
                header = openmetrics_header(metric, taken) if openmetrics else text_header(metric)
            headers[key] = header
            parts.append(header)
            if len(contributions) > 1:
                contributions, refused = _without_conflicts(contributions)
                if refused:
                    conflicts += refused
                    self._warn(name, refused)
            for target, family in contributions:
                if target and not labelled:
                    family = Encoder().families(family.samples)[0]
                parts.append(family.openmetrics if openmetrics else family.text)
        if labelled:
            others = {key: text for key, text in self._headers.items() if key[1] != openmetrics}
            self._headers = headers | others
        return "".join(parts).encode(), conflicts

    def _warn(self, name: str, series: int) -> None:
        if name not in self._warned:
            self._warned.add(name)
            self._log.warning(
                "two collectors expose %s: %d series of the later one are left out",
                name,
                series,
                extra={"metric": name},
            )

    def _ages(self, chosen: Sequence[Slot], conflicts: int, openmetrics: bool, labelled: bool) -> bytes:
        header = openmetrics_header if openmetrics else text_header
        now = self._clock()
        lines = [header(AGE)]
        lines += [
            f"{slot.age_starts[labelled]}{max(0.0, now - slot.snapshot.ended):.3f}\n"
            for slot in chosen
            if slot.snapshot is not None and not slot.overdue
        ]
        if labelled:
            lines.append(f"{header(CONFLICTS)}{CONFLICTS.name} {format_number(conflicts)}\n")
        if openmetrics:
            lines.append("# EOF\n")
        return "".join(lines).encode()


def _about(slot: Slot) -> Iterator[Sample]:
    name, snapshot = slot.probe.name, slot.snapshot
    succeeded = 1 if snapshot is not None and not snapshot.error and not slot.overdue else 0
    yield SUCCESS(succeeded, collector=name)
    if slot.scrape_prefix:
        yield PEER_SUCCESS.named(slot.scrape_prefix)(succeeded, collector=slot.part)
    if slot.last_success is not None:
        yield LAST_SUCCESS(slot.last_success, collector=name)
    if snapshot is None or slot.overdue:
        return
    yield DURATION(snapshot.duration, collector=name)
    if slot.scrape_prefix:
        yield PEER_DURATION.named(slot.scrape_prefix)(snapshot.duration, collector=slot.part)
    yield SERIES(snapshot.series, collector=name)
    yield DROPPED(snapshot.dropped, collector=name)


def _without_conflicts(contributions: list[tuple[str, Family]]) -> tuple[list[tuple[str, Family]], int]:
    """One metric from several probes: the first one's type rules, and a series that is there already is left out."""
    metric = contributions[0][1].metric
    kept: list[tuple[str, Family]] = []
    seen: dict[str, set[str]] = {}
    refused = 0
    several = len({target for target, _ in contributions}) < len(contributions)
    for target, family in contributions:
        if family.metric.type != metric.type:
            refused += len(family.samples)
            continue
        if several:
            known = seen.setdefault(target, set())
            fresh = [sample for sample in family.samples if sample.series.text not in known]
            known.update(sample.series.text for sample in family.samples)
            if len(fresh) < len(family.samples):
                refused += len(family.samples) - len(fresh)
                if not fresh:
                    continue
                family = Encoder(target).families(fresh)[0]
        kept.append((target, family))
    return kept, refused


def _compress(body: bytes) -> bytes:
    compressed: bytes = isal_zlib.compress(body, 1, 31)  # 31: a gzip member, by zlib's convention
    return compressed
