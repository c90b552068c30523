"""Virtual memory counters, from /proc/vmstat (proc_vmstat(5))."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deckwatch.collector import NotAvailable
from deckwatch.config import Settings
from deckwatch.metric import MetricPattern

from .figures import figure
from .paths import Paths, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.metric import Metric, Sample

VMSTAT = MetricPattern("node_vmstat_*", "unknown", "Field {} of /proc/vmstat.")

_FIELD = re.compile(r"^([a-zA-Z0-9_]+) ([0-9]+)$", re.MULTILINE)


class VmstatSettings(Settings):
    """`fields`: a regular expression for the fields that are exported, found anywhere in the name."""

    fields: re.Pattern[str] = re.compile(r"^(oom_kill|pgpg|pswp|pg.*fault).*")


class Vmstat:
    def __init__(self, paths: Paths, settings: VmstatSettings | None = None) -> None:
        self._path = paths.in_proc("vmstat")
        self._wanted = (settings or VmstatSettings()).fields
        self._names: list[str] = []
        self._metrics: dict[str, Metric] = {}  # the fields of the last run that are exported

    def collect(self) -> Iterator[Sample]:
        try:
            text = read_text(self._path)
        except FileNotFoundError:
            raise NotAvailable from None
        fields = parse_vmstat(text)
        names = list(fields)
        if names != self._names:  # never, but for the first run
            self._metrics = {name: VMSTAT.named(name) for name in names if self._wanted.search(name)}
            self._names = names
        for name, metric in self._metrics.items():
            yield metric(figure(fields[name], "/proc/vmstat"))


def parse_vmstat(text: str) -> dict[str, str]:
    """Figures by name, unconverted: most of them nobody wants. Raises ValueError."""
    found = dict(_FIELD.findall(text))
    lines = [line for line in text.split("\n") if line]
    if len(found) != len(lines):
        wrong = next((line for line in lines if not _FIELD.fullmatch(line)), "")
        complaint = f"not a field: {wrong[:80]!r}" if wrong else "a field comes twice"
        raise ValueError(f"/proc/vmstat: {complaint}")
    if not found:
        raise ValueError("/proc/vmstat is empty")
    return found
