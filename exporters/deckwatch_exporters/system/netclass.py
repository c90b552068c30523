"""Properties of network interfaces, from sysfs (Documentation/ABI/testing/sysfs-class-net)."""

from __future__ import annotations

import os
import re
import stat
import time
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.exporter import Counter, Gauge, Refresh

from .kept_files import KeptFiles
from .parse_numbers import MalformedValues, parse_signed
from .paths import Paths, has_value, list_dir, printable, read_value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from deckwatch.exporter import Sample, Samples

    from .network import NetworkSettings

_DEVICE = ("device",)

UP = Gauge("node_network_up", "Whether the operational state of the interface is up (1) or not (0).", _DEVICE)
INFO = Gauge(
    "node_network_info",
    "Addresses and states of the interface; the value is always 1.",
    ["device", "address", "broadcast", "duplex", "operstate", "adminstate", "ifalias"],
)
SPEED = Gauge("node_network_speed_bytes", "Speed of the interface, in bytes per second.", _DEVICE)
#: By file name.
PROPERTIES = {
    "addr_assign_type": Gauge(
        "node_network_address_assign_type", "How the hardware address was assigned, as a kernel constant.", _DEVICE
    ),
    "carrier": Gauge("node_network_carrier", "Whether the interface has a physical link (1) or not (0).", _DEVICE),
    "carrier_changes": Counter(
        "node_network_carrier_changes_total", "Number of times the physical link changed.", _DEVICE
    ),
    "carrier_up_count": Counter(
        "node_network_carrier_up_changes_total", "Number of times the physical link came up.", _DEVICE
    ),
    "carrier_down_count": Counter(
        "node_network_carrier_down_changes_total", "Number of times the physical link went down.", _DEVICE
    ),
    "dev_id": Gauge("node_network_device_id", "Device identifier of the interface.", _DEVICE),
    "dormant": Gauge("node_network_dormant", "Whether the interface is dormant (1) or not (0).", _DEVICE),
    "flags": Gauge("node_network_flags", "Flags of the interface, as a bit mask.", _DEVICE),
    "ifindex": Gauge("node_network_iface_id", "Index of the interface.", _DEVICE),
    "iflink": Gauge("node_network_iface_link", "Index of the interface that this one is linked to.", _DEVICE),
    "link_mode": Gauge("node_network_iface_link_mode", "Link mode of the interface, as a kernel constant.", _DEVICE),
    "mtu": Gauge("node_network_mtu_bytes", "Maximum transmission unit of the interface, in bytes.", _DEVICE),
    "name_assign_type": Gauge(
        "node_network_name_assign_type", "How the name of the interface was assigned, as a kernel constant.", _DEVICE
    ),
    "netdev_group": Gauge("node_network_net_dev_group", "Group of the interface.", _DEVICE),
    "tx_queue_len": Gauge(
        "node_network_transmit_queue_length", "Maximum length of the transmit queue, in packets.", _DEVICE
    ),
    "type": Gauge("node_network_protocol_type", "Hardware type of the interface, as a kernel constant.", _DEVICE),
}
_BYTES_PER_MEGABIT = 125_000
_IFF_UP = 1  # netdevice(7)

#: Properties that follow the link. The others change only by configuration and are read again after `_REFRESH` seconds.
_LINK_PROPERTIES = frozenset(
    ("carrier", "carrier_changes", "carrier_up_count", "carrier_down_count", "dormant", "flags")
)
_REFRESH = 60.0

#: A host with many containers has many interfaces, and the agent's limit is 1024 descriptors.
_OPEN_FILES, _OPEN_INTERFACES = 9, 16

_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]{1,16}")


class _Configuration(NamedTuple):
    """The properties of an interface that rarely change.

    The files of properties that follow the link stay open. An interface that has taken over the name of another has a
    folder with another inode: sysfs does not use an inode number twice (kernfs_new_node() in fs/kernfs/dir.c).
    """

    inode: int
    refresh: Refresh
    properties: Mapping[str, Sample]  # by file name
    address: str
    broadcast: str
    ifalias: str
    malformed: MalformedValues
    files: KeptFiles
    valueless: dict[str, tuple[str, int | None, int | None]]  # by file without a value: the state, as in `_samples()`


