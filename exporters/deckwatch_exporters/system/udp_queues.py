"""Bytes in the queues of UDP sockets, from /proc/net/udp and udp6 (proc_net(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge

from .kept_files import KeptFiles
from .parse_numbers import MalformedValues, parse_hexadecimal
from .paths import Paths

if TYPE_CHECKING:
    from deckwatch.exporter import Samples

QUEUES = Gauge("node_udp_queues", "Number of bytes in the queues of all UDP sockets.", ["queue", "ip"])


class UdpQueues:
    def __init__(self, paths: Paths) -> None:
        self._files = KeptFiles()
        self._folder = paths.in_proc("net")

    def collect(self) -> Samples:
        malformed = MalformedValues()
        for file, version in (("udp", "v4"), ("udp6", "v6")):
            try:
                text = self._files.read(f"{self._folder}/{file}")
            except FileNotFoundError:
                continue  # udp6 does not exist without IPv6
            for queue, size in parse_udp(text, f"/proc/net/{file}", malformed).items():
                yield QUEUES(size, queue=queue, ip=version)
        yield from malformed


def parse_udp(text: str, file: str, malformed: MalformedValues) -> dict[str, int]:
    """Bytes in the queues of all sockets, by queue (`tx`, `rx`). A queue with a malformed size has no sum."""
    sizes = {"tx": 0, "rx": 0}
    for line in dict.fromkeys(text.split("\n")):
        fields = line.split()
        if not fields or "local_address" in fields:
            continue
        send, colon, receive = fields[4].partition(":") if len(fields) > 4 else ("", "", "")
        for queue, word in (("tx", send), ("rx", receive)):
            size = parse_hexadecimal(word if colon else "", f"{file}: {queue}", malformed)
            if size is None:
                sizes.pop(queue, None)
            elif queue in sizes:
                sizes[queue] += size
    return sizes
