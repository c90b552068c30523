"""CPU time by mode, and throttling, from /proc/stat (proc_stat(5)) and sysfs' cpu devices."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from deckwatch.metric import counter, gauge

from .paths import Paths, list_dir, read_number, read_text, read_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.metric import Sample

SECONDS = counter("node_cpu_seconds_total", "Seconds the CPUs spent in each mode.", ["cpu", "mode"])
GUEST = counter(
    "node_cpu_guest_seconds_total", "Seconds the CPUs spent running guests (VMs), by mode.", ["cpu", "mode"]
)
CORE_THROTTLES = counter(
    "node_cpu_core_throttles_total", "Times this CPU core has been throttled for its temperature.", ["package", "core"]
)
PACKAGE_THROTTLES = counter(
    "node_cpu_package_throttles_total", "Times this CPU package has been throttled for its temperature.", ["package"]
)
ISOLATED = gauge("node_cpu_isolated", "Whether the CPU is isolated from the scheduler.", ["cpu"])
ONLINE = gauge("node_cpu_online", "Whether the CPU is online.", ["cpu"])

MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_GUEST_MODES = ("user", "nice")

# The kernel's unit in /proc/stat.
_TICKS = os.sysconf("SC_CLK_TCK")


class Cpu:
    def __init__(self, paths: Paths) -> None:
        self._stat = paths.in_proc("stat")
        self._devices = paths.in_sys("devices", "system", "cpu")
        self._highest: dict[str, list[int]] = {}

    def collect(self) -> Iterator[Sample]:
        for cpu, ticks in parse_stat(read_text(self._stat)).items():
            ticks = self._never_falling(cpu, ticks)
            for mode, value in zip(MODES, ticks, strict=False):
                yield SECONDS(value / _TICKS, cpu=cpu, mode=mode)
            for mode, value in zip(_GUEST_MODES, ticks[8:], strict=False):
                yield GUEST(value / _TICKS, cpu=cpu, mode=mode)
        yield from self._devices_state()

    def _never_falling(self, cpu: str, ticks: list[int]) -> list[int]:
        """The kernel's iowait and idle can fall a little, which Prometheus would take for a restart.

        A CPU that really starts anew (it was unplugged) falls by more than three seconds, as node_exporter has it.
        """
        before = self._highest.get(cpu)
        if before is None or len(before) != len(ticks) or before[3] - ticks[3] >= 3 * _TICKS:
            self._highest[cpu] = ticks
            return ticks
        highest = self._highest[cpu] = list(map(max, before, ticks))
        return highest

    def _devices_state(self) -> Iterator[Sample]:
        packages: dict[str, float] = {}
        cores: dict[tuple[str, str], float] = {}
        for name in list_dir(self._devices):
            if not (name.startswith("cpu") and name[3:].isdigit()):
                continue
            folder = f"{self._devices}/{name}"
            online = read_number(f"{folder}/online")
            if online is not None:
                yield ONLINE(online, cpu=name[3:])
            core_count = read_number(f"{folder}/thermal_throttle/core_throttle_count")
            if core_count is None:
                continue
            package = read_value(f"{folder}/topology/physical_package_id") or ""
            core = read_value(f"{folder}/topology/core_id") or ""
            cores.setdefault((package, core), core_count)  # the threads of a core share its counter
            package_count = read_number(f"{folder}/thermal_throttle/package_throttle_count")
            if package_count is not None:
                packages.setdefault(package, package_count)
        for (package, core), count in cores.items():
            yield CORE_THROTTLES(count, package=package, core=core)
        for package, count in packages.items():
            yield PACKAGE_THROTTLES(count, package=package)
        for cpu in parse_cpu_list(read_value(f"{self._devices}/isolated") or ""):
            yield ISOLATED(1, cpu=str(cpu))


def parse_stat(text: str) -> dict[str, list[int]]:
    """Ticks by CPU number, in the order of `MODES`, then guest and guest_nice. Raises ValueError."""
    cpus = {}
    for line in text.split("\n"):
        if not line.startswith("cpu"):
            continue
        name, *fields = line.split()
        if name == "cpu":
            continue
        ticks = [int(field) for field in fields[:10]]
        if len(ticks) < 4:
            raise ValueError(f"/proc/stat: {name} has {len(ticks)} figures, not four or more")
        cpus[name[3:]] = ticks
    if not cpus:
        raise ValueError("/proc/stat names no CPU")
    return cpus


def parse_cpu_list(text: str) -> list[int]:
    """`0-2,5` as [0, 1, 2, 5] (cpuset(7), list format). Raises ValueError."""
    cpus: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        start, end = int(first), int(last or first)
        if end - start > 65536:
            raise ValueError(f"not a list of CPUs: {text!r}")
        cpus += range(start, end + 1)
    return cpus
