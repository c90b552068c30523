"""Energy used by the CPU's parts, from sysfs' powercap (Documentation/power/powercap/powercap.rst).

The kernel lets root alone read the energy: where nothing can be read, there is nothing to tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import MetricPattern, NotAvailable

from .paths import Paths, list_dir, read_number, read_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Sample

JOULES = MetricPattern(
    "node_rapl_*_joules_total", "counter", "Energy used by the zone {}, in joules; wraps around.", ("index", "path")
)


class Rapl:
    def __init__(self, paths: Paths) -> None:
        self._class = paths.in_sys("class", "powercap")

    def collect(self) -> Iterator[Sample]:
        used: dict[str, int] = {}  # how often a name without a number was there
        readable = False
        for zone in list_dir(self._class):
            folder = f"{self._class}/{zone}"
            text = read_value(f"{folder}/name")
            if not text:
                continue  # a control type (`intel-rapl`), not a zone
            name, index = split_name(text)
            if index is None:
                index = used.get(name, 0)
                used[name] = index + 1
            microjoules = read_number(f"{folder}/energy_uj")
            if microjoules is not None:
                readable = True
                yield JOULES.named(name)(microjoules / 1_000_000, index=str(index), path=folder)
        if not readable:
            raise NotAvailable


def split_name(text: str) -> tuple[str, int | None]:
    """`package-0` is the zone `package` number 0; `core` has no number of its own."""
    name, dash, number = text.partition("-")
    return (name, int(number)) if dash and number.isdecimal() else (text, None)
