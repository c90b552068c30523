"""CPU time by mode, and throttling, from /proc/stat (proc_stat(5)) and sysfs' cpu devices.

Formats: Documentation/filesystems/proc.rst, Documentation/ABI/testing/sysfs-devices-system-cpu and
Documentation/admin-guide/cputopology.rst of the kernel.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.exporter import Counter, Gauge, Pattern, Settings

from .figures import figures
from .paths import Paths, list_dir, read_number, read_text, read_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from deckwatch.exporter import Metric, Sample

SECONDS = Counter("node_cpu_seconds_total", "Seconds the CPUs spent in each mode.", ["cpu", "mode"])
GUEST = Counter(
    "node_cpu_guest_seconds_total", "Seconds the CPUs spent running guests (VMs), by mode.", ["cpu", "mode"]
)
CORE_THROTTLES = Counter(
    "node_cpu_core_throttles_total", "Times this CPU core has been throttled for its temperature.", ["package", "core"]
)
PACKAGE_THROTTLES = Counter(
    "node_cpu_package_throttles_total", "Times this CPU package has been throttled for its temperature.", ["package"]
)
ISOLATED = Gauge("node_cpu_isolated", "Whether the CPU is isolated from the scheduler.", ["cpu"])
ONLINE = Gauge("node_cpu_online", "Whether the CPU is online.", ["cpu"])
INFO = Gauge(
    "node_cpu_info",
    "The make of the CPU, as /proc/cpuinfo has it; always 1.",
    ["package", "core", "cpu", "vendor", "family", "model", "model_name", "microcode", "stepping", "cachesize"],
)
FLAG = Gauge("node_cpu_flag_info", "A feature flag that the first CPU has; always 1.", ["flag"])
BUG = Gauge("node_cpu_bug_info", "A hardware bug that the kernel knows the first CPU to have; always 1.", ["bug"])

MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_IDLE = MODES.index("idle")
_GUEST_MODES = ("user", "nice")

# The labels of INFO by the field of /proc/cpuinfo that they are taken from.
_INFO_FIELDS = {
    "package": "physical id",
    "core": "core id",
    "cpu": "processor",
    "vendor": "vendor_id",
    "family": "cpu family",
    "model": "model",
    "model_name": "model name",
    "microcode": "microcode",
    "stepping": "stepping",
    "cachesize": "cache size",
}

# The kernel's unit in /proc/stat.
_TICKS = os.sysconf("SC_CLK_TCK")

_CPU = re.compile(r"cpu[0-9]+")
_CPU_RANGE = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?")


class CpuSettings(Settings):
    """What node_exporter has flags for.

    `guest`: export the time that CPUs spent in guests. `info`: export the make of each CPU. `flags_include` and
    `bugs_include`: regular expressions for the flags and bugs of the first CPU that are exported, none without one.
    """

    guest: bool = True
    info: bool = False
    flags_include: Pattern | None = None
    bugs_include: Pattern | None = None


class _Devices(NamedTuple):
    """Which CPU devices have what; it changes only when CPUs come or go."""

    online: list[tuple[str, str]]  # CPU and its file
    cores: dict[tuple[str, str], str]  # package and core; their file
    packages: dict[str, str]


class Cpu:
    def __init__(self, paths: Paths, settings: CpuSettings | None = None) -> None:
        self._settings = settings or CpuSettings()
        self._stat = paths.in_proc("stat")
        self._cpuinfo = paths.in_proc("cpuinfo")
        self._folder = paths.in_sys("devices", "system", "cpu")
        self._highest: dict[str, list[int]] = {}
        self._devices = _Devices([], {}, {})
        self._devices_of: tuple[str | None, list[str]] | None = None

    def collect(self) -> Iterator[Sample]:
        # Only what is online has a line; a CPU that went offline and comes back counts from its own figures again.
        self._highest = {
            cpu: never_falling(self._highest.get(cpu), ticks)
            for cpu, ticks in parse_stat(read_text(self._stat)).items()
        }
        yield from self._times()
        yield from self._states()
        settings = self._settings
        if settings.info or settings.flags_include or settings.bugs_include:
            yield from self._make()

    def _times(self) -> Iterator[Sample]:
        guest = self._settings.guest
        for cpu, ticks in self._highest.items():
            for mode, value in zip(MODES, ticks, strict=False):
                yield SECONDS(value / _TICKS, cpu=cpu, mode=mode)
            if guest:
                for mode, value in zip(_GUEST_MODES, ticks[len(MODES) :], strict=False):
                    yield GUEST(value / _TICKS, cpu=cpu, mode=mode)

    def _states(self) -> Iterator[Sample]:
        # A CPU that is plugged in appears among the present ones, and one that goes online in /proc/stat.
        known = (read_value(f"{self._folder}/present"), list(self._highest))
        if known != self._devices_of:
            self._devices = find_devices(self._folder)
            self._devices_of = known
        for cpu, file in self._devices.online:
            online = read_number(file)
            if online is not None:
                yield ONLINE(online, cpu=cpu)
        for (package, core), file in self._devices.cores.items():
            count = read_number(file)
            if count is not None:
                yield CORE_THROTTLES(count, package=package, core=core)
        for package, file in self._devices.packages.items():
            count = read_number(file)
            if count is not None:
                yield PACKAGE_THROTTLES(count, package=package)
        for number in parse_cpu_list(read_value(f"{self._folder}/isolated") or "", f"{self._folder}/isolated"):
            yield ISOLATED(1, cpu=str(number))

    def _make(self) -> Iterator[Sample]:
        cpus = parse_cpuinfo(read_text(self._cpuinfo))
        for fields in cpus:
            yield INFO(1, **{label: fields.get(field, "") for label, field in _INFO_FIELDS.items()})
        yield from _words_that_match(cpus[0].get("flags"), self._settings.flags_include, FLAG)
        yield from _words_that_match(cpus[0].get("bugs"), self._settings.bugs_include, BUG)


def _words_that_match(words: str | None, wanted: Pattern | None, metric: Metric) -> Iterator[Sample]:
    if words and wanted:
        for word in dict.fromkeys(words.split()):
            if wanted.search(word):
                yield metric(1, **{metric.labels[0]: word})


def never_falling(before: list[int] | None, now: list[int]) -> list[int]:
    """The ticks of a CPU with those of the last run where the kernel's have fallen a little.

    Its idle and iowait are not reliable and may decrease (Documentation/filesystems/proc.rst), steal too on some
    hypervisors; Prometheus would take that for a restart, and the rate of the whole counter for its increase. A CPU
    that really starts anew (it was unplugged) loses three seconds of idle time or more: node_exporter's measure.
    """
    if before is None or len(before) != len(now) or before[_IDLE] - now[_IDLE] >= 3 * _TICKS:
        return now
    return list(map(max, before, now))


def find_devices(folder: str) -> _Devices:
    """What the CPU devices in sysfs' folder of them have. A core's threads share its counter: the first one's is it."""
    online: list[tuple[str, str]] = []
    cores: dict[tuple[str, str], str] = {}
    packages: dict[str, str] = {}
    for name in list_dir(folder):
        if not _CPU.fullmatch(name):
            continue
        device = f"{folder}/{name}"
        # The first CPU has no such file where it cannot be taken offline.
        if "online" in list_dir(device):
            online.append((name[3:], f"{device}/online"))
        package = read_value(f"{device}/topology/physical_package_id")
        core = read_value(f"{device}/topology/core_id")
        # Offline CPUs have no topology, and -1 is what the kernel says where the platform does not tell.
        if not (package and package.isdecimal() and core and core.isdecimal()):
            continue
        throttle = f"{device}/thermal_throttle"
        counts = list_dir(throttle)  # some old processors count for cores and not for packages
        if "core_throttle_count" in counts:
            cores.setdefault((package, core), f"{throttle}/core_throttle_count")
        if "package_throttle_count" in counts:
            packages.setdefault(package, f"{throttle}/package_throttle_count")
    return _Devices(online, cores, packages)


