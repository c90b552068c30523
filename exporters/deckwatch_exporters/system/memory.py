"""Memory, all of /proc/meminfo (proc_meminfo(5)), by field."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deckwatch.metric import MetricPattern

from .paths import Paths, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.metric import Metric, Sample

MEMORY = MetricPattern("node_memory_*", "gauge", "Memory information field {}.")

_PARENTHESES = re.compile(r"\((.*)\)")


class Memory:
    def __init__(self, paths: Paths) -> None:
        self._path = paths.in_proc("meminfo")
        self._metrics: dict[str, Metric] = {}  # by the line's name and unit, so that a name is built once

    def collect(self) -> Iterator[Sample]:
        for field, value in parse_meminfo(read_text(self._path)).items():
            metric = self._metrics.get(field)
            if metric is None:
                metric = self._metrics[field] = MEMORY.named(field)
            yield metric(value)


def parse_meminfo(text: str) -> dict[str, int]:
    """Values by field as the metrics name it: `Active(anon): 5 kB` is `Active_anon_bytes: 5120`. Raises ValueError."""
    fields = {}
    for line in text.split("\n"):
        if not line:
            continue
        name, colon, rest = line.partition(":")
        parts = rest.split()
        if not colon or not parts:
            raise ValueError(f"/proc/meminfo: not a field: {line[:80]!r}")
        if "(" in name:
            name = _PARENTHESES.sub(r"_\1", name)
        value = int(parts[0])
        if len(parts) > 1:
            if parts[1] != "kB":
                raise ValueError(f"/proc/meminfo: {name} is in {parts[1]!r}, not kB")
            fields[name + "_bytes"] = value * 1024
        else:
            fields[name] = value
    if not fields:
        raise ValueError("/proc/meminfo is empty")
    return fields
