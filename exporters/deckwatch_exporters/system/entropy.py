"""The kernel's random number pool, from /proc/sys/kernel/random (random(4))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge, NotAvailable

from .figures import figure
from .paths import Paths, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Sample

AVAILABLE = Gauge("node_entropy_available_bits", "Entropy available, in bits.")
POOL_SIZE = Gauge("node_entropy_pool_size_bits", "Size of the entropy pool, in bits.")


class Entropy:
    def __init__(self, paths: Paths) -> None:
        self._available = paths.in_proc("sys", "kernel", "random", "entropy_avail")
        self._pool_size = paths.in_proc("sys", "kernel", "random", "poolsize")

    def collect(self) -> Iterator[Sample]:
        try:
            available, pool_size = read_text(self._available), read_text(self._pool_size)
        except FileNotFoundError:
            raise NotAvailable from None
        yield AVAILABLE(figure(available.strip(), self._available))
        yield POOL_SIZE(figure(pool_size.strip(), self._pool_size))