def parse_stat(text: str) -> dict[str, list[int]]:
    """Ticks by CPU number, in the order of `MODES`, then guest and guest_nice. Raises ValueError."""
    cpus = {}
    for line in _cpu_lines(text):
        name, *words = line.split()
        if name == "cpu":
            continue
        if not _CPU.fullmatch(name):
            raise ValueError(f"/proc/stat: not a CPU: {name[:80]!r}")
        if len(words) < 4:
            raise ValueError(f"/proc/stat: {name} has {len(words)} figures, not four or more")
        cpus[name[3:]] = figures(words[:10], "/proc/stat")
    if not cpus:
        raise ValueError("/proc/stat names no CPU")
    return cpus


def _cpu_lines(text: str) -> Iterable[str]:
    # Behind the CPUs comes a line with a figure for each of thousands of interrupts.
    end = text.find("\nintr ")
    return (line for line in text[: end if end >= 0 else None].split("\n") if line.startswith("cpu"))


def parse_cpuinfo(text: str) -> list[dict[str, str]]:
    """The fields of each CPU, by their names in the file; of a number that comes twice the last. Raises ValueError."""
    cpus: dict[str, dict[str, str]] = {}
    for block in text.split("\n\n"):
        pairs = (line.partition(":") for line in block.split("\n"))
        fields = {name.strip(): value.strip() for name, colon, value in pairs if colon}
        if "processor" in fields:  # what describes the whole machine stands in a block of its own on some platforms
            cpus[fields["processor"]] = fields
    if not cpus:
        raise ValueError("/proc/cpuinfo names no processor")
    return list(cpus.values())


def parse_cpu_list(text: str, file: str = "a list of CPUs") -> list[int]:
    """`0-2,5` as [0, 1, 2, 5], each once (cpuset(7), list format). Raises ValueError, with `file` in it."""
    cpus: dict[int, None] = {}
    for part in filter(None, text.split(",")):
        match = _CPU_RANGE.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < 65536:
            raise ValueError(f"{file}: not a list of CPUs: {text[:80]!r}")
        cpus.update(dict.fromkeys(range(first, last + 1)))
    return list(cpus)
