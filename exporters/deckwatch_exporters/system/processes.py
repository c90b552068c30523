"""Processes and threads by state, from /proc/<pid>/stat (proc_pid_stat(5))."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

from deckwatch.metric import gauge

from .paths import Paths, read_number, read_piece

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deckwatch.metric import Sample

THREADS = gauge("node_processes_threads", "Threads of all processes.")
MAX_THREADS = gauge("node_processes_max_threads", "Threads that the host allows.")
PIDS = gauge("node_processes_pids", "Processes.")
MAX_PROCESSES = gauge("node_processes_max_processes", "Process ids that the host allows.")
STATE = gauge("node_processes_state", "Processes in each state.", ["state"])
THREADS_STATE = gauge("node_processes_threads_state", "Threads in each state.", ["thread_state"])


class Processes:
    def __init__(self, paths: Paths) -> None:
        self._proc = paths.proc
        self._kernel = paths.in_proc("sys", "kernel")

    def collect(self) -> Iterator[Sample]:
        states: Counter[str] = Counter()
        thread_states: Counter[str] = Counter()
        threads = 0
        for pid in filter(str.isdigit, os.listdir(self._proc)):
            try:
                state, count = parse_stat(read_piece(f"{self._proc}/{pid}/stat"))
                states[state] += 1
                threads += count
                if count == 1:
                    thread_states[state] += 1
                else:
                    thread_states.update(self._thread_states(pid))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile
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

    def _thread_states(self, pid: str) -> Iterator[str]:
        folder = f"{self._proc}/{pid}/task"
        for thread in os.listdir(folder):
            try:
                yield parse_stat(read_piece(f"{folder}/{thread}/stat"))[0]
            except (FileNotFoundError, ProcessLookupError):
                continue


def parse_stat(text: str) -> tuple[str, int]:
    """State and number of threads. The name before them may hold anything, parentheses too. Raises ValueError."""
    fields = text[text.rfind(")") + 2 :].split(" ", 18)
    if len(fields) < 18:
        raise ValueError(f"/proc/<pid>/stat: not a process: {text[:80]!r}")
    return fields[0], int(fields[17])
