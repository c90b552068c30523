"""The entropy pool of the kernel, from /proc/sys/kernel/random (random(4))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge, NotAvailable

from .kept_files import KeptFiles
from .parse_numbers import MalformedValues, parse_unsigned
from .paths import Paths

if TYPE_CHECKING:
    from deckwatch.exporter import Samples

AVAILABLE = Gauge("node_entropy_available_bits", "Available entropy, in bits.")
POOL_SIZE = Gauge("node_entropy_pool_size_bits", "Size of the entropy pool, in bits.")


class Entropy:
    def __init__(self, paths: Paths) -> None:
        self._files = KeptFiles()
        self._available = paths.in_proc("sys", "kernel", "random", "entropy_avail")
        self._pool_size = paths.in_proc("sys", "kernel", "random", "poolsize")

    def collect(self) -> Samples:
        try:
            available, pool_size = self._files.read(self._available), self._files.read(self._pool_size)
        except FileNotFoundError:
            raise NotAvailable from None
        malformed = MalformedValues()
        for metric, text, file in (
            (AVAILABLE, available, self._available),
            (POOL_SIZE, pool_size, self._pool_size),
        ):
            bits = parse_unsigned(text.strip(), file, malformed)
            if bits is not None:
                yield metric(bits)
        yield from malformed
