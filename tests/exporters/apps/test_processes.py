"""CPU, memory, open files and garbage collections of applications, from real processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from counting_app import collect, start
from deckwatch.testing import opened
from deckwatch_exporters.apps import EXPORTER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from deckwatch.testing import Collected

#: Counts, says so, then works for half a second of CPU time or opens files on each line of its input.
WORK = """
import time
opened = []
work(1)
print("ready", flush=True)
for line in sys.stdin:
    if line == "burn\\n":
        until = time.process_time() + 0.5
        while time.process_time() < until:
            pass
    elif line == "open\\n":
        opened += [open(os.devnull) for _ in range(50)]
    elif line == "collect\\n":
        import gc
        cycle = []
        cycle.append(cycle)
        del cycle
        gc.collect()
    print("done", flush=True)
"""


class App:
    def __init__(self, folder: Path, *before: str, code: str = WORK) -> None:
        self.process = start(folder, code, *before)
        self._read("ready")

    def tell(self, what: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        self._read("done")

    def end(self) -> None:
        self.process.communicate(timeout=60)

    def _read(self, what: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == what


@pytest.fixture
def apps() -> Iterator[list[App]]:
    started: list[App] = []
    yield started
    for app in started:
        app.process.kill()
        app.process.communicate()


def names(collected: Collected) -> set[str]:
    return {sample.series.name for sample in collected.samples if sample.series.name.startswith("process_")}


def test_the_processes_of_a_service_are_added_up_without_their_ids(tmp_path: Path, apps: list[App]) -> None:
    begun = time.time()
    with opened(EXPORTER, {"dir": str(tmp_path)}) as target:
        apps.append(App(tmp_path))
        one = target.collect()
        apps.append(App(tmp_path))
        two = target.collect()
        for name in ("process_resident_memory_bytes", "process_virtual_memory_bytes", "process_open_fds"):
            assert two.value(name, service="shop") > 1.5 * one.value(name, service="shop") > 0
        assert two.value("process_max_fds", service="shop") == 2 * one.value("process_max_fds", service="shop")
        last_start = two.value("process_start_time_seconds", service="shop")
        assert begun - 2 <= one.value("process_start_time_seconds", service="shop") <= last_start <= time.time() + 2
        labels = {label for s in two.samples if s.series.name.startswith("process_") for label, _ in s.series.labels}
        assert labels == {"service"}

        files = two.value("process_open_fds", service="shop")
        apps[0].tell("open")
        assert target.collect().value("process_open_fds", service="shop") == files + 50


def test_cpu_time_only_grows_also_when_a_process_ends_or_the_agent_restarts(tmp_path: Path, apps: list[App]) -> None:
    apps += [App(tmp_path), App(tmp_path)]
    apps[0].tell("burn")
    with opened(EXPORTER, {"dir": str(tmp_path)}) as target:
        first = target.collect().value("process_cpu_seconds_total", service="shop")
        assert first == 0, "what the processes had used before the agent started would look like a burst of work"
        apps[0].tell("burn")
        burnt = target.collect().value("process_cpu_seconds_total", service="shop")
        assert burnt >= 0.45
        apps[0].end()
        assert target.collect().value("process_cpu_seconds_total", service="shop") >= burnt
        apps.append(App(tmp_path))
        apps[-1].tell("burn")
        assert target.collect().value("process_cpu_seconds_total", service="shop") >= burnt + 0.45


def test_nothing_is_shown_of_a_service_without_processes(tmp_path: Path, apps: list[App]) -> None:
    apps.append(App(tmp_path))
    assert names(collect(tmp_path))
    apps[0].end()
    assert not names(collect(tmp_path))


def _can_unshare(command: list[str]) -> bool:
    return shutil.which("unshare") is not None and not subprocess.run([*command, "true"], check=False).returncode


def test_a_process_in_another_namespace_of_process_ids_is_found(tmp_path: Path, apps: list[App]) -> None:
    namespace = ["unshare", "--pid", "--fork", "--kill-child"]
    if not _can_unshare(namespace):
        pytest.skip("namespaces cannot be created here")
    apps.append(App(tmp_path, *namespace))
    with opened(EXPORTER, {"dir": str(tmp_path)}) as target:
        target.collect()
        apps[0].tell("burn")
        assert target.collect().value("process_cpu_seconds_total", service="shop") >= 0.45


def test_garbage_collections_count_by_generation(tmp_path: Path, apps: list[App]) -> None:
    apps.append(App(tmp_path))
    apps[0].tell("collect")
    before = collect(tmp_path)
    apps[0].tell("collect")
    after = collect(tmp_path)
    grown = {
        name: after.value(f"python_gc_{name}_total", service="shop", generation="2")
        - before.value(f"python_gc_{name}_total", service="shop", generation="2")
        for name in ("collections", "objects_collected", "objects_uncollectable")
    }
    assert grown == {"collections": 1, "objects_collected": 1, "objects_uncollectable": 0}


def test_a_process_that_only_imports_the_library_gets_no_files(tmp_path: Path) -> None:
    code = "import gc, deckwatch; deckwatch.counter; gc.collect(); print('ready')"
    environ = {**os.environ, "DECKWATCH_APP_DIR": str(tmp_path), "DECKWATCH_SERVICE": "idle"}
    subprocess.run([sys.executable, "-c", code], env=environ, check=True, capture_output=True, timeout=60)
    assert list((tmp_path / "idle").iterdir()) == []
    assert not names(collect(tmp_path))
