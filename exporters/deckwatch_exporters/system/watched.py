"""Groups of processes by their command line, under process-exporter's names.

Counters of a group add up what its processes used since they were first seen, so they never fall when one of them
ends. What cannot be read for lack of a privilege (I/O, file descriptors) is absent.
"""

from __future__ import annotations

import collections
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import Field

from deckwatch.exporter import Counter, Gauge, Pattern, Settings

from .paths import Paths, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from deckwatch.exporter import Sample

_GROUP = ("groupname",)

NUM_PROCS = Gauge("namedprocess_namegroup_num_procs", "Processes in the group.", _GROUP)
CPU = Counter(
    "namedprocess_namegroup_cpu_seconds_total", "CPU time used by the group, in seconds.", ["groupname", "mode"]
)
READ = Counter("namedprocess_namegroup_read_bytes_total", "Bytes read from storage by the group.", _GROUP)
WRITTEN = Counter("namedprocess_namegroup_write_bytes_total", "Bytes written to storage by the group.", _GROUP)
MAJOR_FAULTS = Counter("namedprocess_namegroup_major_page_faults_total", "Page faults that needed I/O.", _GROUP)
MINOR_FAULTS = Counter("namedprocess_namegroup_minor_page_faults_total", "Page faults that needed no I/O.", _GROUP)
CONTEXT_SWITCHES = Counter(
    "namedprocess_namegroup_context_switches_total", "Context switches of the group.", ["groupname", "ctxswitchtype"]
)
MEMORY = Gauge("namedprocess_namegroup_memory_bytes", "Memory of the group, in bytes.", ["groupname", "memtype"])
OPEN_FILES = Gauge("namedprocess_namegroup_open_filedesc", "Open file descriptors of the group.", _GROUP)
WORST_FILES = Gauge(
    "namedprocess_namegroup_worst_fd_ratio", "Open file descriptors over their limit, the highest of the group.", _GROUP
)
OLDEST_START = Gauge(
    "namedprocess_namegroup_oldest_start_time_seconds", "When the oldest process started, in Unix seconds.", _GROUP
)
NUM_THREADS = Gauge("namedprocess_namegroup_num_threads", "Threads of the group.", _GROUP)
STATES = Gauge("namedprocess_namegroup_states", "Processes of the group in each state.", ["groupname", "state"])
RESTARTS = Counter(
    "deckwatch_process_restarts_total",
    "Processes of the group that ended and were followed by a new one since the agent started.",
    _GROUP,
)

