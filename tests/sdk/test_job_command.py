"""`deckwatch job`, with no library but prometheus_client installed."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import prometheus_client
import pytest

from services import ROOT, agent, until

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[..., list[str]]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment in which only Deckwatch and prometheus_client can be imported."""
    (tmp_path / "libraries").mkdir()
    (tmp_path / "libraries/prometheus_client").symlink_to(Path(prometheus_client.__file__).parent)
    path = f"{ROOT / 'agent'}:{tmp_path / 'libraries'}"
    return {**os.environ, "PYTHONPATH": path, "DECKWATCH_APP_DIR": str(tmp_path / "apps")}


def command(*words: str) -> list[str]:
    return [sys.executable, "-S", "-m", "deckwatch", "job", "run", "--name", "backup", "--every", "1d", "--", *words]


def run(environ: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words), env=environ, capture_output=True, text=True, check=False, timeout=60)


def test_exit_code_and_output_are_those_of_the_command(environ: dict[str, str]) -> None:
    done = run(environ, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert run(environ, "true").returncode == 0


def test_a_command_that_cannot_run_fails_as_in_a_shell(environ: dict[str, str], tmp_path: Path) -> None:
    missing = run(environ, "no-such-command")
    assert missing.returncode == 127
    assert "cannot run no-such-command: No such file or directory" in missing.stderr
    (tmp_path / "file").touch()
    assert run(environ, str(tmp_path / "file")).returncode == 126


def test_a_command_that_a_signal_ends_ends_the_wrapper_in_the_same_way(environ: dict[str, str]) -> None:
    for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM):
        assert run(environ, "sh", "-c", f"kill -{number.value} $$").returncode == -number


TRAP = "trap 'echo stopped; exit 3' TERM; echo ready; while :; do sleep 0.05; done"


def test_signals_reach_the_command(environ: dict[str, str]) -> None:
    with subprocess.Popen(command("sh", "-c", TRAP), env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.stdout.readline() == "stopped\n"
        assert process.wait(60) == 3


COUNT_INTERRUPTS = """
import signal, sys
interrupts = 0
def interrupt(*_):
    global interrupts
    interrupts += 1
    print("interrupted", flush=True)
def end(*_):
    print(interrupts, "interrupts, end", flush=True)
    sys.exit()
signal.signal(signal.SIGINT, interrupt)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
while True:
    signal.pause()
"""


def test_an_interrupt_from_the_terminal_reaches_the_command_once(environ: dict[str, str]) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.execve(sys.executable, command(sys.executable, "-c", COUNT_INTERRUPTS), environ)
    shown = b""

    def wait_for(text: bytes) -> None:
        nonlocal shown
        while text not in shown:
            shown += os.read(terminal, 1000)

    wait_for(b"ready")
    os.write(terminal, b"\x03")
    wait_for(b"interrupted")
    os.kill(child, signal.SIGTERM)  # follows an interrupt that was passed on
    wait_for(b"end\r\n")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(terminal)
    assert b"1 interrupts, end" in shown


def test_the_environment_of_the_command_is_unchanged(environ: dict[str, str]) -> None:
    environ["DECKWATCH_APP_DIR"] += "/"
    assert "PROMETHEUS_MULTIPROC_DIR" not in run(environ, "env").stdout


def test_without_a_folder_it_says_that_metrics_are_lost(environ: dict[str, str]) -> None:
    del environ["DECKWATCH_APP_DIR"]
    done = run(environ, "true")
    assert done.returncode == 0
    assert "Set --app-dir or DECKWATCH_APP_DIR" in done.stderr


def test_wrong_arguments_are_refused(environ: dict[str, str]) -> None:
    wrong = [sys.executable, "-S", "-m", "deckwatch", "job", "run", "--name", "a", "--every", "soon", "--", "true"]
    done = subprocess.run(wrong, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "'soon' is not a duration" in done.stderr


def test_an_agent_exports_runs_that_have_ended(environ: dict[str, str], tmp_path: Path) -> None:
    assert run(environ, "check").returncode == 127  # the name of a command of Deckwatch
    assert run(environ, "true").returncode == 0
    with agent(tmp_path, f"interval: 1s\nexporters:\n  apps: {{dir: {tmp_path / 'apps'}}}\n") as program:
        labels = 'service="jobs",job_name="backup"'
        expected = [
            f'job_runs_total{{{labels},outcome="success"}} 1',
            f'job_runs_total{{{labels},outcome="failure"}} 1',
        ]
        until(lambda: all(line in program.metrics() for line in expected), what="both runs exported")


def test_a_forgotten_job_is_no_longer_expected(environ: dict[str, str]) -> None:
    code = "import prometheus_client, deckwatch.cli\ntry: deckwatch.cli.main({arguments})\n"
    code += "except SystemExit as end: assert end.code == 0\n"
    code += "print(prometheus_client.generate_latest().decode())"
    del environ["DECKWATCH_APP_DIR"]
    arguments = ["job", "forget", "--name", "backup"]
    done = subprocess.run(
        [sys.executable, "-S", "-c", code.format(arguments=arguments)],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert 'job_expected_interval_seconds{job_name="backup"} 0.0' in done.stdout
    assert 'job_last_failure_timestamp_seconds{job_name="backup"} 0.0' in done.stdout
