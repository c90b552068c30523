"""The agent is killed, stopped and paused while a program writes and rotates: every line arrives exactly once.

With DECKWATCH_SOAK=1, it is killed 100 times instead of 25.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from log_shipping import Log, await_empty_spool, await_lines, config, following, new_job, shipper, stored
from loki import Loki, assert_exactly_once, loki_under_test
from numbered_lines import Numbered
from services import ROOT, deckwatch_command, free_port, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_KILLS = 100 if os.environ.get("DECKWATCH_SOAK") else 25


class Writer:
    """A program that writes numbered lines. `end()` stops it and returns all of them."""

    def __init__(self, path: Path, rate: int, period: float, backups: int) -> None:
        self.numbered = Numbered("w", time.time_ns(), int(1e9 / rate))
        self._rate = rate
        arguments = [path, "w", self.numbered.begin, rate, period, backups]
        program = ROOT / "tests" / "numbered_lines.py"
        self.process = subprocess.Popen([sys.executable, program, *map(str, arguments)], stdout=subprocess.PIPE)

    def end(self) -> list[str]:
        self.process.terminate()
        printed, _ = self.process.communicate(timeout=60)
        return self.numbered.lines(0, int(printed))


@contextlib.contextmanager
def writing(path: Path, rate: int, period: float = 1.0, backups: int = 1000) -> Iterator[Writer]:
    writer = Writer(path, rate, period, backups)
    try:
        yield writer
    finally:
        if writer.process.poll() is None:
            writer.process.kill()
            writer.process.communicate()


@pytest.fixture
def destination() -> Iterator[Loki]:
    with loki_under_test() as destination:
        yield destination


@pytest.mark.timeout(900)
def test_kills_at_random_times_under_load_lose_and_duplicate_nothing(destination: Loki, tmp_path: Path) -> None:
    alone, many, random_moments = new_job(), new_job(), random.Random(4)
    files = [  # the file alone, and a pattern that also matches the rotated files, all in one stream
        following(tmp_path / "alone.log", alone),
        following(tmp_path / "many.log*", many, filename_label=False),
    ]
    text = config(destination, files, poll_interval="20ms")
    command = deckwatch_command("run", "--listen", f"127.0.0.1:{free_port()}", "--state-dir", str(tmp_path / "state"))
    with contextlib.ExitStack() as writers:
        with shipper(tmp_path, text) as program:  # files rotated before the agent's first start are not read
            first = writers.enter_context(writing(tmp_path / "alone.log", 10_000))
            second = writers.enter_context(writing(tmp_path / "many.log", 10_000))
            until(lambda: stored(destination, alone) and stored(destination, many), what="the first lines")
            program.process.kill()
        with (tmp_path / "killed.log").open("wb") as log:
            for turn in range(_KILLS - 1):
                before = len(stored(destination, alone))
                agent = subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path)
                if turn % 2:  # while it works; otherwise during or right after its start
                    until(lambda before=before: len(stored(destination, alone)) > before, what="new lines")  # type: ignore[misc]
                time.sleep(random_moments.uniform(0, 0.3 if turn % 2 else 1.2))
                agent.kill()
                assert agent.wait(60) == -signal.SIGKILL, (tmp_path / "killed.log").read_text()
        lines = {alone: first.end(), many: second.end()}
    with shipper(tmp_path, text) as program:
        for job in (alone, many):
            await_lines(destination, job, lines[job], 300)
        await_empty_spool(program)
    for job in (alone, many):
        assert_exactly_once(lines[job], stored(destination, job))


@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_after_several_missed_rotations_reading_resumes_at_the_saved_position(
    how: str, destination: Loki, tmp_path: Path
) -> None:
    job = new_job()
    text = config(destination, [following(tmp_path / "app.log", job)])
    with contextlib.ExitStack() as stack:
        with shipper(tmp_path, text) as program:
            writer = stack.enter_context(writing(tmp_path / "app.log", rate=5000, period=0.3))
            until(lambda: len(stored(destination, job)) > 1000, what="the first lines")
            if how == "frozen":
                program.process.send_signal(signal.SIGSTOP)
                rotations(tmp_path, 4)
                program.process.send_signal(signal.SIGCONT)
                rotations(tmp_path, 1)
        if how == "stopped":
            rotations(tmp_path, 4)
        with shipper(tmp_path, text) as program:
            rotations(tmp_path, 1)
            lines = writer.end()
            await_lines(destination, job, lines)
            await_empty_spool(program)
    assert_exactly_once(lines, stored(destination, job))


def rotations(folder: Path, number: int) -> None:
    """Wait for this number of lines."""
    before = len(list(folder.glob("app.log.*")))
    until(lambda: len(list(folder.glob("app.log.*"))) >= before + number, what="rotations")


def test_an_orderly_stop_ships_or_spools_all_written_lines(destination: Loki, tmp_path: Path) -> None:
    job, log = new_job(), Log(tmp_path / "app.log")
    text = config(destination, [following(log.path, job)])
    for _ in range(3):
        with shipper(tmp_path, text):
            log.write(300)
        log.write(50)
    log.path.unlink()  # the last 50 lines, written while no agent was running, are lost with it
    with shipper(tmp_path, text):
        await_lines(destination, job, log.lines[:-50])


@pytest.mark.parametrize("way", ["copytruncate", "deletion"])
def test_every_kind_of_rotation_keeps_every_line(way: str, destination: Loki, tmp_path: Path) -> None:
    job, log = new_job(), Log(tmp_path / "app.log")
    log.write(1000)
    with shipper(tmp_path, config(destination, [following(tmp_path / "app.log", job)])) as program:
        await_lines(destination, job, log.lines)  # the agent knows the file
        for turn in range(4 if way == "copytruncate" else 2):
            if way == "copytruncate":
                log.write(random.randrange(1, 100))  # mostly unread when they are rotated
                (tmp_path / f"app.log.{turn + 1}").write_bytes(log.path.read_bytes())
                os.truncate(log.path, 0)
            else:
                # Unread deleted files are lost, unless the agent has them open.
                await_lines(destination, job, log.lines)
                with log.path.open("a") as file:
                    log.path.unlink()
                    file.writelines(f"{line}\n" for line in log.numbered.lines(log.written, log.written + 100))
                log.written += 100
            log.write(random.randrange(1, 1500))
            await_lines(destination, job, log.lines)  # the rotation was detected
        await_empty_spool(program)
    assert_exactly_once(log.lines, stored(destination, job))
