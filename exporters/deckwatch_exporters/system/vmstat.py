"""Virtual memory counters, from /proc/vmstat (proc_vmstat(5))."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deckwatch.exporter import MetricPattern, NotAvailable, Pattern, Settings

from .kept_files import KeptFiles
from .parse_numbers import MalformedValues, parse_unsigned
from .paths import Paths

if TYPE_CHECKING:
    from deckwatch.exporter import Metric, Samples

VMSTAT = MetricPattern("node_vmstat_*", "unknown", "Field {} of /proc/vmstat.")

_NAME = re.compile(r"[a-zA-Z0-9_]+")


class VmstatSettings(Settings):
    """`fields`: a regular expression for the fields to export; it may match any part of the name."""

    fields: Pattern = Pattern(r"^(oom_kill|pgpg|pswp|pg.*fault).*")


class Vmstat:
    def __init__(self, paths: Paths, settings: VmstatSettings | None = None) -> None:
        self._files = KeptFiles()
        self._path = paths.in_proc("vmstat")
        self._fields = (settings or VmstatSettings()).fields
        self._names: list[str] = []  # of the last run, in the order of the file
        self._exported: list[tuple[int, str, Metric]] = []  # with the position among the names

    def collect(self) -> Samples:
        try:
            text = self._files.read(self._path)
        except FileNotFoundError:
            raise NotAvailable from None
        malformed = MalformedValues()
        words = text.split()
        # The names are the same on every run, unless a line is malformed: then there is no need to parse the lines.
        if words[::2] != self._names or len(words) != 2 * len(self._names):
            fields = parse_vmstat(text, malformed)
            self._names = list(fields)
            words = [word for field in fields.items() for word in field]
            self._exported = [
                (position, name, VMSTAT.named(name))
                for position, name in enumerate(self._names)
                if self._fields.search(name)
            ]
        for position, name, metric in self._exported:
            value = parse_unsigned(words[2 * position + 1], f"/proc/vmstat: {name}", malformed)
            if value is not None:
                yield metric(value)
        yield from malformed


def parse_vmstat(text: str, malformed: MalformedValues) -> dict[str, str]:
    """Values by name, as text: only a few of them are exported."""
    found: dict[str, str] = {}
    for line in filter(None, text.split("\n")):
        name, _, value = line.partition(" ")
        if not _NAME.fullmatch(name) or not value or len(value.split()) != 1 or name in found:
            malformed.add("/proc/vmstat", line)
        else:
            found[name] = value.strip()
    if not found:
        malformed.add("/proc/vmstat", "")
    return found
