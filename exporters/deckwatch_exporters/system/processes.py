"""Processes and threads by state, from /proc/<pid>/stat (proc_pid_stat(5))."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge

from .kept_files import KeptFiles
from .parse_numbers import MalformedValues, parse_unsigned
from .paths import Paths, read_unsigned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Samples

THREADS = Gauge("node_processes_threads", "Number of threads of all processes.")
MAX_THREADS = Gauge("node_processes_max_threads", "Maximum number of threads on the host.")
PIDS = Gauge("node_processes_pids", "Number of processes.")
MAX_PROCESSES = Gauge("node_processes_max_processes", "Maximum number of process identifiers on the host.")
STATE = Gauge("node_processes_state", "Number of processes in each state.", ["state"])
THREADS_STATE = Gauge("node_processes_threads_state", "Number of threads in each state.", ["thread_state"])


#: Enough for a typical host. Each open file takes 5 kB in the kernel, and the agent's limit is 1024 descriptors.
_OPEN_FILES = 256


class Processes:
    """Counts the processes that may be read: with `hidepid=1` on /proc, only root may read those of other users."""

    def __init__(self, paths: Paths) -> None:
        self._proc = paths.proc
        self._kernel = paths.in_proc("sys", "kernel")
        self._files = KeptFiles(_OPEN_FILES)

    def collect(self) -> Samples:
        malformed = MalformedValues()
        states: Counter[str] = Counter()
        thread_states: Counter[str] = Counter()
        threads = 0
        seen: set[str] = set()
        for pid in filter(str.isdecimal, os.listdir(self._proc)):
            path = f"{self._proc}/{pid}/stat"
            try:
                stat = parse_stat(self._files.read_at_once(path), path, malformed)
                seen.add(path)
                if stat is None:
                    continue
                state, count = stat
                states[state] += 1
                threads += count
                thread_states[state] += 1  # the state of a process is that of its first thread
                if count > 1:
                    thread_states.update(self._other_threads(pid, seen, malformed))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # the process has ended, or may not be read
        self._files.forget_others(seen)
        yield PIDS(states.total())
        yield THREADS(threads)
        for metric, file in ((MAX_THREADS, "threads-max"), (MAX_PROCESSES, "pid_max")):
            limit = read_unsigned(f"{self._kernel}/{file}", malformed)
            if limit is not None:
                yield metric(limit)
        for state, count in states.items():
            yield STATE(count, state=state)
        for state, count in thread_states.items():
            yield THREADS_STATE(count, thread_state=state)
        yield from malformed

    def _other_threads(self, pid: str, seen: set[str], malformed: MalformedValues) -> Iterator[str]:
        folder = f"{self._proc}/{pid}/task"
        for thread in os.listdir(folder):
            if thread == pid:
                continue
            path = f"{folder}/{thread}/stat"
            try:
                stat = parse_stat(self._files.read_at_once(path), path, malformed)
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            seen.add(path)
            if stat is not None:
                yield stat[0]


def parse_stat(text: str, file: str, malformed: MalformedValues) -> tuple[str, int] | None:
    """State and number of threads; None if either is malformed.

    The process name before them is in parentheses and may itself contain parentheses and blanks.
    """
    fields = text[text.rfind(")") + 2 :].split(" ", 18)
    if len(fields) < 18 or not (len(fields[0]) == 1 and fields[0].isalpha() and fields[0].isascii()):
        malformed.add(file, text)
        return None
    threads = parse_unsigned(fields[17], file, malformed)
    return None if threads is None else (fields[0], threads)