_STATE_NAMES = {"R": "Running", "S": "Sleeping", "D": "Waiting", "Z": "Zombie"}
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class ProcessGroup(Settings):
    """Processes whose command line (arguments joined by blanks) matches; `pss` costs a walk over their memory."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    match: Pattern
    pss: bool = False


class Stat(NamedTuple):
    """What is used of /proc/<pid>/stat (proc_pid_stat(5)); times in ticks, `rss` in pages."""

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
    """A process of a group: its counters when it was looked at last."""

    used: collections.Counter[str] = field(default_factory=collections.Counter)


@dataclass
class _Group:
    settings: ProcessGroup
    members: dict[tuple[str, int], _Member] = field(default_factory=dict)
    totals: collections.Counter[str] = field(default_factory=collections.Counter)
    looked: bool = False
    joined: int = 0
    left: int = 0


class WatchedProcesses:
    def __init__(self, paths: Paths, groups: Sequence[ProcessGroup]) -> None:
        self._proc = paths.proc
        self._groups = [_Group(settings) for settings in groups]
        self._known: dict[tuple[str, int], tuple[_Group | None, bool]] = {}
        self._boot = 0.0

    def collect(self) -> Iterator[Sample]:
        self._boot = parse_boot_time(read_text(f"{self._proc}/stat"))
        found: dict[int, list[tuple[str, Stat]]] = {id(group): [] for group in self._groups}
        for pid, stat, group in self._matching():
            found[id(group)].append((pid, stat))
        for group in self._groups:
            yield from self._describe(group, found[id(group)])

    def _matching(self) -> Iterator[tuple[str, Stat, _Group]]:
        before, self._known = self._known, {}
        for pid in filter(str.isdigit, os.listdir(self._proc)):
            try:
                stat = parse_stat(read_text(f"{self._proc}/{pid}/stat"))
                key = (pid, stat.start)
                group, settled = before.get(key, (None, False))
                if not settled:
                    # A process that was just forked still has its parent's command line: look once more next time.
                    group, settled = self._group_of(pid), key in before
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile
            self._known[key] = (group, settled)
            if group is not None:
                yield pid, stat, group

    def _group_of(self, pid: str) -> _Group | None:
        command = read_text(f"{self._proc}/{pid}/cmdline").replace("\0", " ").strip()
        if not command:
            return None  # a kernel thread, or a zombie
        return next((group for group in self._groups if group.settings.match.search(command)), None)

    def _describe(self, group: _Group, processes: Sequence[tuple[str, Stat]]) -> Iterator[Sample]:
        name = group.settings.name
        memory: collections.Counter[str] = collections.Counter()
        states = collections.Counter(dict.fromkeys([*_STATE_NAMES.values(), "Other"], 0))
        threads = files = 0
        worst_ratio: float | None = None
        readable_files = False
        members: dict[tuple[str, int], _Member] = {}
        for pid, stat in processes:
            key = (pid, stat.start)
            used, status = self._used(pid, stat)
            member = group.members.get(key)
            if member is None:
                member = _Member(used)
                group.joined += group.looked
            # A counter that was unreadable last time starts here.
            group.totals.update({what: n - member.used.get(what, n) for what, n in used.items()})
            for what in used:
                group.totals[what] += 0
            member.used = used
            members[key] = member
            memory.update(
                {"resident": stat.rss * _PAGE, "virtual": stat.virtual, "swapped": status.get("VmSwap", 0) * 1024}
            )
            if group.settings.pss:
                memory.update(self._proportional(pid))
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
        group.looked = True
        yield NUM_PROCS(len(processes), groupname=name)
        yield RESTARTS(min(group.left, group.joined), groupname=name)
        yield from _counters(name, group.totals)
        if not processes:
            return
        for kind, value in memory.items():
            yield MEMORY(value, groupname=name, memtype=kind)
        for state, number in states.items():
            yield STATES(number, groupname=name, state=state)
        yield NUM_THREADS(threads, groupname=name)
        yield OLDEST_START(self._boot + min(stat.start for _, stat in processes) / _TICKS, groupname=name)
        if readable_files:
            yield OPEN_FILES(files, groupname=name)
            if worst_ratio is not None:
                yield WORST_FILES(worst_ratio, groupname=name)

    def _used(self, pid: str, stat: Stat) -> tuple[collections.Counter[str], dict[str, int]]:
        used = collections.Counter(
            user=stat.user, system=stat.system, major_faults=stat.major_faults, minor_faults=stat.minor_faults
        )
        status = parse_keyed(self._read(pid, "status"))
        for key, what in (("voluntary_ctxt_switches", "voluntary"), ("nonvoluntary_ctxt_switches", "nonvoluntary")):
            if key in status:
                used[what] = status[key]
        io = parse_keyed(self._read(pid, "io"))
        for key in ("read_bytes", "write_bytes"):
            if key in io:
                used[key] = io[key]
        return used, status

    def _proportional(self, pid: str) -> dict[str, int]:
        rollup = parse_keyed(self._read(pid, "smaps_rollup"))
        names = {"Pss": "proportionalResident", "SwapPss": "proportionalSwapped"}
        return {name: rollup[key] * 1024 for key, name in names.items() if key in rollup}

    def _files(self, pid: str) -> tuple[int | None, int | None]:
        """Open file descriptors, and how many there may be."""
        try:
            count = len(os.listdir(f"{self._proc}/{pid}/fd"))
        except OSError:
            return None, None
        limit = re.search(r"^Max open files\s+(\d+)", self._read(pid, "limits"), re.MULTILINE)
        return count, int(limit[1]) if limit else None

    def _read(self, pid: str, file: str) -> str:
        """A file that may be gone, or for root only: nothing then."""
        try:
            return read_text(f"{self._proc}/{pid}/{file}")
        except OSError:
            return ""


def _counters(name: str, totals: collections.Counter[str]) -> Iterator[Sample]:
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


def parse_stat(text: str) -> Stat:
    """Raises ValueError. The name in parentheses may hold anything, parentheses too."""
    fields = text[text.rfind(")") + 2 :].split(" ", 22)
    if len(fields) < 22:
        raise ValueError(f"/proc/<pid>/stat: not a process: {text[:80]!r}")
    numbers = [int(fields[index]) for index in (7, 9, 11, 12, 17, 19, 20, 21)]
    return Stat(fields[0], *numbers)


def parse_keyed(text: str) -> dict[str, int]:
    """`Key: 5` and `Key: 5 kB` lines as numbers in the file's own unit; other lines are left out."""
    values = {}
    for line in text.split("\n"):
        key, _, rest = line.partition(":")
        number = rest.strip().removesuffix(" kB")
        if number.isdigit():
            values[key] = int(number)
    return values


def parse_boot_time(text: str) -> float:
    """`btime` of /proc/stat, in Unix seconds. Raises ValueError."""
    match = re.search(r"^btime (\d+)", text, re.MULTILINE)
    if match is None:
        raise ValueError("/proc/stat has no btime")
    return float(match[1])
