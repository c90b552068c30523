"""The kernel's random number pool, from /proc/sys/kernel/random (random(4))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.metric import gauge

from .paths import Paths, read_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.metric import Sample

AVAILABLE = gauge("node_entropy_available_bits", "Entropy available, in bits.")
POOL_SIZE = gauge("node_entropy_pool_size_bits", "Size of the entropy pool, in bits.")


class Entropy:
    def __init__(self, paths: Paths) -> None:
        self._folder = paths.in_proc("sys", "kernel", "random")

    def collect(self) -> Iterator[Sample]:
        for file, metric in (("entropy_avail", AVAILABLE), ("poolsize", POOL_SIZE)):
            bits = read_number(f"{self._folder}/{file}")
            if bits is not None:
                yield metric(bits)
