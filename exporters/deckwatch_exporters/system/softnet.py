"""Packet processing by CPU, from /proc/net/softnet_stat (net/core/net-procfs.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge, Metric, NotAvailable

from .kept_files import KeptFiles
from .parse_numbers import MalformedValues, parse_hexadecimal
from .paths import Paths

if TYPE_CHECKING:
    from deckwatch.exporter import Samples

_CPU = ("cpu",)

#: By the column of the file.
COLUMNS: dict[int, Metric] = {
    0: Counter("node_softnet_processed_total", "Number of packets processed.", _CPU),
    1: Counter("node_softnet_dropped_total", "Number of packets dropped.", _CPU),
    2: Counter("node_softnet_times_squeezed_total", "Number of times packet processing ran out of its quota.", _CPU),
    8: Counter(
        "node_softnet_cpu_collision_total",
        "Number of collisions while obtaining the lock of a device for transmitting.",
        _CPU,
    ),
    9: Counter(
        "node_softnet_received_rps_total",
        "Number of times the CPU was woken up by receive packet steering (RPS).",
        _CPU,
    ),
    10: Counter("node_softnet_flow_limit_count_total", "Number of times the flow limit was reached.", _CPU),
    11: Gauge("node_softnet_backlog_len", "Number of packets in the backlog.", _CPU),
}
_INDEX = 12
_WIDTHS = (10, 11, 13, 15)  # fields of a line in kernels since 2.6.36


class Softnet:
    def __init__(self, paths: Paths) -> None:
        self._files = KeptFiles()
        self._path = paths.in_proc("net", "softnet_stat")

    def collect(self) -> Samples:
        try:
            text = self._files.read(self._path)
        except FileNotFoundError:
            raise NotAvailable from None
        malformed = MalformedValues()
        for cpu, values in parse_softnet(text, malformed).items():
            for column, metric in COLUMNS.items():
                value = values[column] if column < len(values) else None
                if value is not None:
                    yield metric(value, cpu=str(cpu))
        yield from malformed


def parse_softnet(text: str, malformed: MalformedValues) -> dict[int, list[int | None]]:
    """The values (hexadecimal in the file) by CPU: from Linux 5.10, the file says which; before, it is the line number.

    A line with another number of fields than most is malformed: with a field missing, those after it are shifted.
    """
    lines = [line.split() for line in text.split("\n") if line]
    widths = [len(words) for words in lines]
    width = max(widths, key=lambda width: (widths.count(width), width in _WIDTHS), default=0)
    cpus: dict[int, list[int | None]] = {}
    for number, words in enumerate(lines):
        if not 3 <= len(words) == width:
            malformed.add("/proc/net/softnet_stat", " ".join(words))
            continue
        values = [parse_hexadecimal(word, "/proc/net/softnet_stat", malformed) for word in words]
        cpu = values[_INDEX] if width > _INDEX else number
        if cpu is None or cpu in cpus:
            malformed.add("/proc/net/softnet_stat", " ".join(words))
        else:
            cpus[cpu] = values
    return cpus
