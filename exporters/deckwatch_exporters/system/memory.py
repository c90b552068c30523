"""Memory by field, from /proc/meminfo (proc_meminfo(5))."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deckwatch.exporter import MetricPattern

from .kept_files import KeptFiles
from .parse_numbers import MalformedValues
from .paths import Paths

if TYPE_CHECKING:
    from deckwatch.exporter import Metric, Samples

MEMORY = MetricPattern("node_memory_*", "gauge", "Field {} of /proc/meminfo.")

_FIELD = re.compile(r"^([^:\n]+):[ \t]*([0-9]{1,18})(?: (kB))?[ \t]*$", re.MULTILINE)
_PARENTHESES = re.compile(r"\((.*)\)")
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_]")


class Memory:
    def __init__(self, paths: Paths) -> None:
        self._files = KeptFiles()
        self._path = paths.in_proc("meminfo")
        self._metrics: dict[tuple[str, str], Metric] = {}  # by name and unit of the field

    def collect(self) -> Samples:
        malformed = MalformedValues()
        names: set[str] = set()
        for field, value in parse_meminfo(self._files.read(self._path), malformed).items():
            metric = self._metrics.get(field)
            if metric is None:
                metric = self._metrics[field] = MEMORY.named(metric_part(*field))
            if metric.name in names:  # the fields differ only in characters that a metric name cannot have
                malformed.add("/proc/meminfo", field[0])
                continue
            names.add(metric.name)
            yield metric(value)
        yield from malformed


def parse_meminfo(text: str, malformed: MalformedValues) -> dict[tuple[str, str], int]:
    """Values by name and unit of the field: in bytes if the unit is kB, as they are if there is none (``)."""
    found = _FIELD.findall(text)
    values = {(name, unit): int(value) * 1024 if unit else int(value) for name, value, unit in found}
    if len(values) != text.count("\n") or not values:
        values = {}
        for line in filter(None, text.split("\n")):
            match = _FIELD.fullmatch(line)
            if match is None or (match[1], match[3] or "") in values:
                malformed.add("/proc/meminfo", line)
            else:
                values[match[1], match[3] or ""] = int(match[2]) * 1024 if match[3] else int(match[2])
        if not values:
            malformed.add("/proc/meminfo", "")
    return values


def metric_part(name: str, unit: str) -> str:
    """The part of the metric name for a field: `Active_anon_bytes` for `Active(anon)` in kB."""
    part = _NOT_IN_A_NAME.sub("_", _PARENTHESES.sub(r"_\1", name))
    return part + "_bytes" if unit else part
