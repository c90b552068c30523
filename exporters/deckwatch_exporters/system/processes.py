"""Processes and threads by state, from /proc/<pid>/stat (proc_pid_stat(5))."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

from deckwatch.exporter import Gauge

from .kept_files import KeptFiles
from .paths import Paths, read_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.exporter import Sample

THREADS = Gauge("node_processes_threads", "Threads of all processes.")
MAX_THREADS = Gauge("node_processes_max_threads", "Threads that the host allows.")
PIDS = Gauge("node_processes_pids", "Processes.")
MAX_PROCESSES = Gauge("node_processes_max_processes", "Process ids that the host allows.")
STATE = Gauge("node_processes_state", "Processes in each state.", ["state"])
THREADS_STATE = Gauge("node_processes_threads_state", "Threads in each state.", ["thread_state"])


#: A host's usual processes. Each descriptor costs the kernel 5 kB, and the agent may have no more than 1024 of them.
_MOST_KEPT = 256


class Processes:
    def __init__(self, paths: Paths) -> None:
        self._proc = paths.proc
        self._kernel = paths.in_proc("sys", "kernel")
        self._files = KeptFiles(_MOST_KEPT)

    def collect(self) -> Iterator[Sample]:
        states: Counter[str] = Counter()
        thread_states: Counter[str] = Counter()
        threads = 0
        seen: set[str] = set()
        for pid in filter(str.isdigit, os.listdir(self._proc)):
            path = f"{self._proc}/{pid}/stat"
            try:
                state, count = parse_stat(self._files.read(path))
                states[state] += 1
                threads += count
                thread_states[state] += 1  # of the first thread, whose state is the process's
                if count > 1:
                    thread_states.update(self._other_threads(pid, seen))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile
            seen.add(path)
        self._files.forget_others(seen)
        yield PIDS(states.total())
        yield THREADS(threads)
        for metric, file in ((MAX_THREADS, "threads-max"), (MAX_PROCESSES, "pid_max")):
            limit = read_number(f"{self._kernel}/{file}")
            if limit is not None:
                yield metric(limit)
        for state, count in states.items():
            yield STATE(count, state=state)
        for state, count in thread_states.items():
            yield THREADS_STATE(count, thread_state=state)

    def _other_threads(self, pid: str, seen: set[str]) -> Iterator[str]:
        folder = f"{self._proc}/{pid}/task"
        for thread in os.listdir(folder):
            if thread == pid:
                continue
            path = f"{folder}/{thread}/stat"
            try:
                yield parse_stat(self._files.read(path))[0]
            except (FileNotFoundError, ProcessLookupError):
                continue
            seen.add(path)


def parse_stat(text: str) -> tuple[str, int]:
    """State and number of threads. The name before them may hold anything, parentheses too. Raises ValueError."""
    fields = text[text.rfind(")") + 2 :].split(" ", 18)
    if len(fields) < 18:
        raise ValueError(f"/proc/<pid>/stat: not a process: {text[:80]!r}")
    return fields[0], int(fields[17])
