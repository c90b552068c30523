"""Memory, all of /proc/meminfo (proc_meminfo(5)), by field."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deckwatch.exporter import MetricPattern

from .paths import Paths, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Metric, Sample

MEMORY = MetricPattern("node_memory_*", "gauge", "Memory information field {}.")

_FIELD = re.compile(r"^([^:\n]+):[ \t]*([0-9]{1,18})(?: (kB))?[ \t]*$", re.MULTILINE)
_PARENTHESES = re.compile(r"\((.*)\)")
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_]")


class Memory:
    def __init__(self, paths: Paths) -> None:
        self._path = paths.in_proc("meminfo")
        self._metrics: dict[tuple[str, str], Metric] = {}  # by name and unit: the same ones come on each run

    def collect(self) -> Iterator[Sample]:
        for field, value in parse_meminfo(read_text(self._path)).items():
            metric = self._metrics.get(field)
            if metric is None:
                metric = self._metrics[field] = MEMORY.named(metric_part(*field))
            yield metric(value)


def parse_meminfo(text: str) -> dict[tuple[str, str], int]:
    """Values by name and unit: bytes where the unit is kB, else (``) as the file has them. Raises ValueError."""
    found = _FIELD.findall(text)
    lines = [line for line in text.split("\n") if line]
    if len(found) != len(lines):
        wrong = next(line for line in lines if not _FIELD.fullmatch(line))
        raise ValueError(f"/proc/meminfo: not a field: {wrong[:80]!r}")
    if not found:
        raise ValueError("/proc/meminfo is empty")
    return {(name, unit): int(value) * 1024 if unit else int(value) for name, value, unit in found}


def metric_part(name: str, unit: str) -> str:
    """How a metric names the field: `Active(anon)` in kB is `Active_anon_bytes`."""
    part = _NOT_IN_A_NAME.sub("_", _PARENTHESES.sub(r"_\1", name))
    return part + "_bytes" if unit else part
