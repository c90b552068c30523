"""Finds, starts and stops the programs of the demo.

No child process outlives the demo: the kernel signals each when the demo dies (PR_SET_PDEATHSIG of prctl(2)), and a
shell that waits on a pipe for the demo's exit then removes the demo's folder.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)  # loaded now, because little is safe between fork and exec

#: Folders of server programs that distributions package in several versions.
_POSTGRES_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")

_CLEAN_UP = """
read -r _
umount -l "$1/disk" 2>/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf -- "$1" 2>/dev/null && exit 0
    sleep 0.5
done
"""


class DemoError(Exception):
    """The demo cannot run. The message is shown to the user."""


@dataclass(frozen=True)
class Programs:
    """The paths of the programs."""

    redis: str
    initdb: str
    postgres: str
    prometheus: str
    alertmanager: str


def find_programs(path: str | None = None) -> Programs:
    """Find the programs in `path` (default: $PATH). PostgreSQL is also searched in its versioned folders.

    Raises DemoError, which lists all missing programs.
    """
    found = {
        "redis-server": shutil.which("redis-server", path=path) or shutil.which("valkey-server", path=path),
        "initdb": _postgres_program("initdb", path),
        "postgres": _postgres_program("postgres", path),
        "prometheus": shutil.which("prometheus", path=path),
        "prometheus-alertmanager": (
            shutil.which("prometheus-alertmanager", path=path) or shutil.which("alertmanager", path=path)
        ),
    }
    packages = {"initdb": "postgresql", "postgres": "postgresql"}
    missing = [name for name, where in found.items() if where is None]
    if missing:
        wanted = " ".join(dict.fromkeys(packages.get(name, name) for name in missing))
        raise DemoError(
            f"The demo requires programs that are not in PATH: {', '.join(missing)}."
            f" On Debian and Ubuntu, run: apt-get install --no-install-recommends {wanted}"
        )
    return Programs(*(where for where in found.values() if where is not None))


def _postgres_program(name: str, path: str | None) -> str | None:
    """Return the newest version, so that initdb and postgres have the same one."""
    found = [file for folder in _POSTGRES_FOLDERS for file in Path("/").glob(f"{folder[1:]}/{name}")]

    def version(file: Path) -> tuple[int, ...]:
        digits = "".join(it if it.isdigit() else " " for it in str(file.parent))
        return tuple(map(int, digits.split()))

    return str(max(found, key=version)) if found else shutil.which(name, path=path)


def postgres_account() -> str | None:
    """Return the user that runs PostgreSQL if the demo runs as root, else None. Raises DemoError if it is missing."""
    if os.getuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        raise DemoError(
            "PostgreSQL cannot run as root, and there is no user `postgres`. Run the demo as another user."
        ) from None


def free_port() -> int:
    """Return an unused port.

    If possible, it is outside the range from which the kernel takes ports for others, so that nothing else has it when
    its program listens, which may be ten seconds later.
    """
    outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = 16_384 + secrets.randbelow(outgoing - 16_384) if outgoing > 20_000 else 0
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])


def is_up(url: str) -> bool:
    """Return whether a GET request returns 200 within a second."""
    # Ignore $http_proxy.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=1) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def environment(**more: str) -> dict[str, str]:
    """Return the user's environment without variables that would point the demo's programs to other servers."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "DECKWATCH_", "DEMO_"))}
    return {**kept, **more}


@contextlib.contextmanager
def temporary(folder: Path) -> Iterator[Path]:
    """Remove `folder` on exit, even if the demo is killed."""
    with subprocess.Popen(
        ["/bin/sh", "-c", _CLEAN_UP, "deckwatch-demo", str(folder)],
        stdin=subprocess.PIPE,
        cwd="/",
        start_new_session=True,
    ) as cleaner:
        try:
            yield folder
        finally:
            assert cleaner.stdin is not None
            cleaner.stdin.close()
            cleaner.wait()


@dataclass
class Program:
    """A program that can be started, stopped and restarted. Its output goes to `log`."""

    name: str
    command: Sequence[str]
    log: Path
    ready: Callable[[], bool]
    account: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    environ: Mapping[str, str] = field(default_factory=environment)
    folder: Path | None = None  # the working directory, by default that of `log`
    process: subprocess.Popen[bytes] | None = None

    def start(self, seconds: float = 30) -> None:
        """Start the program and wait until it is ready.

        Call this from the main thread: the kernel signals a child when the thread that started it ends. Raises
        DemoError with the last lines of output if the program is not ready in time.
        """
        demo, death = os.getpid(), int(self.death_signal)

        def die_with_the_demo() -> None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, death)
            if os.getppid() != demo:
                os._exit(1)

        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                list(self.command),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder or self.log.parent,
                env=dict(self.environ),
                # Ctrl-C must reach only the demo, which stops the programs in order.
                start_new_session=True,
                preexec_fn=die_with_the_demo,
                user=self.account,
                group=self.account,
                extra_groups=[] if self.account else None,
            )
        deadline = time.monotonic() + seconds
        while not self.ready():
            if self.has_ended() or time.monotonic() > deadline:
                raise DemoError(f"{self.failure()}\n{self.last_lines()}")
            time.sleep(0.05)
        if self.has_ended():  # another program answers at its address
            raise DemoError(f"{self.failure()}\n{self.last_lines()}")

    def send_line(self, line: str) -> None:
        """Write a line to the program's standard input."""
        if self.process is not None and self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.write(line.encode() + b"\n")
                self.process.stdin.flush()

    def has_ended(self) -> bool:
        """Return whether the program exited without being stopped."""
        return self.process is not None and self.process.poll() is not None

    def failure(self) -> str:
        code = self.process.poll() if self.process else None
        return f"{self.name} did not start in time" if code is None else f"{self.name} exited with status {code}"

    def last_lines(self, lines: int = 5) -> str:
        return "\n".join("    " + it for it in self.log.read_text(errors="replace").splitlines()[-lines:])

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to the program and its children."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def request_stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(self.stop_signal)

    def stop(self, seconds: float = 5) -> None:
        """Stop the program, and kill it if that takes too long."""
        if self.process is None:
            return
        self.request_stop()
        process, self.process = self.process, None
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
