"""Properties of network interfaces, from sysfs (Documentation/ABI/testing/sysfs-class-net)."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.exporter import Counter, Gauge

from .paths import Paths, list_dir, read_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from deckwatch.exporter import Sample

    from .network import NetworkSettings

_DEVICE = ("device",)

UP = Gauge("node_network_up", "Whether the interface's operational state is up.", _DEVICE)
INFO = Gauge(
    "node_network_info",
    "What the interface says of itself.",
    ["device", "address", "broadcast", "duplex", "operstate", "adminstate", "ifalias"],
)
SPEED = Gauge("node_network_speed_bytes", "Speed of the interface, in bytes a second.", _DEVICE)
#: By the file's name.
FIGURES = {
    "addr_assign_type": Gauge("node_network_address_assign_type", "How the hardware address was assigned.", _DEVICE),
    "carrier": Gauge("node_network_carrier", "Whether the interface has a physical link.", _DEVICE),
    "carrier_changes": Counter("node_network_carrier_changes_total", "Changes of the physical link.", _DEVICE),
    "carrier_up_count": Counter("node_network_carrier_up_changes_total", "Times the link came up.", _DEVICE),
    "carrier_down_count": Counter("node_network_carrier_down_changes_total", "Times the link went down.", _DEVICE),
    "dev_id": Gauge("node_network_device_id", "Device id of the interface.", _DEVICE),
    "dormant": Gauge("node_network_dormant", "Whether the interface is dormant.", _DEVICE),
    "flags": Gauge("node_network_flags", "Flags of the interface, as a number.", _DEVICE),
    "ifindex": Gauge("node_network_iface_id", "Index of the interface.", _DEVICE),
    "iflink": Gauge("node_network_iface_link", "Index of the interface that this one is linked to.", _DEVICE),
    "link_mode": Gauge("node_network_iface_link_mode", "Link mode of the interface.", _DEVICE),
    "mtu": Gauge("node_network_mtu_bytes", "Largest transmission unit, in bytes.", _DEVICE),
    "name_assign_type": Gauge("node_network_name_assign_type", "How the interface's name was assigned.", _DEVICE),
    "netdev_group": Gauge("node_network_net_dev_group", "Group of the interface.", _DEVICE),
    "tx_queue_len": Gauge("node_network_transmit_queue_length", "Length of the transmit queue, in packets.", _DEVICE),
    "type": Gauge("node_network_protocol_type", "Protocol type of the interface.", _DEVICE),
}
_BYTES_PER_MEGABIT = 125_000
_IFF_UP = 1  # netdevice(7)

#: What follows the link; the rest is settled when an interface is made, or changed by hand, and kept for a while.
_LIVELY = frozenset(("carrier", "carrier_changes", "carrier_up_count", "carrier_down_count", "dormant", "flags"))
_KEPT = 60.0  # seconds


class _Settled(NamedTuple):
    """What seldom changes of an interface, and until when it is believed.

    Sysfs never gives the inode of an interface's folder to another one (kernfs_new_node() in fs/kernfs/dir.c): it tells
    an interface from one that has taken its name since.
    """

    inode: int
    until: float
    figures: Mapping[str, Sample]  # by the file's name
    address: str
    broadcast: str
    ifalias: str


class NetworkInterfaces:
    def __init__(self, paths: Paths, settings: NetworkSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._class = paths.in_sys("class", "net")
        self._settings = settings
        self._clock = clock
        self._settled: dict[str, _Settled] = {}

    def collect(self) -> Iterator[Sample]:
        before, self._settled = self._settled, {}
        for device in list_dir(self._class):
            if not self._settings.wants(device):
                continue
            folder = f"{self._class}/{device}"
            inode = _inode(folder)
            state = None if inode is None else read_value(f"{folder}/operstate")
            if inode is None or state is None:
                continue  # gone since the listing: its state is not known, and so not down
            settled = before.get(device)
            if settled is None or settled.inode != inode or self._clock() >= settled.until:
                settled = self._read_settled(device, inode)
            self._settled[device] = settled
            yield from self._samples(device, state, settled)

    def _read_settled(self, device: str, inode: int) -> _Settled:
        folder = f"{self._class}/{device}"
        figures = {}
        for file, metric in FIGURES.items():
            value = None if file in _LIVELY else read_integer(f"{folder}/{file}")
            if value is not None:
                figures[file] = metric(value, device=device)
        address, broadcast, ifalias = (
            read_value(f"{folder}/{file}") or "" for file in ("address", "broadcast", "ifalias")
        )
        return _Settled(inode, self._clock() + _KEPT, figures, address, broadcast, ifalias)

    def _samples(self, device: str, state: str, settled: _Settled) -> Iterator[Sample]:
        folder = f"{self._class}/{device}"
        flags = None
        for file, metric in FIGURES.items():
            if file in _LIVELY:
                value = read_integer(f"{folder}/{file}")
                if value is not None:
                    yield metric(value, device=device)
                if file == "flags":
                    flags = value
            elif file in settled.figures:
                yield settled.figures[file]
        speed = read_integer(f"{folder}/speed")
        if speed is not None:
            yield SPEED(speed * _BYTES_PER_MEGABIT, device=device)
        yield UP(state == "up", device=device)
        yield INFO(
            1,
            device=device,
            address=settled.address,
            broadcast=settled.broadcast,
            duplex=read_value(f"{folder}/duplex") or "",
            operstate=state,
            adminstate="unknown" if flags is None else "up" if flags & _IFF_UP else "down",
            ifalias=settled.ifalias,
        )


def _inode(folder: str) -> int | None:
    """None for what is no folder: `bonding_masters` is a file among the devices."""
    try:
        found = os.stat(folder)
    except OSError:
        return None
    return found.st_ino if stat.S_ISDIR(found.st_mode) else None


def read_integer(path: str) -> int | None:
    """A whole number in decimal or, as the kernel has flags and ids, hexadecimal."""
    text = read_value(path)
    if not text:
        return None
    try:
        return int(text, 0)
    except ValueError:
        return None
