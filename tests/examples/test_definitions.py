"""What an example consists of: its faults, its alerts and its page."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import yaml

from deckwatch.collection.registry import Registry
from deckwatch.config import load_config
from examples.definition import FOLDER, load, names
from services import ROOT

ALERTS = {
    rule["alert"]
    for file in (ROOT / "alerts").glob("*.rules.yml")
    for group in yaml.safe_load(file.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}


@pytest.mark.parametrize("name", names())
def test_every_fault_has_a_program_an_alert_and_a_row_on_the_page(name: str) -> None:
    example, page = load(name), (FOLDER / name / "README.md").read_text()
    programs = {*example.programs, *example.servers}

    for fault, definition in example.faults.items():
        assert definition.program in programs
        assert set(definition.alerts) <= ALERTS
        assert re.search(rf"^\| `{fault}` \|.*{definition.alerts[0]}", page, re.MULTILINE), fault
    assert f"make example NAME={name}" in page
    assert f"({name}/README.md)" in (FOLDER / "README.md").read_text()


@pytest.mark.parametrize("name", names())
def test_the_agent_accepts_the_config(name: str) -> None:
    text = (FOLDER / name / "deckwatch.yml").read_text()
    values = {
        variable: {"LOG_DIR": "/tmp", "DECKWATCH_APP_DIR": "/tmp"}.get(
            variable, "redis://127.0.0.1:1/0" if "REDIS" in variable else "http://127.0.0.1:1"
        )
        for variable in re.findall(r"\$\{(\w+)\}", text)
    }
    values |= load(name).environ
    values |= dict.fromkeys(("DATABASE_URL", "MONITOR_URL"), "postgresql://monitor@127.0.0.1:1/app")
    config = load_config(FOLDER / name / "deckwatch.yml", values, Registry.installed(), allow_missing_secrets=True)

    assert config.targets


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ([], 2, "Choose an example: make example NAME=batch-migration|event-pipeline|"),
        (["nonsense"], 2, "Unknown example: NAME=nonsense. Choose one of: "),
        (["event-pipeline", "--fault", "nonsense"], 2, "Unknown fault: FAULT=nonsense. Choose one of:"),
        (["event-pipeline", "--fault", "help"], 0, "make example NAME=event-pipeline FAULT=..."),
    ],
)
def test_a_wrong_argument_is_explained(arguments: list[str], status: int, says: str) -> None:
    command = [sys.executable, "-m", "examples", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == status
    assert says in done.stdout + done.stderr
