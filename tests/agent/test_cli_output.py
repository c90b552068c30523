"""Completion scripts, progress, and `check` as JSON."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from deckwatch.cli import COMMANDS
from deckwatch.cli.progress import Progress
from services import until

if TYPE_CHECKING:
    from pathlib import Path


def deckwatch(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deckwatch", *arguments], capture_output=True, text=True, check=False, cwd=cwd
    )


def completions(*words: str) -> list[str]:
    """What a real bash suggests for the last of the words."""
    script = deckwatch("completion", "bash").stdout
    typed = " ".join(f"'{word}'" for word in ("deckwatch", *words))
    asked = f'COMP_WORDS=({typed}); COMP_CWORD={len(words)}; _deckwatch; printf "%s\\n" "${{COMPREPLY[@]}}"'
    answer = subprocess.run(["bash", "-c", f"{script}\n{asked}"], capture_output=True, text=True, check=True)
    assert answer.stderr == ""
    return answer.stdout.split()


def test_bash_completes_commands_options_and_choices() -> None:
    assert set(COMMANDS) <= set(completions(""))
    assert completions("che") == ["check"]
    assert "--allow-missing-secrets" in completions("check", "--")
    assert completions("dashboards", "pu") == ["push"]
    assert "--grafana" in completions("dashboards", "push", "--")
    assert completions("completion", "f") == ["fish"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_scripts_parse_in_their_shell(shell: str, tmp_path: Path) -> None:
    script = deckwatch("completion", shell).stdout
    assert "deckwatch" in script
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(script)
    subprocess.run([shell, "-n", str(tmp_path / "script")], check=True)


def test_check_reports_as_json_what_it_reports_as_a_table(tmp_path: Path) -> None:
    (tmp_path / "deckwatch.yml").write_text(
        "exporters:\n  business:\n"
        '    - {name: shop, sqlite: none.db, metrics: [{name: x, query: "select 1 as value"}]}\n'
    )
    answer = deckwatch("check", "--format", "json", "--state-dir", "state", cwd=tmp_path)

    report = json.loads(answer.stdout)
    assert answer.returncode == 2
    assert report["config"].endswith("deckwatch.yml")
    (result,) = report["results"]
    assert (result["collector"], result["target"], result["state"]) == ("business", "shop", "failed")
    assert result["detail"].endswith("the file does not exist. Check sqlite in the config.")


class Terminal(io.StringIO):
    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


@pytest.mark.parametrize(("is_terminal", "seconds", "shown"), [(True, 3, True), (True, 1, False), (False, 3, False)])
def test_progress_is_shown_on_a_terminal_after_two_seconds_and_disappears(
    is_terminal: bool, seconds: float, shown: bool
) -> None:
    now = [0.0]
    out = Terminal(is_terminal)
    progress = Progress(40, "targets checked", out, lambda: now[0])

    now[0] = seconds
    progress.show(3)
    progress.end()

    assert ("3 of 40 targets checked" in out.getvalue()) is shown
    assert out.getvalue().endswith("\x1b[K") is shown


def test_a_long_step_is_shown_until_it_ends() -> None:
    now = [0.0]
    out = Terminal(True)
    progress = Progress(2, "targets examined", out, lambda: now[0])

    with progress.while_busy(1):
        now[0] = 3
        until(lambda: "1 of 2 targets examined" in out.getvalue(), what="the progress")
    assert out.getvalue().endswith("\r\x1b[K")


def test_the_manual_page_has_every_command_and_no_stray_requests() -> None:
    page = deckwatch("man").stdout

    for command in COMMANDS:
        assert f".SS deckwatch {command}\n" in page
    assert ".SS deckwatch dashboards push\n" in page
    assert "\\-\\-token\\-file" in page
    requests = {line.split()[0] for line in page.splitlines() if line.startswith(".")}
    assert requests <= {".TH", ".SH", ".SS", ".TP", ".B", ".I", ".br"}
    assert "'" not in {line[:1] for line in page.splitlines()}


def test_output_has_no_colors() -> None:
    assert "\x1b" not in deckwatch("version").stdout + deckwatch("metrics").stdout + deckwatch("--help").stdout
