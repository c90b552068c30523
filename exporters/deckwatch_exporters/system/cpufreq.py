"""CPU frequencies, from sysfs' cpufreq (Documentation/admin-guide/pm/cpufreq.rst)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge, NotAvailable

from .paths import Paths, list_dir, read_number, read_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Sample

FREQUENCIES = {
    "cpuinfo_cur_freq": Gauge("node_cpu_frequency_hertz", "Current frequency of the CPU, in hertz.", ["cpu"]),
    "cpuinfo_avg_freq": Gauge(
        "node_cpu_frequency_avg_hertz", "Frequency of the CPU over the last moments, in hertz.", ["cpu"]
    ),
    "cpuinfo_min_freq": Gauge("node_cpu_frequency_min_hertz", "Lowest frequency of the CPU, in hertz.", ["cpu"]),
    "cpuinfo_max_freq": Gauge("node_cpu_frequency_max_hertz", "Highest frequency of the CPU, in hertz.", ["cpu"]),
    "scaling_cur_freq": Gauge("node_cpu_scaling_frequency_hertz", "Frequency set for the CPU, in hertz.", ["cpu"]),
    "scaling_min_freq": Gauge(
        "node_cpu_scaling_frequency_min_hertz", "Lowest frequency allowed for the CPU, in hertz.", ["cpu"]
    ),
    "scaling_max_freq": Gauge(
        "node_cpu_scaling_frequency_max_hertz", "Highest frequency allowed for the CPU, in hertz.", ["cpu"]
    ),
}
GOVERNOR = Gauge("node_cpu_scaling_governor", "The governor that is in force has 1, others 0.", ["cpu", "governor"])

_CPU = re.compile(r"cpu[0-9]+")


class CpuFrequency:
    """May block: kernels before 5.18 let a reader of a current frequency sleep while they measure it."""

    def __init__(self, paths: Paths) -> None:
        self._folder = paths.in_sys("devices", "system", "cpu")

    def collect(self) -> Iterator[Sample]:
        found = False
        for name in filter(_CPU.fullmatch, list_dir(self._folder)):
            for sample in _policy(f"{self._folder}/{name}/cpufreq", name[3:]):
                found = True
                yield sample
        if not found:
            raise NotAvailable


def _policy(folder: str, cpu: str) -> Iterator[Sample]:
    files = set(list_dir(folder))
    for file, metric in FREQUENCIES.items():
        # Only root may read cpuinfo_cur_freq, and drivers may not know what they have a file for.
        kilohertz = read_number(f"{folder}/{file}") if file in files else None
        if kilohertz is not None:
            yield metric(kilohertz * 1000, cpu=cpu)
    current = read_value(f"{folder}/scaling_governor") if "scaling_governor" in files else None
    if current:
        available = read_value(f"{folder}/scaling_available_governors") or ""
        for governor in dict.fromkeys(available.split()):
            yield GOVERNOR(1 if governor == current else 0, cpu=cpu, governor=governor)
