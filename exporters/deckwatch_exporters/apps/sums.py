"""Exact sums over processes.

A rounded sum depends on the order of its numbers, which changes when a process ends and its values move to the archive.
Prometheus would take a sum that is lower by the last digit for a counter that began again.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .multiprocess_file import Values


def values_by_key(files: Iterable[Values]) -> dict[bytes, list[float]]:
    """The values of each key in all files."""
    rows: dict[tuple[bytes, ...], list[tuple[float, ...]]] = {}
    for file in files:
        rows.setdefault(file.keys, []).append(file.values)
    found: dict[bytes, list[float]] = {}
    for keys, members in rows.items():
        for key, column in zip(keys, zip(*members, strict=True), strict=True):
            found.setdefault(key, []).extend(column)
    return found


def total(values: Sequence[float]) -> float:
    """The sum, rounded once, which does not depend on the order."""
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):  # infinite values
        return sum(values)


def exact_terms(values: Sequence[float]) -> list[float]:
    """The rounded sum, and the terms that make it exact. A sum of integers has none."""
    terms = [total(values)]
    try:
        while math.isfinite(terms[0]) and (rest := math.fsum([*values, *(-term for term in terms)])):
            terms.append(rest)
    except (OverflowError, ValueError):
        del terms[1:]
    return terms
