"""ARP entries by device, from /proc/net/arp (proc_net(5))."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge, NotAvailable

from .kept_files import KeptFiles
from .parse_numbers import MalformedValues
from .paths import Paths

if TYPE_CHECKING:
    from deckwatch.exporter import Samples

ENTRIES = Gauge("node_arp_entries", "Number of entries in the ARP table, by device.", ["device"])


class Arp:
    def __init__(self, paths: Paths) -> None:
        self._files = KeptFiles()
        self._path = paths.in_proc("net", "arp")

    def collect(self) -> Samples:
        try:
            text = self._files.read(self._path)
        except FileNotFoundError:
            raise NotAvailable from None
        malformed = MalformedValues()
        for device, entries in parse_arp(text, malformed).items():
            yield ENTRIES(entries, device=device)
        yield from malformed


def parse_arp(text: str, malformed: MalformedValues) -> Counter[str]:
    """Count the entries by device, which is the last field of a line. A line that is there twice is one entry."""
    devices: Counter[str] = Counter()
    for line in dict.fromkeys(text.split("\n")):
        fields = line.split()
        if not fields or fields[-1] == "Device":
            continue
        # Six fields, or five where the link has no hardware addresses (a tunnel) and that column is blank.
        if len(fields) < 5:
            malformed.add("/proc/net/arp", line)
        else:
            devices[fields[-1]] += 1
    return devices
