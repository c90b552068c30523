"""Bytes that wait in the queues of UDP sockets, from /proc/net/udp and udp6 (proc_net(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge

from .paths import Paths, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Sample

QUEUES = Gauge("node_udp_queues", "Bytes waiting in the queues of all UDP sockets.", ["queue", "ip"])


class UdpQueues:
    def __init__(self, paths: Paths) -> None:
        self._folder = paths.in_proc("net")

    def collect(self) -> Iterator[Sample]:
        for file, version in (("udp", "v4"), ("udp6", "v6")):
            try:
                transmit, receive = parse_udp(read_text(f"{self._folder}/{file}"))
            except FileNotFoundError:
                continue  # without IPv6 there is no such file
            yield QUEUES(transmit, queue="tx", ip=version)
            yield QUEUES(receive, queue="rx", ip=version)


def parse_udp(text: str) -> tuple[int, int]:
    """Bytes to be sent and bytes received but not read, of all sockets. Raises ValueError."""
    transmit = receive = 0
    for line in filter(None, text.split("\n")[1:]):
        try:
            queued, waiting = line.split()[4].split(":")
            transmit += int(queued, 16)
            receive += int(waiting, 16)
        except (IndexError, ValueError):
            raise ValueError(f"/proc/net/udp: not a socket: {line[:80]!r}") from None
    return transmit, receive
