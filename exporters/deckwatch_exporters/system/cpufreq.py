"""CPU frequencies, from sysfs' cpufreq (Documentation/admin-guide/pm/cpufreq.rst)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.collector import NotAvailable
from deckwatch.metric import gauge

from .paths import Paths, list_dir, read_number, read_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.metric import Sample

FREQUENCIES = {
    "cpuinfo_cur_freq": gauge("node_cpu_frequency_hertz", "Current frequency of the CPU, in hertz.", ["cpu"]),
    "cpuinfo_min_freq": gauge("node_cpu_frequency_min_hertz", "Lowest frequency of the CPU, in hertz.", ["cpu"]),
    "cpuinfo_max_freq": gauge("node_cpu_frequency_max_hertz", "Highest frequency of the CPU, in hertz.", ["cpu"]),
    "scaling_cur_freq": gauge("node_cpu_scaling_frequency_hertz", "Frequency set for the CPU, in hertz.", ["cpu"]),
    "scaling_min_freq": gauge(
        "node_cpu_scaling_frequency_min_hertz", "Lowest frequency allowed for the CPU, in hertz.", ["cpu"]
    ),
    "scaling_max_freq": gauge(
        "node_cpu_scaling_frequency_max_hertz", "Highest frequency allowed for the CPU, in hertz.", ["cpu"]
    ),
}
GOVERNOR = gauge("node_cpu_scaling_governor", "The governor that is in force has 1, others 0.", ["cpu", "governor"])


class CpuFrequency:
    def __init__(self, paths: Paths) -> None:
        self._devices = paths.in_sys("devices", "system", "cpu")

    def collect(self) -> Iterator[Sample]:
        cpus = [name for name in list_dir(self._devices) if name.startswith("cpu") and name[3:].isdigit()]
        found = False
        for name in cpus:
            folder = f"{self._devices}/{name}/cpufreq"
            if not list_dir(folder):
                continue
            found = True
            for file, metric in FREQUENCIES.items():
                kilohertz = read_number(f"{folder}/{file}")
                if kilohertz is not None:
                    yield metric(kilohertz * 1000, cpu=name[3:])
            current = read_value(f"{folder}/scaling_governor")
            for governor in (read_value(f"{folder}/scaling_available_governors") or "").split():
                yield GOVERNOR(governor == current, cpu=name[3:], governor=governor)
        if not found:
            raise NotAvailable
