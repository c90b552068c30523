"""Garbage collections of the process, under prometheus_client's names.

prometheus_client measures them only where it has one process. Its registry has their names, so that the values are
written without instruments.
"""

import gc
from typing import Any

from deckwatch.sdk.declared import GC_COLLECTED, GC_COLLECTIONS, GC_UNCOLLECTABLE, Declared
from deckwatch.sdk.shared_memory import SharedFiles, SharedValue


class Collections:
    """Counts collections. The interpreter calls it in any code, so that nothing here takes a lock or raises."""

    def __init__(self, files: SharedFiles, value_class: type[SharedValue]) -> None:
        self._files = files
        self._value_class = value_class
        self._values: dict[int, tuple[SharedValue, SharedValue, SharedValue]] = {}

    def start(self) -> None:
        gc.callbacks.append(self._called)

    def _called(self, phase: str, info: dict[str, Any]) -> None:
        # A process that has no metrics gets no files.
        if phase != "stop" or not self._files.is_used:
            return
        generation = info.get("generation", 0)
        values = self._values.get(generation)
        if values is None:
            values = self._values[generation] = (
                self._value(GC_COLLECTIONS, generation),
                self._value(GC_COLLECTED, generation),
                self._value(GC_UNCOLLECTABLE, generation),
            )
        values[0].inc(1)
        if freed := info.get("collected", 0):
            values[1].inc(freed)
        if lost := info.get("uncollectable", 0):
            values[2].inc(lost)

    def _value(self, metric: Declared, generation: int) -> SharedValue:
        name = metric.name.removesuffix("_total")
        return self._value_class("counter", name, metric.name, metric.labels, (str(generation),), metric.help)
