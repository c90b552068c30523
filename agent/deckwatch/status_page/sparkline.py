"""A line of the last hour as an SVG path."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, HEIGHT = 120, 24
_MARGIN = 2  # so that the line's stroke is not cut


def path(values: Sequence[float], slots: int = 120) -> str:
    """The `d` of a path in a box of WIDTH and HEIGHT; empty with fewer than two values.

    The latest value is at the right edge. NaN is a gap. The scale begins at 0 unless values are negative.
    """
    known = [value for value in values if math.isfinite(value)]
    if len(known) < 2:
        return ""
    low, high = min(0.0, *known), max(known)
    span = (high - low) or 1.0
    first = slots - len(values)
    parts, is_drawing = [], False
    for index, value in enumerate(values):
        if not math.isfinite(value):
            is_drawing = False
            continue
        x = (first + index) * WIDTH / (slots - 1)
        y = _MARGIN + (high - value) / span * (HEIGHT - 2 * _MARGIN)
        parts.append(f"{'L' if is_drawing else 'M'}{x:.1f} {y:.1f}")
        is_drawing = True
    return "".join(parts)
