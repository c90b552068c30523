"""Bonded network interfaces, from sysfs (Documentation/networking/bonding.rst)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge, NotAvailable

from .paths import Paths, printable, read_value

if TYPE_CHECKING:
    from deckwatch.exporter import Samples

SLAVES = Gauge("node_bonding_slaves", "Number of interfaces configured for the bond.", ["master"])
ACTIVE = Gauge("node_bonding_active", "Number of interfaces of the bond with a link that is up.", ["master"])


class Bonding:
    def __init__(self, paths: Paths) -> None:
        self._class = paths.in_sys("class", "net")

    def collect(self) -> Samples:
        masters = _names(f"{self._class}/bonding_masters")
        if not masters:
            raise NotAvailable
        for master in masters:
            slaves = _names(f"{self._class}/{master}/bonding/slaves")
            if slaves is None:
                continue  # the bond was removed after the list was read
            states = [
                read_value(f"{self._class}/{master}/lower_{slave}/bonding_slave/mii_status")
                or read_value(f"{self._class}/{slave}/bonding_slave/mii_status")
                for slave in slaves
            ]
            yield SLAVES(len(slaves), master=printable(master))
            yield ACTIVE(states.count("up"), master=printable(master))


def _names(path: str) -> list[str] | None:
    """The interface names in a file, each once, as they occur in paths, so without NUL and slashes."""
    text = read_value(path, errors="surrogateescape")
    if text is None:
        return None
    return [name for name in dict.fromkeys(text.split()) if "\0" not in name and "/" not in name]
