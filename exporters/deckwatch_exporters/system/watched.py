"""Groups of processes by command line, under process-exporter's names.

The counters of a group are sums over what its processes used since they were first seen, so that they do not decrease
when a process ends. Metrics that require a missing privilege (I/O, file descriptors) are absent.
"""

from __future__ import annotations

import collections
import os
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field

from deckwatch.exporter import Counter, Gauge, Pattern, Refresh, Settings

from .parse_numbers import MalformedValues, parse_unsigned, parse_unsigned_numbers
from .paths import Paths, read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from deckwatch.exporter import Samples

_GROUP = ("groupname",)

NUM_PROCS = Gauge("namedprocess_namegroup_num_procs", "Number of processes in the group.", _GROUP)
CPU = Counter(
    "namedprocess_namegroup_cpu_seconds_total",
    "CPU time used by the processes of the group, in seconds.",
    ["groupname", "mode"],
)
READ = Counter("namedprocess_namegroup_read_bytes_total", "Number of bytes read from storage by the group.", _GROUP)
WRITTEN = Counter(
    "namedprocess_namegroup_write_bytes_total", "Number of bytes written to storage by the group.", _GROUP
)
MAJOR_FAULTS = Counter(
    "namedprocess_namegroup_major_page_faults_total", "Number of page faults that required I/O.", _GROUP
)
MINOR_FAULTS = Counter(
    "namedprocess_namegroup_minor_page_faults_total", "Number of page faults that required no I/O.", _GROUP
)
CONTEXT_SWITCHES = Counter(
    "namedprocess_namegroup_context_switches_total",
    "Number of context switches of the group.",
    ["groupname", "ctxswitchtype"],
)
MEMORY = Gauge("namedprocess_namegroup_memory_bytes", "Memory used by the group, in bytes.", ["groupname", "memtype"])
OPEN_FILES = Gauge("namedprocess_namegroup_open_filedesc", "Number of open file descriptors of the group.", _GROUP)
WORST_FILES = Gauge(
    "namedprocess_namegroup_worst_fd_ratio",
    "Highest ratio of open file descriptors to their limit among the processes of the group.",
    _GROUP,
)
OLDEST_START = Gauge(
    "namedprocess_namegroup_oldest_start_time_seconds",
    "Time at which the oldest process of the group started, in Unix seconds.",
    _GROUP,
)
NUM_THREADS = Gauge("namedprocess_namegroup_num_threads", "Number of threads of the group.", _GROUP)
STATES = Gauge(
    "namedprocess_namegroup_states", "Number of processes of the group in each state.", ["groupname", "state"]
)
LARGEST = Gauge(
    "deckwatch_process_max_resident_bytes", "Resident memory of the group's largest process, in bytes.", _GROUP
)
EXPECTED = Gauge(
    "deckwatch_process_expected",
    "Whether a process of the group is expected to run at all times (1) or not (0), if the config says so.",
    _GROUP,
)
RESTARTS = Counter(
    "deckwatch_process_restarts_total",
    "Number of processes of the group that ended and were replaced since the agent started.",
    _GROUP,
)

_STATE_NAMES = {"R": "Running", "S": "Sleeping", "D": "Waiting", "Z": "Zombie"}
_SWITCHES = {"voluntary_ctxt_switches": "voluntary", "nonvoluntary_ctxt_switches": "nonvoluntary"}  # in status
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class ProcessGroup(Settings):
    """`match`: a regular expression for the command line, with blanks between the arguments.

    `pss`: also export proportional memory, which is expensive to read.

    `expected`: whether a process must run at all times, for the alert ProcessMissing. Without it, the alert judges by
    the last day.
    """

    name: Annotated[str, Field(min_length=1, max_length=128)]
    match: Pattern
    pss: bool = False
    expected: Literal["always", "sometimes"] | None = None


class Stat(NamedTuple):
    """Fields of /proc/<pid>/stat (proc_pid_stat(5)); times in ticks, `rss` in pages."""

    name: str
    state: str
    minor_faults: int
    major_faults: int
    user: int
    system: int
    threads: int
    start: int
    virtual: int
    rss: int


@dataclass
class _Member:
    """A process of a group, with its counters in the last run."""

    used: collections.Counter[str] = field(default_factory=collections.Counter)


@dataclass
class _Group:
    settings: ProcessGroup
    members: dict[tuple[str, int], _Member] = field(default_factory=dict)
    totals: collections.Counter[str] = field(default_factory=collections.Counter)
    has_run: bool = False
    joined: int = 0
    left: int = 0


