"""Virtual memory counters, from /proc/vmstat (proc_vmstat(5))."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deckwatch.exporter import MetricPattern, NotAvailable, Pattern, Settings

from .figures import figure
from .paths import Paths, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Metric, Sample

VMSTAT = MetricPattern("node_vmstat_*", "unknown", "Field {} of /proc/vmstat.")

_FIELD = re.compile(r"^([a-zA-Z0-9_]+) ([0-9]+)$", re.MULTILINE)


class VmstatSettings(Settings):
    """`fields`: a regular expression for the fields that are exported, found anywhere in the name."""

    fields: Pattern = Pattern(r"^(oom_kill|pgpg|pswp|pg.*fault).*")


class Vmstat:
    def __init__(self, paths: Paths, settings: VmstatSettings | None = None) -> None:
        self._path = paths.in_proc("vmstat")
        self._wanted = (settings or VmstatSettings()).fields
        self._names: list[str] = []  # those of the last run, in the file's order
        self._exported: list[tuple[int, Metric]] = []  # and where among them what is exported stands

    def collect(self) -> Iterator[Sample]:
        try:
            text = read_text(self._path)
        except FileNotFoundError:
            raise NotAvailable from None
        words = text.split()
        # The same 200 names come on each run: then lines need not be told apart.
        if words[::2] != self._names or len(words) != 2 * len(self._names):
            self._names = list(parse_vmstat(text))
            self._exported = [
                (place, VMSTAT.named(name)) for place, name in enumerate(self._names) if self._wanted.search(name)
            ]
        for place, metric in self._exported:
            yield metric(figure(words[2 * place + 1], "/proc/vmstat"))


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
