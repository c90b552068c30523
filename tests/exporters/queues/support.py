"""The values of a queue, as a target collects them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from services import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from deckwatch.testing import Collected, Opened


def of_queue(collected: Collected, queue: str) -> dict[str, float]:
    """Return the values of one queue by their names without `queue_`."""
    return {
        sample.series.name.removeprefix("queue_"): sample.value
        for sample in collected.samples
        if dict(sample.series.labels).get("queue") == queue and "kind" in dict(sample.series.labels)
    }


def figures(target: Opened, queue: str) -> dict[str, float]:
    """Return the values of one queue from a run without problems."""
    collected = target.collect()
    assert not collected.errors, collected.errors
    assert not collected.malformed, collected.malformed
    collected.assert_declared()
    return of_queue(collected, queue)


def eventually(target: Opened, queue: str, condition: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    """Return the first values that meet the condition."""
    found: dict[str, float] = {}

    def matches() -> bool:
        found.clear()
        found.update(figures(target, queue))
        return condition(found)

    try:
        until(matches)
    except AssertionError:
        pytest.fail(f"the last figures of {queue} were {found}")
    return found


def queues_in(target: Opened) -> set[str]:
    """Return the names of all queues."""
    return {dict(sample.series.labels).get("queue", "") for sample in target.collect().samples} - {""}
