"""Key figures of each target and their last hour, for the status page.

A figure is kept every 30 seconds for an hour, at 4 bytes each: 0.5 KB for each figure.
"""

from __future__ import annotations

import math
import threading
import time
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.collection.status import KeyFigureStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from deckwatch.collection.board import Board, Slot
    from deckwatch.exporter import KeyFigure
    from deckwatch.metrics.declaration import Sample

INTERVAL = 30.0  # seconds between two values
_KEPT = 120


class _Reading(NamedTuple):
    value: float
    at: float  # Unix seconds: when it was measured


@dataclass
class _Figure:
    title: str
    unit: str
    read: Callable[[Sequence[Slot]], _Reading | None]
    per_second: bool = False
    limit: Callable[[], float] = lambda: math.inf
    history: array[float] = field(default_factory=lambda: array("f"))
    last: _Reading | None = None  # of the last value in the history

    def value(self, slots: Sequence[Slot]) -> tuple[float, _Reading | None]:
        """The value now, NaN while it is unknown, and the reading that it comes from."""
        reading = self.read(slots)
        if reading is None:
            return math.nan, None
        if not self.per_second:
            return reading.value, reading
        last = self.last
        if last is None:
            return math.nan, reading
        if reading.at <= last.at:  # no newer run: the rate is the last one
            return (self.history[-1] if self.history else math.nan), last
        increase = reading.value - last.value
        return (increase / (reading.at - last.at) if increase >= 0 else math.nan), reading

    def keep(self, slots: Sequence[Slot]) -> None:
        value, self.last = self.value(slots)
        self.history.append(value)
        if len(self.history) > _KEPT:
            self.history.pop(0)


class KeyFigures:
    """The key figures of all targets. As a collector without samples, it adds to their history."""

    def __init__(self, board: Board, clock: Callable[[], float] = time.time) -> None:
        self._board = board
        self._clock = clock
        self._lock = threading.Lock()
        self._figures: dict[tuple[str, str], tuple[str, list[_Figure]]] = {}

    def watch(self, exporter: str, target: str, figures: Iterable[KeyFigure], source: str = "") -> None:
        """Keep the figures of a target, read from the collectors of `source`, by default those of `exporter`."""
        made = [_Figure(it.title, it.unit, _reader(it), per_second=it.per_second) for it in figures]
        with self._lock:
            self._figures[exporter, target] = (source or exporter, made)

    def watch_ratios(
        self,
        exporter: str,
        read: Callable[[], Mapping[str, float | None]],
        limits: Callable[[], Mapping[str, float]],
    ) -> None:
        """Keep the ratios that `read()` returns by title; above `limits()` they are high."""

        def figure(title: str) -> _Figure:
            def reading(_slots: Sequence[Slot]) -> _Reading | None:
                value = read().get(title)
                return None if value is None else _Reading(value, self._clock())

            return _Figure(title, "ratio", reading, limit=lambda: limits().get(title, math.inf))

        with self._lock:
            self._figures[exporter, ""] = (exporter, [figure(title) for title in read()])

    def forget(self, exporter: str, target: str) -> None:
        with self._lock:
            self._figures.pop((exporter, target), None)

    def collect(self) -> Iterable[Sample]:
        with self._lock:
            for _, slots, figures in self._by_target():
                for figure in figures:
                    figure.keep(slots)
        return ()

    def current(self) -> tuple[KeyFigureStatus, ...]:
        """The figures of all targets now."""
        found = []
        with self._lock:
            for (exporter, target), slots, figures in self._by_target():
                for figure in figures:
                    value, reading = figure.value(slots)
                    figure.last = figure.last or reading  # a rate is known from the second look at it
                    known = None if math.isnan(value) else value
                    found.append(
                        KeyFigureStatus(
                            exporter,
                            target,
                            figure.title,
                            figure.unit,
                            known,
                            per_second=figure.per_second,
                            is_high=known is not None and known >= figure.limit(),
                        )
                    )
        return tuple(found)

    def history(self, exporter: str, target: str, title: str) -> Sequence[float]:
        """The values of the last hour, one for each `INTERVAL`, the latest last; NaN where unknown."""
        with self._lock:
            _, figures = self._figures.get((exporter, target), ("", []))
            return next((tuple(figure.history) for figure in figures if figure.title == title), ())

    def _by_target(self) -> Iterator[tuple[tuple[str, str], list[Slot], list[_Figure]]]:
        slots: dict[tuple[str, str], list[Slot]] = {}
        for slot in self._board.slots():
            slots.setdefault((slot.exporter, slot.named.target), []).append(slot)
        for (exporter, target), (source, figures) in self._figures.items():
            yield (exporter, target), slots.get((source, target), []), figures


def _reader(declared: KeyFigure) -> Callable[[Sequence[Slot]], _Reading | None]:
    wanted = set(declared.where.items())
    combine = max if declared.use == "max" else sum

    def read(slots: Sequence[Slot]) -> _Reading | None:
        values: list[float] = []
        at = 0.0
        for slot in slots:
            for family in slot.families:
                if family.metric.name == declared.metric and slot.snapshot is not None:
                    at = max(at, slot.snapshot.ended)
                    values += [float(sample[1]) for sample in family.samples if wanted <= set(sample[0].labels)]
        return _Reading(combine(values), at) if values else None

    return read
