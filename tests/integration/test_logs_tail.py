"""`deckwatch logs tail` without `logs` in a config."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

from services import deckwatch_command, until

if TYPE_CHECKING:
    from pathlib import Path


def tail(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = deckwatch_command("logs", "tail", *arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder, check=False)


def test_json_lines_are_shown_with_level_and_time_without_a_config(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(json.dumps({"level": "ERROR", "time": "2024-05-01T10:00:00Z"}) + "\n")
    done = tail("a.log", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert '2024-05-01T10:00:00.000000+00:00 {level="error"}' in done.stdout


def test_the_last_lines_are_shown_in_the_given_format(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("".join(f"level=warn n={number}\n" for number in range(50_000)))
    done = tail("a.log", "--format", "logfmt", "-n", "2", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.strip() for line in done.stdout.splitlines()[1::2]] == ["level=warn n=49998", "level=warn n=49999"]
    assert '{level="warning"}' in done.stdout


def test_new_lines_are_shown_as_they_are_written(tmp_path: Path) -> None:
    log, shown = tmp_path / "a.log", tmp_path / "shown"
    log.write_text("first\n")
    command = deckwatch_command("logs", "tail", "a.log", "--format", "raw", "-f")
    with shown.open("w") as out, subprocess.Popen(command, stdout=out, cwd=tmp_path) as process:
        try:
            until(lambda: "first" in shown.read_text())
            with log.open("a") as file:
                file.write("second\n")
            until(lambda: "second" in shown.read_text())
        finally:
            process.terminate()


def test_an_unknown_format_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    assert tail("a.log", "--format", "xml", folder=tmp_path).returncode == 2
    done = tail("missing.log", "--format", "raw", folder=tmp_path)
    assert done.returncode == 2
    assert "no file matches" in done.stderr


def test_the_last_lines_of_a_large_file_are_those_of_its_end(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    with log.open("w") as file:
        file.writelines(f'{{"n": {number}, "pad": "{"x" * 100}"}}\n' for number in range(100_000))
    printed = tail("app.log", "-n", "3", folder=tmp_path).stdout
    assert [json.loads(line)["n"] for line in printed.splitlines() if line.startswith("    {")] == [
        99_997,
        99_998,
        99_999,
    ]


def test_few_lines_before_much_else_are_found(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    with log.open("w") as file:
        file.write('{"n": 1}\n')
        file.write("\n" * 5_000_000)
        file.write('{"n": 2}\n')
    printed = tail("app.log", "-n", "3", folder=tmp_path).stdout
    assert [json.loads(line)["n"] for line in printed.splitlines() if line.startswith("    {")] == [1, 2]
