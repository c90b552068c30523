"""CPU time by mode, throttling and topology, from /proc/stat (proc_stat(5)) and the CPU devices in sysfs.

Formats: Documentation/filesystems/proc.rst, Documentation/ABI/testing/sysfs-devices-system-cpu and
Documentation/admin-guide/cputopology.rst of the kernel.
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, NamedTuple

from deckwatch.exporter import Counter, Gauge, Pattern, Refresh, Settings

from .kept_files import KeptFiles
from .parse_numbers import MalformedValues, parse_unsigned_numbers
from .paths import Paths, list_dir, read_text, read_unsigned, read_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from deckwatch.exporter import Malformed, Metric, Sample, Samples

SECONDS = Counter("node_cpu_seconds_total", "Time the CPU spent in each mode, in seconds.", ["cpu", "mode"])
GUEST = Counter(
    "node_cpu_guest_seconds_total",
    "Time the CPU spent running guests (virtual machines), by mode, in seconds.",
    ["cpu", "mode"],
)
CORE_THROTTLES = Counter(
    "node_cpu_core_throttles_total", "Number of times the CPU core was throttled because of heat.", ["package", "core"]
)
PACKAGE_THROTTLES = Counter(
    "node_cpu_package_throttles_total", "Number of times the CPU package was throttled because of heat.", ["package"]
)
ISOLATED = Gauge("node_cpu_isolated", "Whether the CPU is isolated from the scheduler (1).", ["cpu"])
ONLINE = Gauge("node_cpu_online", "Whether the CPU is online (1) or offline (0).", ["cpu"])
INFO = Gauge(
    "node_cpu_info",
    "CPU information from /proc/cpuinfo; the value is always 1.",
    ["package", "core", "cpu", "vendor", "family", "model", "model_name", "microcode", "stepping", "cachesize"],
)
FLAG = Gauge("node_cpu_flag_info", "Feature flag of the first CPU; the value is always 1.", ["flag"])
BUG = Gauge("node_cpu_bug_info", "Hardware bug of the first CPU; the value is always 1.", ["bug"])

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

# Times in /proc/stat are in ticks.
_TICKS = os.sysconf("SC_CLK_TCK")

# /proc/cpuinfo is expensive: on x86, the kernel looks up the frequency of every CPU. While the CPUs stay the same, only
# the microcode may change.
_INFO_REFRESH = 600.0

_CPU = re.compile(r"cpu[0-9]+")
_CPU_RANGE = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?")


class CpuSettings(Settings):
    """The collector's settings; node_exporter has a flag for each.

    `guest`: export the time that CPUs spent in guests. `info`: export `node_cpu_info`. `flags_include` and
    `bugs_include`: regular expressions for the flags and bugs of the first CPU to export; none by default.
    """

    guest: bool = True
    info: bool = False
    flags_include: Pattern | None = None
    bugs_include: Pattern | None = None


class _Devices(NamedTuple):
    """The files to read for each CPU, core and package; they change only when CPUs are added, removed or switched."""

    online: list[tuple[str, str]]  # CPU and file
    cores: dict[tuple[str, str], str]  # file by package and core
    packages: dict[str, str]  # file by package


class Cpu:
    def __init__(
        self, paths: Paths, settings: CpuSettings | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings or CpuSettings()
        self._files = KeptFiles()
        self._stat = paths.in_proc("stat")
        self._cpuinfo = paths.in_proc("cpuinfo")
        self._folder = paths.in_sys("devices", "system", "cpu")
        self._ticks: dict[str, list[int | None]] = {}
        self._devices = _Devices([], {}, {})
        self._devices_of: tuple[str | None, list[str]] | None = None
        self._info: tuple[Sample | Malformed, ...] = ()
        self._info_due = Refresh(_INFO_REFRESH, clock)

    def collect(self) -> Samples:
        malformed = MalformedValues()
        # Offline CPUs have no line; a CPU that comes back online starts from its own counters again.
        self._ticks = {
            cpu: without_small_decreases(self._ticks.get(cpu), ticks)
            for cpu, ticks in parse_stat(self._files.read(self._stat), malformed).items()
        }
        yield from self._times()
        yield from self._states(malformed)
        settings = self._settings
        if settings.info or settings.flags_include or settings.bugs_include:
            if self._info_due.is_due:
                self._info = tuple(self._read_info())
                self._info_due.done()
            yield from self._info
        yield from malformed

    def _times(self) -> Samples:
        guest = self._settings.guest
        for cpu, ticks in self._ticks.items():
            for mode, value in zip(MODES, ticks, strict=False):
                if value is not None:
                    yield SECONDS(value / _TICKS, cpu=cpu, mode=mode)
            if guest:
                for mode, value in zip(_GUEST_MODES, ticks[len(MODES) :], strict=False):
                    if value is not None:
                        yield GUEST(value / _TICKS, cpu=cpu, mode=mode)

    def _states(self, malformed: MalformedValues) -> Samples:
        # `present` changes when a CPU is plugged in, and the lines of /proc/stat when one goes online or offline.
        known = (self._files.read_value(f"{self._folder}/present"), list(self._ticks))
        if known != self._devices_of:
            self._devices = find_devices(self._folder)
            self._devices_of = known
            self._info_due.reset()
        for cpu, file in self._devices.online:
            online = read_unsigned(file, malformed)
            if online is not None:
                yield ONLINE(online, cpu=cpu)
        for (package, core), file in self._devices.cores.items():
            count = read_unsigned(file, malformed)
            if count is not None:
                yield CORE_THROTTLES(count, package=package, core=core)
        for package, file in self._devices.packages.items():
            count = read_unsigned(file, malformed)
            if count is not None:
                yield PACKAGE_THROTTLES(count, package=package)
        isolated = f"{self._folder}/isolated"
        for number in parse_cpu_list(self._files.read_value(isolated) or "", isolated, malformed):
            yield ISOLATED(1, cpu=str(number))

    def _read_info(self) -> Samples:
        malformed = MalformedValues()
        cpus = parse_cpuinfo(read_text(self._cpuinfo), malformed)
        for fields in cpus:
            yield INFO(1, **{label: fields.get(field, "") for label, field in _INFO_FIELDS.items()})
        if cpus:
            yield from _matching_words(cpus[0].get("flags"), self._settings.flags_include, FLAG)
            yield from _matching_words(cpus[0].get("bugs"), self._settings.bugs_include, BUG)
        yield from malformed


def _matching_words(words: str | None, include: Pattern | None, metric: Metric) -> Samples:
    if words and include:
        for word in dict.fromkeys(words.split()):
            if include.search(word):
                yield metric(1, **{metric.labels[0]: word})


def without_small_decreases(before: list[int | None] | None, now: list[int | None]) -> list[int | None]:
    """The ticks of a CPU, where those that decreased a little since the last run keep their previous value.

    The kernel's idle and iowait may decrease (Documentation/filesystems/proc.rst), and steal on some hypervisors.
    Prometheus would take that for a counter reset. A CPU that was unplugged and starts again loses at least three
    seconds of idle time, which is also node_exporter's threshold.
    """
    if before is None or len(before) != len(now):
        return now
    idle_before, idle_now = before[_IDLE], now[_IDLE]
    if idle_before is not None and idle_now is not None and idle_before - idle_now >= 3 * _TICKS:
        return now
    return [new if new is None or old is None or new > old else old for old, new in zip(before, now, strict=True)]


def find_devices(folder: str) -> _Devices:
    """Find the files of the CPU devices. Threads of one core share its counter: the first thread's file is used."""
    online: list[tuple[str, str]] = []
    cores: dict[tuple[str, str], str] = {}
    packages: dict[str, str] = {}
    for name in list_dir(folder):
        if not _CPU.fullmatch(name):
            continue
        device = f"{folder}/{name}"
        # The first CPU has no such file if it cannot be taken offline.
        if "online" in list_dir(device):
            online.append((name[3:], f"{device}/online"))
        package = read_value(f"{device}/topology/physical_package_id")
        core = read_value(f"{device}/topology/core_id")
        # Offline CPUs have no topology; -1 means that the platform does not report it.
        if not (package and package.isdecimal() and core and core.isdecimal()):
            continue
        throttle = f"{device}/thermal_throttle"
        counts = list_dir(throttle)  # some old processors have a counter for cores only
        if "core_throttle_count" in counts:
            cores.setdefault((package, core), f"{throttle}/core_throttle_count")
        if "package_throttle_count" in counts:
            packages.setdefault(package, f"{throttle}/package_throttle_count")
    return _Devices(online, cores, packages)


