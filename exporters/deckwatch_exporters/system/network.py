"""Traffic of network devices, from /proc/net/dev (proc_net(5)) and the statistics in sysfs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Metric, NotAvailable, Pattern, Settings

from .kept_files import KeptFiles
from .parse_numbers import MalformedValues, parse_unsigned_numbers
from .paths import Paths, printable, read_unsigned

if TYPE_CHECKING:
    from deckwatch.exporter import Samples

_DEVICE = ("device",)

#: In the order of the file's columns.
RECEIVE: tuple[Metric, ...] = tuple(
    Counter(f"node_network_receive_{name}_total", help, _DEVICE)
    for name, help in (
        ("bytes", "Number of bytes received."),
        ("packets", "Number of packets received."),
        ("errs", "Number of receive errors."),
        ("drop", "Number of received packets that were dropped."),
        ("fifo", "Number of FIFO errors while receiving."),
        ("frame", "Number of framing errors while receiving."),
        ("compressed", "Number of compressed packets received."),
        ("multicast", "Number of multicast packets received."),
    )
)
TRANSMIT: tuple[Metric, ...] = tuple(
    Counter(f"node_network_transmit_{name}_total", help, _DEVICE)
    for name, help in (
        ("bytes", "Number of bytes transmitted."),
        ("packets", "Number of packets transmitted."),
        ("errs", "Number of transmit errors."),
        ("drop", "Number of packets that were dropped instead of being transmitted."),
        ("fifo", "Number of FIFO errors while transmitting."),
        ("colls", "Number of collisions while transmitting."),
        ("carrier", "Number of carrier losses while transmitting."),
        ("compressed", "Number of compressed packets transmitted."),
    )
)
NO_HANDLER = Counter(
    "node_network_receive_nohandler_total",
    "Number of packets dropped because there was no handler for their protocol.",
    _DEVICE,
)
COLUMNS = RECEIVE + TRANSMIT


class NetworkSettings(Settings):
    """`device_exclude` and `device_include`: regular expressions for the devices to leave out, or to export."""

    device_exclude: Pattern | None = None
    device_include: Pattern | None = None

    def wants(self, device: str) -> bool:
        if self.device_exclude is not None and self.device_exclude.search(device):
            return False
        return self.device_include is None or bool(self.device_include.search(device))


class NetworkDevices:
    def __init__(self, paths: Paths, settings: NetworkSettings) -> None:
        self._files = KeptFiles()
        self._dev = paths.in_proc("net", "dev")
        self._class = paths.in_sys("class", "net")
        self._settings = settings

    def collect(self) -> Samples:
        try:
            text = self._files.read(self._dev, errors="surrogateescape")
        except FileNotFoundError:
            raise NotAvailable from None
        malformed = MalformedValues()
        for name, values in parse_net_dev(text, malformed).items():
            device = printable(name)
            if not self._settings.wants(device):
                continue
            for metric, value in zip(COLUMNS, values, strict=True):
                if value is not None:
                    yield metric(value, device=device)
            # This counter (Linux 4.6) is not in the file (net/core/net-procfs.c).
            no_handler = read_unsigned(f"{self._class}/{name}/statistics/rx_nohandler", malformed)
            if no_handler is not None:
                yield NO_HANDLER(no_handler, device=device)
        yield from malformed


def parse_net_dev(text: str, malformed: MalformedValues) -> dict[str, list[int | None]]:
    """The values of each device in the order of `COLUMNS`."""
    devices: dict[str, list[int | None]] = {}
    for line in filter(str.strip, text.split("\n")):
        if "|" in line and not any(map(str.isdecimal, line.split())):
            continue  # the two lines of the heading
        name, colon, rest = line.rpartition(":")  # the name of an alias contains a colon: `eth0:1`
        name, words = name.strip(), rest.split()
        if not colon or len(words) != len(COLUMNS) or name in devices:
            malformed.add("/proc/net/dev", printable(line))
        else:
            devices[name] = parse_unsigned_numbers(words, f"/proc/net/dev: {printable(name)}", malformed)
    return devices
