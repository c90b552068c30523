"""Properties of network interfaces, from sysfs (Documentation/ABI/testing/sysfs-class-net)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from deckwatch.metric import counter, gauge

from .paths import Paths, list_dir

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.metric import Sample

    from .network import NetworkSettings

_DEVICE = ("device",)

UP = gauge("node_network_up", "Whether the interface's operational state is up.", _DEVICE)
INFO = gauge(
    "node_network_info",
    "What the interface says of itself.",
    ["device", "address", "broadcast", "duplex", "operstate", "ifalias"],
)
SPEED = gauge("node_network_speed_bytes", "Speed of the interface, in bytes a second.", _DEVICE)
#: By the file's name.
FIGURES = {
    "addr_assign_type": gauge("node_network_address_assign_type", "How the hardware address was assigned.", _DEVICE),
    "carrier": gauge("node_network_carrier", "Whether the interface has a physical link.", _DEVICE),
    "carrier_changes": counter("node_network_carrier_changes_total", "Changes of the physical link.", _DEVICE),
    "carrier_up_count": counter("node_network_carrier_up_changes_total", "Times the link came up.", _DEVICE),
    "carrier_down_count": counter("node_network_carrier_down_changes_total", "Times the link went down.", _DEVICE),
    "dev_id": gauge("node_network_device_id", "Device id of the interface.", _DEVICE),
    "dormant": gauge("node_network_dormant", "Whether the interface is dormant.", _DEVICE),
    "flags": gauge("node_network_flags", "Flags of the interface, as a number.", _DEVICE),
    "ifindex": gauge("node_network_iface_id", "Index of the interface.", _DEVICE),
    "iflink": gauge("node_network_iface_link", "Index of the interface that this one is linked to.", _DEVICE),
    "link_mode": gauge("node_network_iface_link_mode", "Link mode of the interface.", _DEVICE),
    "mtu": gauge("node_network_mtu_bytes", "Largest transmission unit, in bytes.", _DEVICE),
    "name_assign_type": gauge("node_network_name_assign_type", "How the interface's name was assigned.", _DEVICE),
    "netdev_group": gauge("node_network_net_dev_group", "Group of the interface.", _DEVICE),
    "tx_queue_len": gauge("node_network_transmit_queue_length", "Length of the transmit queue, in packets.", _DEVICE),
    "type": gauge("node_network_protocol_type", "Protocol type of the interface.", _DEVICE),
}
_BYTES_PER_MEGABIT = 125_000


class NetworkInterfaces:
    def __init__(self, paths: Paths, settings: NetworkSettings) -> None:
        self._class = paths.in_sys("class", "net")
        self._settings = settings

    def collect(self) -> Iterator[Sample]:
        for device in list_dir(self._class):
            folder = f"{self._class}/{device}"
            if not self._settings.wants(device) or not os.path.isdir(folder):
                continue  # `bonding_masters` is a file among the devices
            state = read_attribute(f"{folder}/operstate")
            if state is None:
                continue  # gone since the listing: its state is not known, and so not down
            for file, metric in FIGURES.items():
                value = read_integer(f"{folder}/{file}")
                if value is not None:
                    yield metric(value, device=device)
            speed = read_integer(f"{folder}/speed")
            if speed is not None:
                yield SPEED(speed * _BYTES_PER_MEGABIT, device=device)
            yield UP(state == "up", device=device)
            yield INFO(
                1,
                device=device,
                address=read_attribute(f"{folder}/address") or "",
                broadcast=read_attribute(f"{folder}/broadcast") or "",
                duplex=read_attribute(f"{folder}/duplex") or "",
                operstate=state,
                ifalias=read_attribute(f"{folder}/ifalias") or "",
            )


def read_attribute(path: str) -> str | None:
    """The stripped content of an attribute; None where it is absent or, of a device that is down, refused (EINVAL).

    In one read, since an attribute is one page at the most (Documentation/filesystems/sysfs.rst): there are twenty
    of them for each device, and a second read that only finds the end is a fifth of their cost.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, 4096).decode("utf-8", "surrogateescape").strip()
    except OSError:
        return None
    finally:
        os.close(fd)


def read_integer(path: str) -> int | None:
    """A whole number in decimal or, as the kernel has flags and ids, hexadecimal."""
    text = read_attribute(path)
    if not text:
        return None
    try:
        return int(text, 0)
    except ValueError:
        return None
