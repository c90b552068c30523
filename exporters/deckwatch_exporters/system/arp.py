"""Neighbours by device, from /proc/net/arp (proc_net(5))."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge, NotAvailable

from .paths import Paths, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Sample

ENTRIES = Gauge("node_arp_entries", "Entries in the ARP table.", ["device"])


class Arp:
    def __init__(self, paths: Paths) -> None:
        self._path = paths.in_proc("net", "arp")

    def collect(self) -> Iterator[Sample]:
        try:
            text = read_text(self._path)
        except FileNotFoundError:
            raise NotAvailable from None
        for device, entries in parse_arp(text).items():
            yield ENTRIES(entries, device=device)


def parse_arp(text: str) -> Counter[str]:
    """Entries by device, the last of a line's fields. Raises ValueError."""
    devices: Counter[str] = Counter()
    for line in filter(None, text.split("\n")[1:]):
        fields = line.split()
        # Six, or five where the link has no hardware addresses (a tunnel): that column is blank then.
        if len(fields) < 5:
            raise ValueError(f"/proc/net/arp: not an entry: {line[:80]!r}")
        devices[fields[-1]] += 1
    return devices
