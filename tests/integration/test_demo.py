"""`make demo` as users run it: it prints messages, can be interrupted, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from services import ROOT, fetch, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def command(*arguments: str) -> Sequence[str]:
    return [sys.executable, "-m", "demo", *arguments]


def ended(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the demo with arguments that make it print something and exit."""
    return subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@dataclass
class Demo:
    process: subprocess.Popen[bytes]
    output: Path
    temporary: Path

    @property
    def printed(self) -> str:
        return self.output.read_text()

    def says(self, text: str, seconds: float = 120) -> None:
        def said() -> bool:
            assert self.process.poll() is None, self.printed
            return text in self.printed

        until(said, seconds, f"the demo saying {text!r}")

    def url(self, name: str) -> str:
        line = next(line for line in self.printed.splitlines() if line.strip().startswith(name))
        return next(word for word in line.split() if word.startswith("http://"))

    def left(self) -> list[str]:
        """Return the demo's folders, and processes that run in them or refer to them."""
        folders = [str(path) for path in self.temporary.iterdir()]
        processes = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
                line = file.read().replace(b"\0", b" ").decode(errors="replace")
                if str(self.temporary) in line + str(Path(f"/proc/{pid}/cwd").readlink()):
                    processes.append(f"{pid}: {line}")
        return folders + processes


@pytest.fixture
def place() -> Iterator[Path]:
    """A temporary folder that, unlike pytest's, PostgreSQL's user can access."""
    with tempfile.TemporaryDirectory(prefix="dw-test-demo-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@contextlib.contextmanager
def demo(place: Path, output: Path, *arguments: str) -> Iterator[Demo]:
    environ = {name: value for name, value in os.environ.items() if name != "LOKI_URL"}
    with output.open("wb") as log:
        process = subprocess.Popen(
            command(*arguments),
            cwd=ROOT,
            env={**environ, "TMPDIR": str(place)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Demo(process, output, place)
    finally:
        process.kill()
        process.wait()


def test_a_stopped_redis_is_reported_and_an_interrupt_leaves_nothing_behind(place: Path, tmp_path: Path) -> None:
    with demo(place, tmp_path / "output", "--fault", "redis-down") as it:
        it.says("FAULT=redis-down")
        assert fetch(it.url("status page"))[0] == 200
        assert fetch(it.url("Prometheus"))[0] == 200
        assert "redis_up" in fetch(it.url("metrics"))[1]
        it.says("FIRING    RedisDown (critical")
        it.says("This is the expected alert")
        assert "runbook: alerts/runbooks/RedisDown.md" in it.printed
        assert "Logs are off because the distribution has no Loki" in it.printed
        assert "DeckwatchCollectorFailing" not in it.printed  # inhibited
        assert len(it.left()) >= 6
        it.process.send_signal(signal.SIGINT)
        assert it.process.wait(60) == 0
        assert it.printed.endswith("Stopped. All programs have ended and their data was deleted.\n")
        assert it.left() == []


@pytest.mark.parametrize(
    ("fault", "alert"),
    [
        ("poison-task", "CeleryTaskFailureRatioHigh"),
        ("queue-backlog", "QueueGrowing"),
        ("worker-killed", "CeleryWorkerDown"),
    ],
)
def test_faults_of_the_queue_fire_their_alerts(place: Path, tmp_path: Path, fault: str, alert: str) -> None:
    with demo(place, tmp_path / "output", "--fault", fault) as it:
        it.says(f"Expect {alert}")
        it.says(f"FIRING    {alert}", seconds=400)
        it.says("This is the expected alert")


def test_killing_the_demo_ends_its_programs_and_removes_its_folder(place: Path, tmp_path: Path) -> None:
    with demo(place, tmp_path / "output") as it:
        it.says("Press Ctrl-C to stop the demo")
        assert len(it.left()) >= 7
        it.process.kill()
        until(lambda: it.left() == [], what="everything gone")


def test_an_interrupt_during_the_start_leaves_nothing_behind(place: Path, tmp_path: Path) -> None:
    with demo(place, tmp_path / "output") as it:
        it.says("Starting Redis")
        it.process.send_signal(signal.SIGTERM)
        assert it.process.wait(60) == 0
        assert it.left() == []


def test_the_faults_are_listed_with_their_alerts() -> None:
    done = ended("--fault", "help")
    assert done.returncode == 0
    for name, alert in (
        ("redis-down", "RedisDown"),
        ("evictions", "RedisEvictingKeys"),
        ("blocked", "BlockedSessions"),
    ):
        assert any(name in line and alert in line for line in done.stdout.splitlines())


def test_an_unknown_fault_prints_the_list() -> None:
    done = ended("--fault", "redis-dwon")
    assert done.returncode == 2
    assert "Unknown fault: FAULT=redis-dwon" in done.stderr
    assert "redis-down" in done.stderr


def test_a_missing_program_is_a_one_line_error_with_the_package_to_install(tmp_path: Path) -> None:
    for name in ("prometheus", "prometheus-alertmanager"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    done = ended(PATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "The demo requires programs that are not in PATH: redis-server."
        " On Debian and Ubuntu, run: apt-get install --no-install-recommends redis-server\n"
    )


def test_the_log_errors_fault_requires_a_loki() -> None:
    done = ended("--fault", "log-errors", LOKI_URL="")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "LOKI_URL" in done.stderr
