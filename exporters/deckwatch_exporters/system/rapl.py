"""Energy consumed by the zones of the CPU, from powercap in sysfs (Documentation/power/powercap/powercap.rst).

Only root may read the energy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import MetricPattern, NotAvailable

from .parse_numbers import MalformedValues
from .paths import Paths, list_dir, read_unsigned, read_value

if TYPE_CHECKING:
    from deckwatch.exporter import Samples

JOULES = MetricPattern(
    "node_rapl_*_joules_total", "counter", "Energy consumed by the zone {}, in joules.", ("index", "path")
)


class Rapl:
    def __init__(self, paths: Paths) -> None:
        self._class = paths.in_sys("class", "powercap")

    def collect(self) -> Samples:
        malformed = MalformedValues()
        next_index: dict[str, int] = {}  # for names without a number
        is_readable = False
        for zone in list_dir(self._class):
            folder = f"{self._class}/{zone}"
            text = read_value(f"{folder}/name")
            if not text:
                continue  # a control type (`intel-rapl`) is not a zone
            name, index = split_name(text)
            if index is None:
                index = next_index.get(name, 0)
                next_index[name] = index + 1
            microjoules = read_unsigned(f"{folder}/energy_uj", malformed)
            if microjoules is not None:
                is_readable = True
                yield JOULES.named(name)(microjoules / 1_000_000, index=str(index), path=folder)
        if not is_readable and not malformed:
            raise NotAvailable
        yield from malformed


def split_name(text: str) -> tuple[str, int | None]:
    """Name and number of a zone: `package-0` is number 0 of `package`; `core` has no number."""
    name, dash, number = text.partition("-")
    return (
        (name, int(number)) if dash and number.isdecimal() and number.isascii() and len(number) < 10 else (text, None)
    )
