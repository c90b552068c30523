"""Real producers and workers of queue libraries for the tests."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


def run_python(folder: Path, code: str) -> str:
    """Run a producer in `folder`, where it can import modules, and wait until it exits."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Worker:
    """A running worker with all of its processes."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def kill(self) -> None:
        """Send SIGKILL, as the kernel does when memory runs out: the worker cannot return its jobs."""
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self._process.pid)
            parent.suspend()  # keep it from replacing killed children
            for process in (*parent.children(recursive=True), parent):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self._process.wait()


@contextlib.contextmanager
def worker(folder: Path, command: Sequence[str], python: str | Path = sys.executable) -> Iterator[Worker]:
    """Run `python -m command` in `folder`; kill it at the end."""
    with (folder / "worker.log").open("ab") as log:
        process = subprocess.Popen([python, "-m", *command], cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    running = Worker(process)
    try:
        yield running
    finally:
        running.kill()
