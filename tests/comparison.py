"""Beside a peer: which of its series are missing here, or have another type, other labels, another value."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

from prometheus_client.parser import text_string_to_metric_families

Labels: TypeAlias = "tuple[tuple[str, str], ...]"
#: By the name of the metric: its type, and the value of each series by its sample name and labels.
Exposed: TypeAlias = "dict[str, tuple[str, dict[tuple[str, Labels], float]]]"


def exposed(exposition: str) -> Exposed:
    declared = dict(re.findall(r"^# TYPE (\S+) (\S+)", exposition, re.MULTILINE))
    found: Exposed = {}
    for family in text_string_to_metric_families(exposition):
        # The parser takes `_total` off the names of counters; a gauge may have the name that remains.
        total = f"{family.name}_total"
        name = total if declared.get(total) == family.type == "counter" else family.name
        kind = declared.get(name, family.type)
        series = found.setdefault(name, (kind, {}))[1]
        for sample in family.samples:
            series[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return found


def without_label(exposition: Exposed, label: str) -> Exposed:
    """As it is scraped with `?target=`: what belongs to one target, without the label that says so."""
    return {
        name: (
            kind,
            {
                (sample, tuple(it for it in labels if it[0] != label)): value
                for (sample, labels), value in series.items()
            },
        )
        for name, (kind, series) in exposition.items()
    }


def differences(peer: Exposed, ours: Exposed, of_interest: Callable[[str], bool]) -> list[str]:
    """Each metric of the peer that is missing, or whose type or label names differ. NaN alone is nothing."""
    problems = []
    for name, (kind, series) in sorted(peer.items()):
        known = {labels for (_, labels), value in series.items() if not math.isnan(value)}
        if not of_interest(name) or not known:
            continue
        if name not in ours:
            problems.append(f"missing: {name} ({kind})")
            continue
        if ours[name][0] != kind:
            problems.append(f"type of {name}: {ours[name][0]}, not {kind}")
        wanted = {tuple(label for label, _ in labels) for labels in known}
        given = {tuple(label for label, _ in labels) for _, labels in ours[name][1]}
        if not wanted <= given:
            problems.append(f"labels of {name}: {sorted(given)}, not {sorted(wanted)}")
    return problems


def missing_series(peer: Exposed, ours: Exposed, of_interest: Callable[[str], bool]) -> list[str]:
    return [
        f"{sample}{dict(labels)}"
        for name, (_, series) in sorted(peer.items())
        if of_interest(name)
        for (sample, labels), value in series.items()
        if not math.isnan(value) and (sample, labels) not in ours.get(name, ("", {}))[1]
    ]


def changed_values(
    before: Exposed, after: Exposed, ours: Exposed, of_interest: Callable[[str], bool], tolerance: Mapping[str, float]
) -> tuple[int, list[str]]:
    """How many series the peer gives the same value twice, with ours read between, and where ours differs.

    `tolerance` is absolute, by the name's beginning, for what moves in between and comes back.
    """
    compared, problems = 0, []
    for name, (_, series) in sorted(before.items()):
        if not of_interest(name):
            continue
        allowed = next((value for start, value in tolerance.items() if name.startswith(start)), 0.0)
        for key, value in series.items():
            mine = ours.get(name, ("", {}))[1].get(key)
            if mine is None or math.isnan(value) or after.get(name, ("", {}))[1].get(key) != value:
                continue
            compared += 1
            if not math.isclose(mine, value, rel_tol=1e-9, abs_tol=allowed):
                problems.append(f"{key[0]}{dict(key[1])}: {mine}, not {value}")
    return compared, problems
