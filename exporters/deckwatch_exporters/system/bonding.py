"""Bonded network interfaces, from sysfs (Documentation/networking/bonding.rst)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge, NotAvailable

from .paths import Paths, read_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Sample

SLAVES = Gauge("node_bonding_slaves", "Interfaces configured for the bond.", ["master"])
ACTIVE = Gauge("node_bonding_active", "Interfaces of the bond that are up.", ["master"])


class Bonding:
    def __init__(self, paths: Paths) -> None:
        self._class = paths.in_sys("class", "net")

    def collect(self) -> Iterator[Sample]:
        masters = (read_value(f"{self._class}/bonding_masters") or "").split()
        if not masters:
            raise NotAvailable
        for master in masters:
            slaves = (read_value(f"{self._class}/{master}/bonding/slaves") or "").split()
            states = [
                read_value(f"{self._class}/{master}/lower_{slave}/bonding_slave/mii_status")
                or read_value(f"{self._class}/{slave}/bonding_slave/mii_status")
                for slave in slaves
            ]
            yield SLAVES(len(slaves), master=master)
            yield ACTIVE(states.count("up"), master=master)
