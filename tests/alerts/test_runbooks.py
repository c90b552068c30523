"""The runbooks are complete, their links resolve, and their commands and queries parse."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from services import installed

from .rule_files import ALERTS, Rule, alerts, unknown_metrics
from .runbook_texts import RUNBOOKS, blocks, lines, spans

if TYPE_CHECKING:
    from pathlib import Path

SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation", "Silence"]
each_alert = pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule.name)
each_runbook = pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)

#: How a code span begins that is a shell command.
_COMMAND = re.compile(
    r"(apt-get|chmod|chown|chronyc|cmp|cp|curl|ethtool|find|fusermount|ionice|journalctl|kill|ls|lvextend|lsblk|mdadm|psql|"
    r"redis-cli|redis-check-aof|rsync|sysctl|systemctl|truncate|tune2fs|umount|/opt/deckwatch/bin/deckwatch) "
)


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    generated = {"SloBudgetBurning"}
    assert {path.stem for path in RUNBOOKS} == {rule.name for rule in alerts()} | generated


@each_alert
def test_each_runbook_has_every_section(rule: Rule) -> None:
    text = (ALERTS / "runbooks" / f"{rule.name}.md").read_text()
    assert text.startswith(f"# {rule.name}\n\n{rule.annotations['summary']} Severity: {rule.labels['severity']}.\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert text.count("```") % 2 == 0
    diagnosis = text.partition("## Diagnosis\n\n")[2].partition("## Mitigation")[0]
    assert diagnosis.startswith("Quickest check, ")
    assert "```" in diagnosis
    assert re.search(r"[Ll]ikely causes|^Likely causes", diagnosis) or rule.name == "Watchdog"
    if rule.name != "Watchdog":
        assert f'amtool silence add alertname="{rule.name}"' in text


@each_runbook
def test_every_link_resolves(path: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        assert (path.parent / link).exists(), link


@each_runbook
def test_every_shell_command_parses(path: Path) -> None:
    commands = blocks(path, "sh") + [span for span in spans(path) if _COMMAND.match(span)]
    for command in commands:
        parsed = subprocess.run(["bash", "-n"], input=command, capture_output=True, text=True, check=False)
        assert (parsed.returncode, parsed.stderr) == (0, ""), command
        assert not re.search(r"(?<![/\w-])deckwatch (check|once|advise|logs)", command), "deckwatch is not on the PATH"
        assert not re.search(r"postgresql@\d|/\d\d/main", command), "not every installation has this version"


def test_every_promql_query_parses_and_reads_metrics_of_the_catalogue(tmp_path: Path) -> None:
    """promtool parses them as rules."""
    queries = [(path.stem, query) for path in RUNBOOKS for query in lines(path, "promql")]
    found = [{"record": f"{name}:query{n}", "expr": query} for n, (name, query) in enumerate(queries)]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "runbooks", "rules": found}]}))
    checked = subprocess.run(
        [installed("promtool"), "check", "rules", path], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert len(queries) > 50
    for name, query in queries:
        assert unknown_metrics(query) == set(), name
