"""Packet processing by CPU, from /proc/net/softnet_stat (net/core/net-procfs.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge, Metric, NotAvailable

from .paths import Paths, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Sample

_CPU = ("cpu",)

#: By the file's column.
COLUMNS: dict[int, Metric] = {
    0: Counter("node_softnet_processed_total", "Packets processed.", _CPU),
    1: Counter("node_softnet_dropped_total", "Packets dropped.", _CPU),
    2: Counter("node_softnet_times_squeezed_total", "Times that processing ran out of quota.", _CPU),
    8: Counter("node_softnet_cpu_collision_total", "Collisions while obtaining the device's lock.", _CPU),
    9: Counter("node_softnet_received_rps_total", "Times the CPU was woken up by receive packet steering.", _CPU),
    10: Counter("node_softnet_flow_limit_count_total", "Times the flow limit was reached.", _CPU),
    11: Gauge("node_softnet_backlog_len", "Packets in the backlog.", _CPU),
}
_INDEX = 12


class Softnet:
    def __init__(self, paths: Paths) -> None:
        self._path = paths.in_proc("net", "softnet_stat")

    def collect(self) -> Iterator[Sample]:
        try:
            text = read_text(self._path)
        except FileNotFoundError:
            raise NotAvailable from None
        for cpu, figures in parse_softnet(text).items():
            for column, metric in COLUMNS.items():
                if column < len(figures):
                    yield metric(figures[column], cpu=str(cpu))


def parse_softnet(text: str) -> dict[int, list[int]]:
    """Figures (hexadecimal in the file) by CPU: newer kernels name it, else it is the line. Raises ValueError."""
    cpus = {}
    for number, line in enumerate(filter(None, text.split("\n"))):
        try:
            figures = [int(field, 16) for field in line.split()]
        except ValueError:
            figures = []
        if len(figures) < 3:
            raise ValueError(f"/proc/net/softnet_stat: not three or more hexadecimal figures: {line[:80]!r}")
        cpus[figures[_INDEX] if len(figures) > _INDEX else number] = figures
    return cpus
