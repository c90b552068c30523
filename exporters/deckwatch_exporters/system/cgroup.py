"""Limits and throttling of the agent's container, from cgroup v2 (Documentation/admin-guide/cgroup-v2.rst).

The names are cAdvisor's where it has the metric. There is only one container, so cAdvisor's labels are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge, NotAvailable

from .parse_numbers import MalformedValues, parse_unsigned
from .paths import Paths, read_text, read_unsigned, read_value

if TYPE_CHECKING:
    from collections.abc import Collection

    from deckwatch.exporter import Samples

USAGE = Counter("container_cpu_usage_seconds_total", "CPU time used by the container, in seconds.")
PERIODS = Counter("container_cpu_cfs_periods_total", "Number of elapsed CPU quota enforcement periods.")
THROTTLED = Counter(
    "container_cpu_cfs_throttled_periods_total", "Number of enforcement periods in which the container was throttled."
)
THROTTLED_SECONDS = Counter(
    "container_cpu_cfs_throttled_seconds_total", "Time for which the container was throttled, in seconds."
)
QUOTA = Gauge("container_spec_cpu_quota", "CPU time allowed in each enforcement period, in microseconds.")
PERIOD = Gauge("container_spec_cpu_period", "Length of an enforcement period, in microseconds.")
MEMORY = Gauge("container_memory_usage_bytes", "Memory used by the container, page cache included, in bytes.")
WORKING_SET = Gauge(
    "container_memory_working_set_bytes", "Memory used by the container without inactive page cache, in bytes."
)
MEMORY_LIMIT = Gauge("container_spec_memory_limit_bytes", "Memory limit of the container, in bytes.")
OOM = Counter("container_oom_events_total", "Number of processes killed because the container was out of memory.")
LIMIT_HITS = Counter("container_memory_failcnt", "Number of times the memory limit was hit.")
PROCESSES = Gauge("container_processes", "Number of processes and threads in the container.")

#: By the key in cpu.stat, with the factor to base units.
_CPU_STAT = {
    "usage_usec": (USAGE, 1e-6),
    "nr_periods": (PERIODS, 1),
    "nr_throttled": (THROTTLED, 1),
    "throttled_usec": (THROTTLED_SECONDS, 1e-6),
}
_EVENTS = {"oom_kill": OOM, "max": LIMIT_HITS}


class ContainerCgroup:
    def __init__(self, paths: Paths) -> None:
        self._own = paths.in_proc("self", "cgroup")
        self._mount = paths.in_sys("fs", "cgroup")

    def collect(self) -> Samples:
        malformed = MalformedValues()
        folder = self._mount + own_cgroup(read_text(self._own, errors="surrogateescape"))
        # In a cgroup namespace, the process's cgroup is the root of the mount. It has the same files.
        memory = read_unsigned(f"{folder}/memory.current", malformed)
        cpu = read_value(f"{folder}/cpu.max")
        if memory is None and cpu is None and not malformed:
            raise NotAvailable
        for key, value in read_flat(f"{folder}/cpu.stat", _CPU_STAT, malformed).items():
            metric, factor = _CPU_STAT[key]
            yield metric(value * factor)
        if cpu:
            quota, _, period = cpu.partition(" ")
            for spec, word in ((QUOTA, quota), (PERIOD, period)):
                number = None if word == "max" else parse_unsigned(word, f"{folder}/cpu.max", malformed)
                if number is not None:
                    yield spec(number)
        yield from _memory(folder, memory, malformed)
        processes = read_unsigned(f"{folder}/pids.current", malformed)
        if processes is not None:
            yield PROCESSES(processes)
        yield from malformed


def _memory(folder: str, used: int | None, malformed: MalformedValues) -> Samples:
    if used is not None:
        yield MEMORY(used)
        inactive = read_flat(f"{folder}/memory.stat", ("inactive_file",), malformed).get("inactive_file")
        if inactive is not None:
            yield WORKING_SET(max(0, used - inactive))
    if read_value(f"{folder}/memory.max") != "max":
        limit = read_unsigned(f"{folder}/memory.max", malformed)
        if limit is not None:
            yield MEMORY_LIMIT(limit)
    for key, value in read_flat(f"{folder}/memory.events", _EVENTS, malformed).items():
        yield _EVENTS[key](value)


def own_cgroup(text: str) -> str:
    """The path of the process in the v2 hierarchy (`0::/path`). Raises NotAvailable on a host with v1 only."""
    for line in text.split("\n"):
        if line.startswith("0::"):
            return line.removeprefix("0::").rstrip("/")
    raise NotAvailable


def read_flat(path: str, keys: Collection[str], malformed: MalformedValues) -> dict[str, int]:
    """The values of these keys in a flat keyed file (`key value` lines); empty if it does not exist."""
    values: dict[str, int] = {}
    for line in (read_value(path) or "").split("\n"):
        key, _, word = line.partition(" ")
        if key not in keys:
            continue
        value = parse_unsigned(word, f"{path}: {key}", malformed)
        if value is not None and values.setdefault(key, value) != value:
            malformed.add(f"{path}: {key}", line)
    return {key: values[key] for key in keys if key in values}
