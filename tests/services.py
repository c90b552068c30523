"""Real programs for the tests: started on free ports, awaited, and stopped when the test ends."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

T = TypeVar("T")

ROOT = Path(__file__).parent.parent
_given: deque[int] = deque(maxlen=200)  # ports


def free_port() -> int:
    """Return an unused port.

    If possible, it is outside the kernel's range for outgoing connections, so no other connection can take the port
    before the program listens on it. Each process of pytest has a part of that range, and gives no port again soon.
    """
    outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    part = (outgoing - 16_384) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    while True:
        port = 16_384 + number * part + secrets.randbelow(part) if outgoing > 20_000 else 0
        if port in _given:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found = int(probe.getsockname()[1])
            _given.append(found)
            return found


def until(condition: Callable[[], T], seconds: float = 240.0, what: str = "it") -> T:
    """Poll `condition()` and return its first true value. Only a hang reaches the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come to pass within {seconds} s")
        time.sleep(0.02)


def fetch(url: str, headers: Mapping[str, str] | None = None, timeout: float = 30.0) -> tuple[int, str]:
    """Send a GET request. Return status and body, also of errors. Raises OSError if there is no response."""
    request = urllib.request.Request(url, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def answers(url: str) -> bool:
    try:
        return fetch(url)[0] == 200
    except OSError:
        return False


@dataclass
class Program:
    """A running program: its URL, its process and the file with its output."""

    url: str
    process: subprocess.Popen[bytes]
    output: Path

    @property
    def printed(self) -> str:
        return self.output.read_text()

    def metrics(self) -> str:
        return fetch(self.url + "/metrics")[1]


@contextlib.contextmanager
def running(
    command: Sequence[str],
    url: str,
    ready: str,
    output: Path,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[Program]:
    """Start a program, wait until `url + ready` returns 200, and stop it (TERM, then KILL) at the end."""
    with output.open("wb") as log:
        process = subprocess.Popen(
            list(command), stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **(environ or {})}, cwd=cwd
        )
    program = Program(url, process, output)
    try:

        def is_ready() -> bool:
            assert process.poll() is None, f"{command[0]} ended with {process.returncode}:\n{program.printed}"
            return answers(url + ready)

        until(is_ready, what=f"{command[0]} answering")
        yield program
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def installed(name: str) -> str:
    """Return the path of a real program. `make test` installs it, so a missing program is a failure, not a skip."""
    # PyPI packages install server programs of other versions into an active virtual environment. Ignore them.
    folders = os.get_exec_path()
    path = shutil.which(name, path=os.pathsep.join(it for it in folders if it != f"{sys.prefix}/bin"))
    assert path, f"{name} is not installed; tests/install-services.sh installs it"
    return path


def deckwatch_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "deckwatch", *arguments]


def agent(folder: Path, config: str | None = None, **environ: str) -> contextlib.AbstractContextManager[Program]:
    """Run `deckwatch run` in `folder`, with this text as its config file or without one."""
    port = free_port()
    if config is not None:
        (folder / "deckwatch.yml").write_text(config)
    command = deckwatch_command("run", "--listen", f"127.0.0.1:{port}")
    return running(command, f"http://127.0.0.1:{port}", "/-/ready", folder / "agent.log", environ, cwd=folder)


def node_exporter(folder: Path, *flags: str) -> contextlib.AbstractContextManager[Program]:
    port = free_port()
    command = [installed("prometheus-node-exporter"), f"--web.listen-address=127.0.0.1:{port}", *flags]
    return running(command, f"http://127.0.0.1:{port}", "/metrics", folder / "node_exporter.log")


def prometheus(
    folder: Path, jobs: Mapping[str, Program], interval: str = "1s"
) -> contextlib.AbstractContextManager[Program]:
    """Run a Prometheus that scrapes each program under its job name."""
    port = free_port()
    scrapes = "".join(
        f"  - job_name: {job}\n    static_configs: [{{targets: ['{program.url.removeprefix('http://')}']}}]\n"
        for job, program in jobs.items()
    )
    config = folder / "prometheus.yml"
    config.write_text(
        f"global: {{scrape_interval: {interval}, scrape_timeout: {interval}}}\nscrape_configs:\n{scrapes}"
    )
    command = [
        installed("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    return running(command, f"http://127.0.0.1:{port}", "/-/ready", folder / "prometheus.log")
