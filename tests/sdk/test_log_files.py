"""Files of `setup_logging` that several processes write and rotate."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from deckwatch.sdk.logs.files import DailyFile, LogFile, SizeRotatedFile

if TYPE_CHECKING:
    from pathlib import Path

WRITER = """
import sys
from deckwatch.sdk.logs.files import SizeRotatedFile
file = SizeRotatedFile("app.json", 2_000, 100)
for number in range(2000):
    file.write(f"{sys.argv[1]} {number}\\n".encode())
"""


def test_several_processes_rotate_one_file_and_lose_no_line(tmp_path: Path) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", WRITER, name], cwd=tmp_path) for name in "abcd"]
    assert [process.wait(60) for process in processes] == [0] * 4
    files = [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    assert len(files) > 3
    found = sorted(line for path in files for line in path.read_text().splitlines())
    assert found == sorted(f"{name} {number}" for name in "abcd" for number in range(2000))


def test_only_so_many_old_files_stay(tmp_path: Path) -> None:
    file = SizeRotatedFile(str(tmp_path / "app.json"), 10, 2)
    for number in range(5):
        file.write(f"line {number}\n".encode())
    contents = {path.name: path.read_text() for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert contents == {"app.json": "line 4\n", "app.json.1": "line 3\n", "app.json.2": "line 2\n"}


def test_a_file_that_another_program_rotates_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "app.json"
    file = LogFile(str(path))
    file.write(b"1\n")
    path.rename(tmp_path / "app.json.1")
    file.write(b"2\n")
    path.unlink()
    file.write(b"3\n")
    assert path.read_bytes() == b"3\n"
    assert (tmp_path / "app.json.1").read_bytes() == b"1\n"


def test_the_audit_file_is_rotated_daily_and_kept_for_its_days(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    yesterday = datetime.fromtimestamp(time.time(), UTC) - timedelta(days=1)
    for days in (30, 31):
        (tmp_path / f"audit.{(yesterday - timedelta(days=days - 1)).date()}").touch()
    (tmp_path / f"audit.{yesterday.date()}").write_text("earlier\n")  # the clock was set back
    file = DailyFile(str(path), 30)
    file.write(b"old\n")
    os.utime(path, (yesterday.timestamp(), yesterday.timestamp()))
    file.write(b"new\n")
    file.write(b"newer\n")
    contents = {found.name: found.read_text() for found in tmp_path.iterdir() if not found.name.startswith(".")}
    assert contents == {
        "audit": "new\nnewer\n",
        f"audit.{yesterday.date()}": "earlier\n",
        f"audit.{yesterday.date()}.1": "old\n",
        f"audit.{(yesterday - timedelta(days=29)).date()}": "",
    }