def parse_stat(text: str, malformed: MalformedValues) -> dict[str, list[int | None]]:
    """Ticks by CPU number, in the order of `MODES`, then guest and guest_nice.

    A line with another number of fields than most is malformed: with a field missing, those after it are shifted.
    """
    lines = [line.split() for line in text.split("\n") if line.startswith("cpu")]
    widths = [len(words) for words in lines]
    width = max(widths, key=widths.count, default=0)
    cpus: dict[str, list[int | None]] = {}
    for name, *words in lines:
        if name == "cpu":
            continue
        if not _CPU.fullmatch(name) or name[3:] in cpus or not 5 <= len(words) + 1 == width:
            malformed.add("/proc/stat", " ".join((name, *words)))
        else:
            cpus[name[3:]] = parse_unsigned_numbers(words[:10], f"/proc/stat: {name}", malformed)
    if not cpus and not malformed:
        malformed.add("/proc/stat: cpu", "")
    return cpus


def parse_cpuinfo(text: str, malformed: MalformedValues) -> list[dict[str, str]]:
    """The fields of each CPU, by their names in the file."""
    cpus: dict[str, dict[str, str]] = {}
    for block in text.split("\n\n"):
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, colon, value = line.partition(":")
            if colon:
                fields.setdefault(name.strip(), value.strip())
        number = fields.get("processor")  # some platforms describe the whole machine in a block without this field
        if number is not None and cpus.setdefault(number, fields) is not fields:
            malformed.add("/proc/cpuinfo", f"processor: {number} (repeated)")
    if not cpus:
        malformed.add("/proc/cpuinfo: processor", "")
    return list(cpus.values())


def parse_cpu_list(text: str, file: str, malformed: MalformedValues) -> list[int]:
    """`0-2,5` as [0, 1, 2, 5], each once (cpuset(7), list format); empty if any part is malformed."""
    cpus: dict[int, None] = {}
    for part in filter(None, text.split(",")):
        match = _CPU_RANGE.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < 65536:
            malformed.add(file, text)
            return []
        cpus.update(dict.fromkeys(range(first, last + 1)))
    return list(cpus)
