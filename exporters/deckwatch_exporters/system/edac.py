"""Memory errors reported by the hardware, from EDAC in sysfs (Documentation/admin-guide/ras.rst)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, NotAvailable

from .parse_numbers import MalformedValues
from .paths import Paths, list_dir, read_unsigned, read_value

if TYPE_CHECKING:
    from deckwatch.exporter import Samples

CONTROLLER = {
    "ce": Counter(
        "node_edac_correctable_errors_total", "Number of corrected memory errors, by memory controller.", ["controller"]
    ),
    "ue": Counter(
        "node_edac_uncorrectable_errors_total",
        "Number of uncorrectable memory errors, by memory controller.",
        ["controller"],
    ),
}
CSROW = {
    "ce": Counter(
        "node_edac_csrow_correctable_errors_total",
        "Number of corrected memory errors, by chip-select row.",
        ["controller", "csrow"],
    ),
    "ue": Counter(
        "node_edac_csrow_uncorrectable_errors_total",
        "Number of uncorrectable memory errors, by chip-select row.",
        ["controller", "csrow"],
    ),
}
CHANNEL = Counter(
    "node_edac_channel_correctable_errors_total",
    "Number of corrected memory errors, by channel.",
    ["controller", "csrow", "channel", "dimm_label"],
)
CHANNEL_UNCORRECTABLE = Counter(
    "node_edac_channel_uncorrectable_errors_total",
    "Number of uncorrectable memory errors, by channel.",
    ["controller", "csrow", "channel", "dimm_label"],
)


class Edac:
    def __init__(self, paths: Paths) -> None:
        self._controllers = paths.in_sys("devices", "system", "edac", "mc")

    def collect(self) -> Samples:
        malformed = MalformedValues()
        controllers = [name for name in list_dir(self._controllers) if re.fullmatch(r"mc\d+", name)]
        if not controllers:
            raise NotAvailable
        for name in controllers:
            folder, controller = f"{self._controllers}/{name}", name.removeprefix("mc")
            for kind in ("ce", "ue"):
                count = read_unsigned(f"{folder}/{kind}_count", malformed)
                if count is not None:
                    yield CONTROLLER[kind](count, controller=controller)
                count = read_unsigned(f"{folder}/{kind}_noinfo_count", malformed)
                if count is not None:
                    yield CSROW[kind](count, controller=controller, csrow="unknown")
            for row in list_dir(folder):
                if re.fullmatch(r"csrow\d+", row):
                    yield from _row(f"{folder}/{row}", controller, row.removeprefix("csrow"), malformed)
        yield from malformed


def _row(folder: str, controller: str, csrow: str, malformed: MalformedValues) -> Samples:
    for kind in ("ce", "ue"):
        count = read_unsigned(f"{folder}/{kind}_count", malformed)
        if count is not None:
            yield CSROW[kind](count, controller=controller, csrow=csrow)
    for file in list_dir(folder):
        match = re.fullmatch(r"ch(\d+)_(ce|ue)_count", file)
        count = read_unsigned(f"{folder}/{file}", malformed) if match else None
        if match is None or count is None:
            continue
        metric = CHANNEL if match[2] == "ce" else CHANNEL_UNCORRECTABLE
        label = dimm_label(read_value(f"{folder}/ch{match[1]}_dimm_label"))
        yield metric(count, controller=controller, csrow=csrow, channel=match[1], dimm_label=label)


def dimm_label(text: str | None) -> str:
    """A label such as `CPU#0Channel#1` in the form that node_exporter gives it."""
    if text is None:
        return "unknown"
    return text.replace("#", "").replace("csrow", "_csrow").replace("channel", "_channel")
