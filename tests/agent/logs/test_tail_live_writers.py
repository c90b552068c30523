"""Child processes that write and rotate as fast as possible, and a reader that is killed at random times."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

from agent.logs.tailing import Reader, RealClock

WRITER = Path(__file__).with_name("log_writer.py")
SECONDS = "10" if os.environ.get("DECKWATCH_SOAK") else "2"


def numbers(reader: Reader) -> list[int]:
    return [orjson.loads(line)["n"] for line in reader.lines]


@pytest.mark.parametrize("pattern", ["app.log", "app.log*"])
@pytest.mark.parametrize("dies", [False, True], ids=["one run", "many restarts"])
@pytest.mark.parametrize(("mode", "period"), [("rename", 0.07), ("copy", 0.1), ("delete", 0.3)])
def test_each_line_is_read_once(tmp_path: Path, mode: str, period: float, dies: bool, pattern: str) -> None:
    if mode == "delete" and dies:
        pytest.skip("a file that is deleted while no process has it open is lost")
    log = tmp_path / "app.log"
    log.touch()
    reader = Reader(tmp_path / pattern, clock=RealClock())
    writer = subprocess.Popen(
        [sys.executable, str(WRITER), mode, str(log), SECONDS, str(period), "500"], stdout=subprocess.PIPE
    )

    def step() -> None:
        if dies and random.random() < 0.1:
            reader.read_some_and_die()
            time.sleep(random.uniform(0, 0.3))
        else:
            reader.poll()

    while writer.poll() is None:
        step()
        time.sleep(random.uniform(0, 0.03))
    assert writer.stdout is not None
    written = int(writer.stdout.read())
    deadline = time.monotonic() + 40
    while len(reader.lines) < written and time.monotonic() < deadline:
        reader.poll()
        time.sleep(0.05)
    for _ in range(5):
        reader.poll()
    found = numbers(reader)
    assert len(found) == len(set(found)), "some came twice"
    assert set(range(written)) - set(found) == set(), "some did not come"
    if pattern == "app.log":
        assert found == sorted(found)
