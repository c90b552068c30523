"""Memory by NUMA node, from sysfs' node devices (Documentation/ABI/stable/sysfs-devices-node)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deckwatch.exporter import MetricPattern, NotAvailable

from .figures import figure
from .memory import metric_part
from .paths import Paths, list_dir, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Metric, Sample

MEMORY = MetricPattern("node_memory_numa_*", "gauge", "Memory information field {} of a NUMA node.", ("node",))
STATISTICS = MetricPattern("node_memory_numa_*_total", "counter", "NUMA allocation statistics field {}.", ("node",))

_NODE = re.compile(r"node[0-9]+")
_FIELD = re.compile(r"^Node[ \t]+[0-9]+[ \t]+([^:\n]+):[ \t]*([0-9]{1,18})(?: (kB))?[ \t]*$", re.MULTILINE)


class MemoryNuma:
    def __init__(self, paths: Paths) -> None:
        self._nodes = paths.in_sys("devices", "system", "node")
        self._metrics: dict[str, Metric] = {}  # by field: the same ones come on each run

    def collect(self) -> Iterator[Sample]:
        nodes = [name for name in list_dir(self._nodes) if _NODE.fullmatch(name)]
        if not nodes:
            raise NotAvailable
        for name in nodes:
            folder = f"{self._nodes}/{name}"
            number = name.removeprefix("node")
            try:
                meminfo, numastat = read_text(f"{folder}/meminfo"), read_text(f"{folder}/numastat")
            except FileNotFoundError:
                continue  # the node's memory was taken out meanwhile
            for field, value in parse_meminfo(meminfo, f"{folder}/meminfo").items():
                yield self._metric(field)(value, node=number)
            for field, value in parse_numastat(numastat, f"{folder}/numastat").items():
                yield STATISTICS.named(field)(value, node=number)

    def _metric(self, field: str) -> Metric:
        metric = self._metrics.get(field)
        if metric is None:
            # Other than those of the whole host, these names have no unit: node_exporter's, and the dashboards', habit.
            metric = self._metrics[field] = MEMORY.named(metric_part(field, ""))
        return metric


def parse_meminfo(text: str, file: str) -> dict[str, int]:
    """`Node 0 MemFree: 5 kB` is `MemFree: 5120`: bytes, except for what counts pages. Raises ValueError."""
    found = _FIELD.findall(text)
    lines = [line for line in text.split("\n") if line]
    if len(found) != len(lines):
        wrong = next(line for line in lines if not _FIELD.fullmatch(line))
        raise ValueError(f"{file}: not a field: {wrong[:80]!r}")
    return {name: int(value) * 1024 if unit else int(value) for name, value, unit in found}


def parse_numastat(text: str, file: str) -> dict[str, int]:
    """`numa_hit 5` by name; figures are pages. Raises ValueError."""
    fields = {}
    for line in filter(None, text.split("\n")):
        name, _, value = line.partition(" ")
        if not name.isidentifier() or not name.isascii():
            raise ValueError(f"{file}: not a field: {line[:80]!r}")
        fields[name] = figure(value, file)
    return fields
