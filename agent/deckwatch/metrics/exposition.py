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

    Parts with the same metrics, as those of similar targets, form a group, which is planned once. `own` are metrics
    that the board formats; the same metrics from a collector are refused.
    """

    def __init__(self, parts: Sequence[Part], own: Sequence[Metric], openmetrics: bool) -> None:
        groups: dict[tuple[Metric, ...], list[int]] = {}
        for number, part in enumerate(parts):
            groups.setdefault(tuple([family[0] for family in part.families]), []).append(number)
        where: dict[str, list[tuple[int, int]]] = {}
        for group, metrics in enumerate(groups):
            for index, metric in enumerate(metrics):
                where.setdefault(metric.name, []).append((group, index))
        by_name = {metric.name: metric for metric in own}
        taken = frozenset((*where, *by_name))
        self._openmetrics = openmetrics
        self._groups = list(groups.values())  # the numbers of their parts
        self._steps: list[tuple[str, int, int]] = []  # header, number of the group, index of the family in its parts
        self._own: list[Metric] = []
        self._clashes: list[list[tuple[int, int]]] = []
        self._refused: list[tuple[int, int]] = []
        own_group, clash_group = len(groups), len(groups) + 1  # their texts follow those of the groups
        metrics_of = list(groups)
        are_of_different_targets: dict[tuple[int, ...], bool] = {}
        for name in sorted(taken):
            places = where.get(name, [])
            own_metric = by_name.get(name)
            if own_metric is not None:
                self._refused += places
                self._steps.append((self._header(own_metric, taken), own_group, len(self._own)))
                self._own.append(own_metric)
                continue
            found = [metrics_of[group][index] for group, index in places]
            header = self._header(found[0], taken)
            exposing = tuple([group for group, _ in places])
            if exposing not in are_of_different_targets:
                targets = [parts[number].target for group in exposing for number in self._groups[group]]
                are_of_different_targets[exposing] = len(set(targets)) == len(targets)
            if not are_of_different_targets[exposing] or any(metric.type != found[0].type for metric in found):
                self._steps.append((header, clash_group, len(self._clashes)))
                self._clashes.append(places)
                continue
            for group, index in places:
                self._steps.append((header, group, index))
                header = ""

    def _header(self, metric: Metric, taken: frozenset[str]) -> str:
        return openmetrics_header(metric, taken) if self._openmetrics else text_header(metric)

    def fill(self, parts: Sequence[Part], own: Mapping[Metric, str]) -> tuple[str, dict[str, int]]:
        """The exposition, and the number of refused series by metric."""
        texts: list[list[tuple[str, ...]]] = [
            list(zip(*[self._texts(parts[number].target, parts[number].families) for number in group], strict=True))
            for group in self._groups
        ]
        texts.append([(own[metric],) for metric in self._own])
        refused: dict[str, int] = {}
        for _, family in self._families(parts, self._refused):
            refused[family.metric.name] = refused.get(family.metric.name, 0) + len(family.series)
        if self._clashes:
            texts.append([(self._settled(self._families(parts, places), refused),) for places in self._clashes])
        return "".join([header + "".join(texts[group][index]) for header, group, index in self._steps]), refused

    def _families(self, parts: Sequence[Part], places: Sequence[tuple[int, int]]) -> list[tuple[str, Family]]:
        """The families at these places in the order of the parts, each with its target."""
        found = sorted((number, index) for group, index in places for number in self._groups[group])
        return [(parts[number].target, parts[number].families[index]) for number, index in found]

    def _settled(self, families: Sequence[tuple[str, Family]], refused: dict[str, int]) -> str:
        """One metric from several collectors: the first one's type applies, and repeated series are dropped."""
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
