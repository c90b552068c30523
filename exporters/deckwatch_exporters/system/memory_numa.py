"""Memory by NUMA node, from the node devices in sysfs (Documentation/ABI/stable/sysfs-devices-node)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deckwatch.exporter import MetricPattern, NotAvailable

from .kept_files import KeptFiles
from .memory import metric_part
from .parse_numbers import MalformedValues, parse_unsigned
from .paths import Paths, list_dir

if TYPE_CHECKING:
    from deckwatch.exporter import Metric, Samples

MEMORY = MetricPattern("node_memory_numa_*", "gauge", "Field {} of the memory information of the NUMA node.", ("node",))
STATISTICS = MetricPattern(
    "node_memory_numa_*_total",
    "counter",
    "Field {} of the allocation statistics of the NUMA node, in pages.",
    ("node",),
)

_NODE = re.compile(r"node[0-9]+")
_FIELD = re.compile(r"^Node[ \t]+[0-9]+[ \t]+([^:\n]+):[ \t]*([0-9]{1,18})(?: (kB))?[ \t]*$")


class MemoryNuma:
    def __init__(self, paths: Paths) -> None:
        self._files = KeptFiles()
        self._nodes = paths.in_sys("devices", "system", "node")
        self._metrics: dict[str, Metric] = {}  # by field

    def collect(self) -> Samples:
        nodes = [name for name in list_dir(self._nodes) if _NODE.fullmatch(name)]
        if not nodes:
            raise NotAvailable
        malformed = MalformedValues()
        for name in nodes:
            node, folder = name.removeprefix("node"), f"{self._nodes}/{name}"
            names: set[str] = set()
            for field, value in parse_meminfo(
                _read(self._files, f"{folder}/meminfo"), f"{folder}/meminfo", malformed
            ).items():
                metric = self._metric(field)
                if metric.name in names:  # the fields differ only in characters that a metric name cannot have
                    malformed.add(f"{folder}/meminfo", field)
                    continue
                names.add(metric.name)
                yield metric(value, node=node)
            for field, value in parse_numastat(
                _read(self._files, f"{folder}/numastat"), f"{folder}/numastat", malformed
            ).items():
                yield STATISTICS.named(field)(value, node=node)
        yield from malformed

    def _metric(self, field: str) -> Metric:
        metric = self._metrics.get(field)
        if metric is None:
            # node_exporter's names have no unit here, unlike those of the whole host.
            metric = self._metrics[field] = MEMORY.named(metric_part(field, ""))
        return metric


def _read(files: KeptFiles, path: str) -> str:
    try:
        return files.read(path)
    except FileNotFoundError:
        return ""  # the memory of the node was removed


def parse_meminfo(text: str, file: str, malformed: MalformedValues) -> dict[str, int]:
    """Values by field: in bytes if the unit is kB, as they are (pages) if there is none."""
    values: dict[str, int] = {}
    for line in filter(None, text.split("\n")):
        match = _FIELD.fullmatch(line)
        if match is None or match[1] in values:
            malformed.add(file, line)
        else:
            values[match[1]] = int(match[2]) * 1024 if match[3] else int(match[2])
    return values


def parse_numastat(text: str, file: str, malformed: MalformedValues) -> dict[str, int]:
    """Numbers of pages by field."""
    values: dict[str, int] = {}
    for line in filter(None, text.split("\n")):
        name, _, word = line.partition(" ")
        if not name.isidentifier() or not name.isascii() or name in values:
            malformed.add(file, line)
            continue
        value = parse_unsigned(word, f"{file}: {name}", malformed)
        if value is not None:
            values[name] = value
    return values
