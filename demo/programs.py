"""The programs of the demo: where they are, what to install where they are not, and their life.

No child outlives the demo: each gets a signal from the kernel when the demo dies (PR_SET_PDEATHSIG of prctl(2)), and
a shell, which waits for the demo's end on a pipe, then removes its folder.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
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
_LIBC = ctypes.CDLL(None)  # loaded now: little is safe between fork and exec

#: Where distributions keep the servers that they have in several versions.
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
    """What the user is to read, in a line or few."""


@dataclass(frozen=True)
class Programs:
    """The paths of what the demo runs."""

    redis: str
    initdb: str
    postgres: str
    prometheus: str
    alertmanager: str


def find_programs(path: str | None = None) -> Programs:
    """Look on `path` ($PATH without it), and for PostgreSQL where it is kept out of it. Raises DemoError naming
    everything that is missing."""
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
            f"The demo needs {', '.join(missing)}, not found on the PATH;"
            f" on Debian and Ubuntu: apt-get install --no-install-recommends {wanted}"
        )
    return Programs(*(where for where in found.values() if where is not None))


def _postgres_program(name: str, path: str | None) -> str | None:
    """The newest one, as initdb and postgres must be of one version."""
    found = [file for folder in _POSTGRES_FOLDERS for file in Path("/").glob(f"{folder[1:]}/{name}")]

    def version(file: Path) -> tuple[int, ...]:
        digits = "".join(it if it.isdigit() else " " for it in str(file.parent))
        return tuple(map(int, digits.split()))

    return str(max(found, key=version)) if found else shutil.which(name, path=path)


def postgres_account() -> str | None:
    """The user to run PostgreSQL as, which refuses root; None is the demo's own. Raises DemoError without one."""
    if os.getuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        raise DemoError(
            "PostgreSQL refuses to run as root, and there is no user `postgres`; run the demo as another user"
        ) from None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(url: str) -> bool:
    """Whether a GET is answered with 200 within a second."""
    # Not through a proxy that $http_proxy names.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def environment(**more: str) -> dict[str, str]:
    """The user's, without what would lead a program of the demo elsewhere."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "DECKWATCH_", "DEMO_"))}
    return {**kept, **more}


@contextlib.contextmanager
def folder_that_goes(folder: Path) -> Iterator[Path]:
    """`folder` is removed at the end, and also when the demo is killed."""
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
    """A program: started, awaited, ended, and started again. What it prints is in `log`."""

    name: str
    command: Sequence[str]
    log: Path
    ready: Callable[[], bool]
    account: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    environ: Mapping[str, str] = field(default_factory=environment)
    process: subprocess.Popen[bytes] | None = None

    def start(self, seconds: float = 30) -> None:
        """Returns when it is ready. To be called by the main thread: the kernel's signal comes when the thread that
        started a child ends. Raises DemoError with its last lines when it is not ready in time."""
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
                cwd=self.log.parent,
                env=dict(self.environ),
                # Ctrl-C is for the demo, which ends the others in order.
                start_new_session=True,
                preexec_fn=die_with_the_demo,
                user=self.account,
                group=self.account,
                extra_groups=[] if self.account else None,
            )
        deadline = time.monotonic() + seconds
        while not self.ready():
            if self.has_ended() or time.monotonic() > deadline:
                raise DemoError(f"{self.complaint()}\n{self.last_words()}")
            time.sleep(0.05)

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        if self.process is not None and self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.write(line.encode() + b"\n")
                self.process.stdin.flush()

    def has_ended(self) -> bool:
        """By itself: False of one that was stopped."""
        return self.process is not None and self.process.poll() is not None

    def complaint(self) -> str:
        code = self.process.poll() if self.process else None
        return f"{self.name} is not ready in time" if code is None else f"{self.name} has ended with {code}"

    def last_words(self, lines: int = 5) -> str:
        return "\n".join("    " + it for it in self.log.read_text(errors="replace").splitlines()[-lines:])

    def ask_to_stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(self.stop_signal)

    def stop(self, seconds: float = 5) -> None:
        """Ask it, wait, and kill it when that takes too long."""
        if self.process is None:
            return
        self.ask_to_stop()
        process, self.process = self.process, None
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