@dataclass
class _Match:
    """The group that a process was assigned to, and what the process looked like then."""

    group: _Group | None
    name: str
    virtual: int
    refresh: Refresh

    def is_valid_for(self, stat: Stat) -> bool:
        """Whether the command line need not be read again.

        execve() changes the name of the process or the size of its address space. After a fork, the first command line
        may be that of the parent; a program may also overwrite its command line: both are found at the next refresh.
        """
        return self.name == stat.name and self.virtual == stat.virtual and not self.refresh.is_due


#: Seconds until the command line of a known process is read again.
_REFRESH = 15.0


class WatchedProcesses:
    """The processes that may be read: with `hidepid=1` on /proc, only root may read those of other users."""

    def __init__(
        self, paths: Paths, groups: Sequence[ProcessGroup], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._proc = paths.proc
        self._groups = [_Group(settings) for settings in groups]
        self._matches: dict[tuple[str, int], _Match] = {}  # by process identifier and start time
        self._clock = clock

    def collect(self) -> Samples:
        malformed = MalformedValues()
        boot = parse_boot_time(read_text(f"{self._proc}/stat"), malformed)
        found: dict[int, list[tuple[str, Stat]]] = {id(group): [] for group in self._groups}
        for pid, stat, group in self._matching(malformed):
            found[id(group)].append((pid, stat))
        for group in self._groups:
            yield from self._samples(group, found[id(group)], boot, malformed)
        yield from malformed

    def _matching(self, malformed: MalformedValues) -> Iterator[tuple[str, Stat, _Group]]:
        before, self._matches = self._matches, {}
        for pid in filter(str.isdecimal, os.listdir(self._proc)):
            path = f"{self._proc}/{pid}/stat"
            try:
                stat = parse_stat(read_text(path), path, malformed)
                if stat is None:
                    continue
                key = (pid, stat.start)
                match = before.get(key)
                if match is None or not match.is_valid_for(stat):
                    refresh = Refresh(_REFRESH, self._clock)
                    if match is not None:  # a new process is read again in the next run
                        refresh.done()
                    match = _Match(self._group_of(pid), stat.name, stat.virtual, refresh)
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # the process has ended, or may not be read
            self._matches[key] = match
            if match.group is not None:
                yield pid, stat, match.group

    def _group_of(self, pid: str) -> _Group | None:
        command = read_text(f"{self._proc}/{pid}/cmdline").replace("\0", " ").strip()
        if not command:
            return None  # a kernel thread or a zombie
        return next((group for group in self._groups if group.settings.match.search(command)), None)

    def _samples(
        self, group: _Group, processes: Sequence[tuple[str, Stat]], boot: float | None, malformed: MalformedValues
    ) -> Samples:
        name = group.settings.name
        memory: collections.Counter[str] = collections.Counter()
        states = collections.Counter(dict.fromkeys([*_STATE_NAMES.values(), "Other"], 0))
        threads = files = 0
        worst_ratio: float | None = None
        readable_files = False
        members: dict[tuple[str, int], _Member] = {}
        for pid, stat in processes:
            key = (pid, stat.start)
            used, swapped = self._used(pid, stat, malformed)
            member = group.members.get(key)
            if member is None:
                member = _Member(used)
                group.joined += group.has_run
            # A counter that could not be read in the last run starts from its current value.
            group.totals.update({what: n - member.used.get(what, n) for what, n in used.items()})
            for what in used:
                group.totals[what] += 0
            member.used = used
            members[key] = member
            memory.update({"resident": stat.rss * _PAGE, "virtual": stat.virtual, "swapped": swapped * 1024})
            if group.settings.pss:
                memory.update(self._proportional(pid, malformed))
            states[_STATE_NAMES.get(stat.state, "Other")] += 1
            threads += stat.threads
            count, limit = self._files(pid)
            if count is not None:
                readable_files = True
                files += count
                if limit:
                    worst_ratio = max(worst_ratio or 0.0, count / limit)
        group.left += len(group.members.keys() - members.keys())
        group.members = members
        group.has_run = True
        yield NUM_PROCS(len(processes), groupname=name)
        yield RESTARTS(min(group.left, group.joined), groupname=name)
        if group.settings.expected is not None:
            yield EXPECTED(group.settings.expected == "always", groupname=name)
        yield from _counters(name, group.totals)
        if not processes:
            return
        for kind, value in memory.items():
            yield MEMORY(value, groupname=name, memtype=kind)
        for state, number in states.items():
            yield STATES(number, groupname=name, state=state)
        yield LARGEST(max(stat.rss for _, stat in processes) * _PAGE, groupname=name)
        yield NUM_THREADS(threads, groupname=name)
        if boot is not None:
            yield OLDEST_START(boot + min(stat.start for _, stat in processes) / _TICKS, groupname=name)
        if readable_files:
            yield OPEN_FILES(files, groupname=name)
            if worst_ratio is not None:
                yield WORST_FILES(worst_ratio, groupname=name)

    def _used(self, pid: str, stat: Stat, malformed: MalformedValues) -> tuple[collections.Counter[str], int]:
        """The counters of a process, and its swapped memory in KiB."""
        used = collections.Counter(
            user=stat.user, system=stat.system, major_faults=stat.major_faults, minor_faults=stat.minor_faults
        )
        status = self._read_keyed(pid, "status", ("VmSwap", *_SWITCHES), malformed)
        for key, kind in _SWITCHES.items():
            if key in status:
                used[kind] = status[key]
        used.update(self._read_keyed(pid, "io", ("read_bytes", "write_bytes"), malformed))
        return used, status.get("VmSwap", 0)

    def _proportional(self, pid: str, malformed: MalformedValues) -> dict[str, int]:
        names = {"Pss": "proportionalResident", "SwapPss": "proportionalSwapped"}
        rollup = self._read_keyed(pid, "smaps_rollup", names, malformed)
        return {name: rollup[key] * 1024 for key, name in names.items() if key in rollup}

    def _files(self, pid: str) -> tuple[int | None, int | None]:
        """The number of open file descriptors, and their limit."""
        try:
            count = len(os.listdir(f"{self._proc}/{pid}/fd"))
        except OSError:
            return None, None
        limit = re.search(r"^Max open files\s+([0-9]{1,19})\s", self._read(pid, "limits"), re.MULTILINE)
        return count, int(limit[1]) if limit else None

    def _read_keyed(self, pid: str, file: str, keys: Collection[str], malformed: MalformedValues) -> dict[str, int]:
        return parse_keyed(self._read(pid, file), keys, f"/proc/{pid}/{file}", malformed)

    def _read(self, pid: str, file: str) -> str:
        """Read a file of a process; empty if it may not be read or the process has ended."""
        try:
            return read_text(f"{self._proc}/{pid}/{file}")
        except OSError:
            return ""


def _counters(name: str, totals: collections.Counter[str]) -> Samples:
    for mode in ("user", "system"):
        yield CPU(totals[mode] / _TICKS, groupname=name, mode=mode)
    for what, metric in (
        ("read_bytes", READ),
        ("write_bytes", WRITTEN),
        ("major_faults", MAJOR_FAULTS),
        ("minor_faults", MINOR_FAULTS),
    ):
        if what in totals:
            yield metric(totals[what], groupname=name)
    for kind in ("voluntary", "nonvoluntary"):
        if kind in totals:
            yield CONTEXT_SWITCHES(totals[kind], groupname=name, ctxswitchtype=kind)


def parse_stat(text: str, file: str, malformed: MalformedValues) -> Stat | None:
    """None if a field is malformed. The name is in parentheses and may itself contain parentheses and blanks."""
    name, _, rest = text.partition("(")[2].rpartition(") ")
    fields = rest.split(" ", 22)
    if len(fields) < 22:
        malformed.add(file, text)
        return None
    words = [fields[index] for index in (7, 9, 11, 12, 17, 19, 20, 21)]
    numbers = [number for number in parse_unsigned_numbers(words, file, malformed) if number is not None]
    return Stat(name, fields[0], *numbers) if len(numbers) == len(words) else None


def parse_keyed(text: str, keys: Collection[str], file: str, malformed: MalformedValues) -> dict[str, int]:
    """The values of these keys in `Key: 5` and `Key: 5 kB` lines, in the unit of the file."""
    values: dict[str, int] = {}
    for line in text.split("\n"):
        key, _, rest = line.partition(":")
        if key not in keys:
            continue
        value = parse_unsigned(rest.strip().removesuffix(" kB"), f"{file}: {key}", malformed)
        if value is not None:
            values.setdefault(key, value)
    return values


def parse_boot_time(text: str, malformed: MalformedValues) -> float | None:
    """`btime` of /proc/stat, in Unix seconds."""
    match = re.search(r"^btime ([0-9]{1,12})$", text, re.MULTILINE)
    if match is None:
        malformed.add("/proc/stat: btime", "")
        return None
    return float(match[1])
