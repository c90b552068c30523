"""Limits and throttling of the agent's own container, from cgroup v2 (Documentation/admin-guide/cgroup-v2.rst).

The names are cAdvisor's, where it has the figure; there is one container here, so none of its labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge, NotAvailable

from .paths import Paths, read_number, read_text, read_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Sample

USAGE = Counter("container_cpu_usage_seconds_total", "CPU time used by the agent's container, in seconds.")
PERIODS = Counter("container_cpu_cfs_periods_total", "Enforcement periods that have passed.")
THROTTLED = Counter("container_cpu_cfs_throttled_periods_total", "Periods in which the container was throttled.")
THROTTLED_SECONDS = Counter(
    "container_cpu_cfs_throttled_seconds_total", "Time for which the container was throttled, in seconds."
)
QUOTA = Gauge("container_spec_cpu_quota", "CPU time allowed in each period, in microseconds.")
PERIOD = Gauge("container_spec_cpu_period", "Length of a period, in microseconds.")
MEMORY = Gauge("container_memory_usage_bytes", "Memory used by the container, in bytes.")
WORKING_SET = Gauge("container_memory_working_set_bytes", "Memory that cannot be given back at once, in bytes.")
MEMORY_LIMIT = Gauge("container_spec_memory_limit_bytes", "Memory that the container may use, in bytes.")
OOM = Counter("container_oom_events_total", "Processes killed for want of memory.")
LIMIT_HITS = Counter("container_memory_failcnt", "Times the memory limit was hit.")
PROCESSES = Gauge("container_processes", "Processes and threads in the container.")


class ContainerCgroup:
    def __init__(self, paths: Paths) -> None:
        self._own = paths.in_proc("self", "cgroup")
        self._mount = paths.in_sys("fs", "cgroup")

    def collect(self) -> Iterator[Sample]:
        folder = self._mount + own_cgroup(read_text(self._own))
        # Within a cgroup namespace the own cgroup is the root of what is mounted, and has the files all the same.
        memory = read_number(f"{folder}/memory.current")
        cpu = read_value(f"{folder}/cpu.max")
        if memory is None and cpu is None:
            raise NotAvailable
        stat = parse_flat(read_value(f"{folder}/cpu.stat") or "")
        for key, metric, factor in (
            ("usage_usec", USAGE, 1e-6),
            ("nr_periods", PERIODS, 1),
            ("nr_throttled", THROTTLED, 1),
            ("throttled_usec", THROTTLED_SECONDS, 1e-6),
        ):
            if key in stat:
                yield metric(stat[key] * factor)
        quota, _, period = (cpu or "").partition(" ")
        if quota.isdigit():  # else `max`: no limit
            yield QUOTA(int(quota))
        if period.isdigit():
            yield PERIOD(int(period))
        yield from self._memory(folder, memory)
        processes = read_number(f"{folder}/pids.current")
        if processes is not None:
            yield PROCESSES(processes)

    def _memory(self, folder: str, used: float | None) -> Iterator[Sample]:
        if used is None:
            return
        yield MEMORY(used)
        inactive = parse_flat(read_value(f"{folder}/memory.stat") or "").get("inactive_file")
        if inactive is not None:
            yield WORKING_SET(max(0, used - inactive))
        limit = read_number(f"{folder}/memory.max")
        if limit is not None:
            yield MEMORY_LIMIT(limit)
        events = parse_flat(read_value(f"{folder}/memory.events") or "")
        if "oom_kill" in events:
            yield OOM(events["oom_kill"])
        if "max" in events:
            yield LIMIT_HITS(events["max"])


def own_cgroup(text: str) -> str:
    """The path of the process in the v2 hierarchy (`0::/path`). Raises NotAvailable on a host with v1 alone."""
    for line in text.split("\n"):
        if line.startswith("0::"):
            return line.removeprefix("0::").rstrip("/")
    raise NotAvailable


def parse_flat(text: str) -> dict[str, int]:
    """A flat keyed file: `key value` lines. Raises ValueError."""
    values = {}
    for line in filter(None, text.split("\n")):
        key, _, value = line.partition(" ")
        values[key] = int(value)
    return values