class NetworkInterfaces:
    def __init__(self, paths: Paths, settings: NetworkSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._class = paths.in_sys("class", "net")
        self._settings = settings
        self._clock = clock
        self._configurations: dict[str, _Configuration] = {}  # by device

    def collect(self) -> Samples:
        before, self._configurations = self._configurations, {}
        malformed = MalformedValues()
        for name in list_dir(self._class):
            device = printable(name)
            if not self._settings.wants(device):
                continue
            folder = f"{self._class}/{name}"
            inode = _inode(folder)
            if inode is None:
                continue
            configuration = before.get(device)
            if configuration is None or configuration.inode != inode or configuration.refresh.is_due:
                configuration = self._read_configuration(folder, device, inode)
            state = configuration.files.read_value(f"{folder}/operstate")
            if state is None:
                continue  # the interface was removed after the folder was listed
            self._configurations[device] = configuration
            yield from _samples(folder, device, state, configuration, malformed)
            yield from configuration.malformed
        yield from malformed

    def _read_configuration(self, folder: str, device: str, inode: int) -> _Configuration:
        malformed = MalformedValues()
        properties = {}
        for file, metric in PROPERTIES.items():
            path = f"{folder}/{file}"
            value = None if file in _LINK_PROPERTIES else parse_integer(read_value(path), path, malformed)
            if value is not None:
                properties[file] = metric(value, device=device)
        address, broadcast, ifalias = (
            read_value(f"{folder}/{file}") or "" for file in ("address", "broadcast", "ifalias")
        )
        refresh = Refresh(_REFRESH, self._clock)
        refresh.done()
        files = KeptFiles(_OPEN_FILES if len(self._configurations) < _OPEN_INTERFACES else 0)
        return _Configuration(inode, refresh, properties, address, broadcast, ifalias, malformed, files, {})


def _samples(
    folder: str, device: str, state: str, configuration: _Configuration, malformed: MalformedValues
) -> Samples:
    files = configuration.files
    links: dict[str, int | None] = {}
    for file, metric in PROPERTIES.items():
        if file in _LINK_PROPERTIES:
            path = f"{folder}/{file}"
            value = links[file] = parse_integer(files.read_value(path), path, malformed)
            if value is not None:
                yield metric(value, device=device)
        elif file in configuration.properties:
            yield configuration.properties[file]
    flags = links["flags"]
    link = (state, flags, links["carrier"])

    def read_link_setting(file: str) -> str | None:
        """Read speed or duplex. Virtual interfaces have none, and failing to read them takes longer than all else."""
        if configuration.valueless.get(file) == link:
            return None
        text = files.read_value(f"{folder}/{file}")
        if text is None:
            configuration.valueless[file] = link
        return text

    speed = parse_integer(read_link_setting("speed"), f"{folder}/speed", malformed)
    if speed is not None:
        yield SPEED(speed * _BYTES_PER_MEGABIT, device=device)
    yield UP(state == "up", device=device)
    yield INFO(
        1,
        device=device,
        address=configuration.address,
        broadcast=configuration.broadcast,
        duplex=read_link_setting("duplex") or "",
        operstate=state,
        adminstate="unknown" if flags is None else "up" if flags & _IFF_UP else "down",
        ifalias=configuration.ifalias,
    )


def _inode(folder: str) -> int | None:
    """The inode of a folder; None for a file (`bonding_masters` is one, between the devices)."""
    try:
        found = os.stat(folder)
    except OSError:
        return None
    return found.st_ino if stat.S_ISDIR(found.st_mode) else None


def parse_integer(text: str | None, path: str, malformed: MalformedValues) -> int | None:
    """Parse an integer in decimal or, like flags and identifiers, in hexadecimal; None where there is no value."""
    if not has_value(text):
        return None
    if _HEXADECIMAL.fullmatch(text):
        return int(text, 16)
    return parse_signed(text, path, malformed)
