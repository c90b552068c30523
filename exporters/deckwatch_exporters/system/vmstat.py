"""Virtual memory counters, from /proc/vmstat (proc_vmstat(5))."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deckwatch.config import Settings
from deckwatch.metric import MetricPattern

from .paths import Paths, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.metric import Sample

VMSTAT = MetricPattern("node_vmstat_*", "unknown", "Field {} of /proc/vmstat.")


class VmstatSettings(Settings):
    """`fields`: a regular expression for the fields that are exported."""

    fields: re.Pattern[str] = re.compile(r"^(oom_kill|pgpg|pswp|pg.*fault).*")


class Vmstat:
    def __init__(self, paths: Paths, settings: VmstatSettings) -> None:
        self._path = paths.in_proc("vmstat")
        self._wanted = settings.fields
        self._choice: dict[str, bool] = {}  # the same names come on each run

    def collect(self) -> Iterator[Sample]:
        for field, value in parse_vmstat(read_text(self._path)):
            wanted = self._choice.get(field)
            if wanted is None:
                wanted = self._choice[field] = bool(self._wanted.search(field))
            if wanted:
                yield VMSTAT.named(field)(int(value))


def parse_vmstat(text: str) -> list[tuple[str, str]]:
    """Names and figures, unconverted: most of them nobody wants. Raises ValueError."""
    pairs = [line.split(" ", 1) for line in text.split("\n") if line]
    for pair in pairs:
        if len(pair) != 2:
            raise ValueError(f"/proc/vmstat: not a field: {pair[0][:80]!r}")
    return [(name, value) for name, value in pairs]
