"""CPU frequencies, from sysfs' cpufreq (Documentation/admin-guide/pm/cpufreq.rst)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge, NotAvailable

from .parse_numbers import MalformedValues
from .paths import Paths, list_dir, read_unsigned, read_value

if TYPE_CHECKING:
    from deckwatch.exporter import Samples

FREQUENCIES = {
    "cpuinfo_cur_freq": Gauge("node_cpu_frequency_hertz", "Current frequency of the CPU, in hertz.", ["cpu"]),
    "cpuinfo_avg_freq": Gauge(
        "node_cpu_frequency_avg_hertz", "Recent average frequency of the CPU, in hertz.", ["cpu"]
    ),
    "cpuinfo_min_freq": Gauge("node_cpu_frequency_min_hertz", "Minimum frequency of the CPU, in hertz.", ["cpu"]),
    "cpuinfo_max_freq": Gauge("node_cpu_frequency_max_hertz", "Maximum frequency of the CPU, in hertz.", ["cpu"]),
    "scaling_cur_freq": Gauge(
        "node_cpu_scaling_frequency_hertz", "Current frequency requested for the CPU, in hertz.", ["cpu"]
    ),
    "scaling_min_freq": Gauge(
        "node_cpu_scaling_frequency_min_hertz", "Minimum frequency allowed for the CPU, in hertz.", ["cpu"]
    ),
    "scaling_max_freq": Gauge(
        "node_cpu_scaling_frequency_max_hertz", "Maximum frequency allowed for the CPU, in hertz.", ["cpu"]
    ),
}
GOVERNOR = Gauge(
    "node_cpu_scaling_governor", "Whether the frequency governor is in use (1) or available (0).", ["cpu", "governor"]
)

_CPU = re.compile(r"cpu[0-9]+")


class CpuFrequency:
    """May block: before Linux 5.18, reading a current frequency can sleep while it is measured."""

    def __init__(self, paths: Paths) -> None:
        self._folder = paths.in_sys("devices", "system", "cpu")

    def collect(self) -> Samples:
        malformed = MalformedValues()
        found = False
        for name in filter(_CPU.fullmatch, list_dir(self._folder)):
            for sample in _policy(f"{self._folder}/{name}/cpufreq", name[3:], malformed):
                found = True
                yield sample
        if not found and not malformed:
            raise NotAvailable
        yield from malformed


def _policy(folder: str, cpu: str, malformed: MalformedValues) -> Samples:
    files = set(list_dir(folder))
    for file, metric in FREQUENCIES.items():
        # Only root may read cpuinfo_cur_freq, and some drivers do not know the value of a file that they have.
        kilohertz = read_unsigned(f"{folder}/{file}", malformed) if file in files else None
        if kilohertz is not None:
            yield metric(kilohertz * 1000, cpu=cpu)
    current = read_value(f"{folder}/scaling_governor") if "scaling_governor" in files else None
    if current:
        available = read_value(f"{folder}/scaling_available_governors") or ""
        for governor in dict.fromkeys(available.split()):
            yield GOVERNOR(1 if governor == current else 0, cpu=cpu, governor=governor)
