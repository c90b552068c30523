"""Memory by NUMA node, from sysfs' node devices (Documentation/ABI/stable/sysfs-devices-node)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deckwatch.collector import NotAvailable
from deckwatch.metric import MetricPattern

from .paths import Paths, list_dir, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.metric import Sample

MEMORY = MetricPattern("node_memory_numa_*", "gauge", "Memory information field {} of a NUMA node.", ("node",))
STATISTICS = MetricPattern("node_memory_numa_*_total", "counter", "NUMA allocation statistics field {}.", ("node",))

_MEMINFO = re.compile(r"Node\s+\d+\s+([^:]+):\s+(\d+)(?:\s+(kB))?")


class MemoryNuma:
    def __init__(self, paths: Paths) -> None:
        self._nodes = paths.in_sys("devices", "system", "node")

    def collect(self) -> Iterator[Sample]:
        nodes = [name for name in list_dir(self._nodes) if re.fullmatch(r"node\d+", name)]
        if not nodes:
            raise NotAvailable
        for name in nodes:
            number = name.removeprefix("node")
            for field, value in parse_meminfo(read_text(f"{self._nodes}/{name}/meminfo")).items():
                yield MEMORY.named(field)(value, node=number)
            for field, value in parse_numastat(read_text(f"{self._nodes}/{name}/numastat")).items():
                yield STATISTICS.named(field)(value, node=number)


def parse_meminfo(text: str) -> dict[str, int]:
    """`Node 0 MemFree: 5 kB` is `MemFree: 5120`: bytes, except for what counts pages. Raises ValueError."""
    fields = {}
    for line in filter(None, text.split("\n")):
        match = _MEMINFO.match(line)
        if match is None:
            raise ValueError(f"meminfo of a NUMA node: not a field: {line[:80]!r}")
        name, value, unit = match.groups()
        fields[re.sub(r"\((.*)\)", r"_\1", name)] = int(value) * (1024 if unit else 1)
    return fields


def parse_numastat(text: str) -> dict[str, int]:
    """`numa_hit 5` by name. Raises ValueError."""
    fields = {}
    for line in filter(None, text.split("\n")):
        name, _, value = line.partition(" ")
        fields[name] = int(value)
    return fields
