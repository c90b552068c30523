"""Processes and threads by state, and the file descriptors kept open for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from deckwatch_exporters.system.paths import Paths
from deckwatch_exporters.system.processes import Processes
from services import until

from .support import by_series, host_paths, malformed

if TYPE_CHECKING:
    from pathlib import Path


def stat_of(pid: int, state: str, threads: int, name: str = "worker") -> str:
    """A line as in proc_pid_stat(5): id, name, state, then 16 values up to the number of threads."""
    return f"{pid} ({name}) {state} {' '.join(['0'] * 16)} {threads} 0 0\n"


def process(tree: Path, pid: int, *states: str, name: str = "worker") -> None:
    """A process with one thread per state."""
    folder = tree / f"proc/{pid}"
    for number, state in enumerate(states):
        thread = folder / f"task/{pid + number}"
        thread.mkdir(parents=True, exist_ok=True)
        (thread / "stat").write_text(stat_of(pid + number, state, len(states), name))
    (folder / "stat").write_text(stat_of(pid, states[0], len(states), name))


def states_of(found: dict[str, float], metric: str) -> dict[str, float]:
    return {series.split('"')[1]: value for series, value in found.items() if series.startswith(metric + "{")}


def test_each_thread_is_counted_once_including_the_main_thread(tmp_path: Path) -> None:
    process(tmp_path, 1, "S")
    process(tmp_path, 10, "S", "R", "D", name=") R (")
    process(tmp_path, 20, "Z")

    found = by_series(Processes(host_paths(tmp_path)).collect())

    assert found["node_processes_pids"] == 3
    assert found["node_processes_threads"] == 5
    assert states_of(found, "node_processes_state") == {"S": 2, "Z": 1}
    assert states_of(found, "node_processes_threads_state") == {"S": 2, "R": 1, "D": 1, "Z": 1}


def test_every_run_exports_the_current_states(tmp_path: Path) -> None:
    process(tmp_path, 1, "S")
    process(tmp_path, 10, "S", "S")
    collector = Processes(host_paths(tmp_path))
    by_series(collector.collect())
    process(tmp_path, 1, "D")
    process(tmp_path, 10, "R", "D")

    found = by_series(collector.collect())

    assert states_of(found, "node_processes_state") == {"D": 1, "R": 1}
    assert states_of(found, "node_processes_threads_state") == {"D": 2, "R": 1}


def test_a_process_appears_and_disappears_with_its_threads_and_descriptors() -> None:
    code = (
        "import threading, time; [threading.Thread(target=time.sleep, args=(60,)).start() for _ in range(4)]; input()"
    )
    collector = Processes(Paths())
    files = collector._files  # no metric exposes which descriptors are held

    def held(pid: int) -> int:
        list(collector.collect())
        return sum(path.startswith(f"/proc/{pid}/") for path in files.paths())

    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as child:
        try:
            # The process and its four threads, unless the machine has more processes than the limit.
            until(lambda: held(child.pid) == 5 or len(files) == 256)
            assert by_series(collector.collect())["node_processes_threads"] > 5
        finally:
            child.kill()
    assert held(child.pid) == 0


def test_counts_match_those_of_node_exporter_in_every_run() -> None:
    collector = Processes(Paths())
    list(collector.collect())

    def agrees() -> bool:
        found = by_series(collector.collect())
        threads: Counter[str] = Counter()
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                threads["all"] += len(os.listdir(f"/proc/{pid}/task"))
            except OSError:
                continue
        return found["node_processes_threads"] == threads["all"]

    until(agrees)  # other processes may start between the two counts


def test_descriptors_are_closed_with_their_collector() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        list(Processes(Paths()).collect())

    assert len(os.listdir("/proc/self/fd")) == before


def test_a_malformed_process_is_reported_and_the_others_are_counted(tmp_path: Path) -> None:
    process(tmp_path, 1, "S")
    process(tmp_path, 10, "R")
    file = tmp_path / "proc/10/stat"
    file.write_text(stat_of(10, "(null)", 1))

    found = list(Processes(host_paths(tmp_path)).collect())

    assert by_series(found)["node_processes_pids"] == 1
    assert states_of(by_series(found), "node_processes_state") == {"S": 1}
    assert malformed(found) == [(str(file), file.read_text())]


_HIDEPID = """
import json, os, sys
from deckwatch_exporters.system.paths import Paths
from deckwatch_exporters.system.processes import Processes
from deckwatch_exporters.system.watched import ProcessGroup, WatchedProcesses
os.setgid(65534)
os.setuid(65534)
groups = [ProcessGroup.model_validate({"name": "own", "match": "hidepid-test"}),
          ProcessGroup.model_validate({"name": "others", "match": "."})]
paths = Paths()
try:
    open(f"{paths.proc}/1/stat")
    readable = True
except PermissionError:
    readable = False
samples = [*Processes(paths).collect(), *WatchedProcesses(paths, groups).collect()]
print(json.dumps([readable, {sample.series.text.rstrip(): sample.value for sample in samples}]))
"""


def test_with_hidepid_the_readable_processes_are_exported() -> None:
    # Use a PID namespace with its own /proc: before Linux 5.8, hidepid applies to all /proc mounts of a namespace.
    unshare = ["unshare", "--mount", "--pid", "--fork", "sh", "-c"]
    mount = "mount -t proc -o hidepid=1 proc /proc"
    if os.geteuid() != 0 or subprocess.run([*unshare, mount], check=False).returncode:
        pytest.skip("mounting /proc requires a privilege")
    run = [*unshare, f'{mount} && "$0" -c "$1" hidepid-test; exit $?', sys.executable, _HIDEPID]
    readable, series = json.loads(subprocess.run(run, check=True, capture_output=True, text=True).stdout)

    assert not readable
    assert series["node_processes_pids"] == 1
    assert series['namedprocess_namegroup_num_procs{groupname="own"}'] == 1
    assert series['namedprocess_namegroup_num_procs{groupname="others"}'] == 0
