"""Traffic of network devices, from /proc/net/dev (proc_net(5)) and sysfs' statistics for what that lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Metric, NotAvailable, Pattern, Settings

from .paths import Paths, read_number, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Sample

_DEVICE = ("device",)

#: In the order of the file's columns.
RECEIVE: tuple[Metric, ...] = tuple(
    Counter(f"node_network_receive_{name}_total", f"Network device statistic: received {name}.", _DEVICE)
    for name in ("bytes", "packets", "errs", "drop", "fifo", "frame", "compressed", "multicast")
)
TRANSMIT: tuple[Metric, ...] = tuple(
    Counter(f"node_network_transmit_{name}_total", f"Network device statistic: transmitted {name}.", _DEVICE)
    for name in ("bytes", "packets", "errs", "drop", "fifo", "colls", "carrier", "compressed")
)
NO_HANDLER = Counter(
    "node_network_receive_nohandler_total", "Packets that were dropped because no protocol wanted them.", _DEVICE
)
COLUMNS = RECEIVE + TRANSMIT


class NetworkSettings(Settings):
    """Which devices are left out, and which alone are taken (none of either by default)."""

    device_exclude: Pattern | None = None
    device_include: Pattern | None = None

    def wants(self, device: str) -> bool:
        if self.device_exclude is not None and self.device_exclude.search(device):
            return False
        return self.device_include is None or bool(self.device_include.search(device))


class NetworkDevices:
    def __init__(self, paths: Paths, settings: NetworkSettings) -> None:
        self._dev = paths.in_proc("net", "dev")
        self._class = paths.in_sys("class", "net")
        self._settings = settings

    def collect(self) -> Iterator[Sample]:
        try:
            text = read_text(self._dev)
        except FileNotFoundError:
            raise NotAvailable from None
        for device, figures in parse_net_dev(text).items():
            if not self._settings.wants(device):
                continue
            for metric, figure in zip(COLUMNS, figures, strict=False):
                yield metric(figure, device=device)
            # A counter of its own since Linux 4.6, which the file leaves out (net/core/net-procfs.c).
            no_handler = read_number(f"{self._class}/{device}/statistics/rx_nohandler")
            if no_handler is not None:
                yield NO_HANDLER(no_handler, device=device)


def parse_net_dev(text: str) -> dict[str, list[int]]:
    """The sixteen figures of each device. Raises ValueError."""
    devices = {}
    for line in text.split("\n")[2:]:
        if not line.strip():
            continue
        name, colon, rest = line.rpartition(":")  # an alias holds a colon itself: `eth0:1`
        try:
            figures = [int(field) for field in rest.split()]
        except ValueError:
            figures = []
        if not colon or len(figures) < 16:
            raise ValueError(f"/proc/net/dev: not a device: {line[:80]!r}")
        devices[name.strip()] = figures
    return devices
