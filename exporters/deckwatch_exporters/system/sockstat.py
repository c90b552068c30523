"""Sockets in use, from /proc/net/sockstat and sockstat6 (proc_net(5))."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from deckwatch.exporter import MetricPattern

from .paths import Paths, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Sample

SOCKSTAT = MetricPattern("node_sockstat_*", "gauge", "Sockets: {}.")

# Memory is counted in pages here.
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Sockstat:
    def __init__(self, paths: Paths) -> None:
        self._folder = paths.in_proc("net")

    def collect(self) -> Iterator[Sample]:
        for file in ("sockstat", "sockstat6"):
            try:
                text = read_text(f"{self._folder}/{file}")
            except FileNotFoundError:
                continue  # without IPv6 there is no such file
            for name, value in parse_sockstat(text).items():
                yield SOCKSTAT.named(name)(value)
                if name.endswith("_mem"):
                    yield SOCKSTAT.named(f"{name}_bytes")(value * _PAGE)


def parse_sockstat(text: str) -> dict[str, int]:
    """Figures by `<protocol>_<field>`: `TCP: inuse 4 mem 1` is `TCP_inuse` and `TCP_mem`. Raises ValueError."""
    fields = {}
    for line in filter(None, text.split("\n")):
        protocol, _, rest = line.partition(":")
        words = rest.split()
        try:
            for name, value in zip(words[::2], words[1::2], strict=True):
                fields[f"{protocol}_{name}"] = int(value)
        except ValueError:
            raise ValueError(f"/proc/net/sockstat: not names and figures in turn: {line[:80]!r}") from None
    return fields
