"""Assembles the families of many snapshots: sorted, with one HELP and TYPE each, and no series twice.

The order of the families changes rarely: it is planned once, and each scrape only fills in the plan.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.metrics.encoding import Encoder, Family, openmetrics_header, text_header, texts_with_target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deckwatch.metrics.declaration import Metric

_TEXT, _OPENMETRICS = attrgetter("text"), attrgetter("openmetrics")


class Part(NamedTuple):
    """The families of one collector. `target` is the name of its target when series carry it as a label."""

    target: str
    families: tuple[Family, ...]


class Plan:
    """The order of the families of some parts, valid while each part has the same metrics.

    `own` are metrics that the board formats; the same metrics from a collector are refused.
    """

    def __init__(self, parts: Sequence[Part], own: Sequence[Metric], openmetrics: bool) -> None:
        where: dict[str, list[tuple[int, int]]] = {}
        for number, part in enumerate(parts):
            for index, family in enumerate(part.families):
                where.setdefault(family.metric.name, []).append((number, index))
        by_name = {metric.name: metric for metric in own}
        taken = frozenset((*where, *by_name))
        self._openmetrics = openmetrics
        self._steps: list[tuple[str, int, int]] = []  # header, number of the part, index of the family in it
        self._own: list[Metric] = []
        self._clashes: list[list[tuple[int, int]]] = []
        self._refused: list[tuple[int, int]] = []
        own_part, clash_part = len(parts), len(parts) + 1  # their texts follow those of the parts
        for name in sorted(taken):
            places = where.get(name, [])
            metric = by_name.get(name)
            if metric is not None:
                self._refused += places
                self._steps.append((self._header(metric, taken), own_part, len(self._own)))
                self._own.append(metric)
                continue
            metrics = [parts[number].families[index].metric for number, index in places]
            header = self._header(metrics[0], taken)
            targets = {parts[number].target for number, _ in places}
            if len(targets) < len(places) or any(metric.type != metrics[0].type for metric in metrics):
                self._steps.append((header, clash_part, len(self._clashes)))
                self._clashes.append(places)
                continue
            for number, index in places:
                self._steps.append((header, number, index))
                header = ""

    def _header(self, metric: Metric, taken: frozenset[str]) -> str:
        return openmetrics_header(metric, taken) if self._openmetrics else text_header(metric)

    def fill(self, parts: Sequence[Part], own: Mapping[Metric, str]) -> tuple[str, dict[str, int]]:
        """The exposition, and the number of refused series by metric."""
        texts = [self._texts(part.target, part.families) for part in parts]
        texts.append([own[metric] for metric in self._own])
        refused: dict[str, int] = {}
        for number, index in self._refused:
            family = parts[number].families[index]
            refused[family.metric.name] = refused.get(family.metric.name, 0) + len(family.series)
        if self._clashes:
            texts.append([self._settled(parts, places, refused) for places in self._clashes])
        return "".join([header + texts[number][index] for header, number, index in self._steps]), refused

    def _settled(self, parts: Sequence[Part], places: Sequence[tuple[int, int]], refused: dict[str, int]) -> str:
        """One metric from several collectors: the first one's type applies, and repeated series are dropped."""
        families = [(parts[number].target, parts[number].families[index]) for number, index in places]
        metric = families[0][1].metric
        seen: dict[str, set[str]] = {}
        text = ""
        for target, family in families:
            known = seen.setdefault(target, set())
            fits = family.metric.type == metric.type
            fresh = [sample for sample in family.samples if sample.series.text not in known] if fits else []
            if len(fresh) < len(family.series):
                refused[metric.name] = refused.get(metric.name, 0) + len(family.series) - len(fresh)
                if not fresh:
                    continue
                family = Encoder().families(fresh)[0]
            known.update(sample.series.text for sample in fresh)
            text += self._texts(target, [family])[0]
        return text

    def _texts(self, target: str, families: Sequence[Family]) -> list[str]:
        if target:
            return texts_with_target(families, target, self._openmetrics)
        return list(map(_OPENMETRICS if self._openmetrics else _TEXT, families))
