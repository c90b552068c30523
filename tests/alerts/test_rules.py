"""The rules parse, fire when they should and only then, and link to a runbook and a dashboard."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from services import installed

from . import case_table
from .rule_files import (
    ALERTS,
    RULE_FILES,
    TEST_FILES,
    Rule,
    accept,
    alerts,
    metrics_in,
    rules,
    run_promtool,
    unknown_metrics,
)

if TYPE_CHECKING:
    from pathlib import Path

#: It always fires, so that there is no case in which it does not.
ALWAYS = "Watchdog"
DASHBOARDS = {
    "application",
    "dependencies",
    "endpoints",
    "jobs",
    "overview",
    "host",
    "processes",
    "redis",
    "postgres",
    "pgbouncer",
    "slow-queries",
    "queues",
    "celery",
    "business",
    "logs",
    "deckwatch",
}
each_alert = pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule.name)


def test_promtool_accepts_the_rules() -> None:
    checked = subprocess.run(
        [installed("promtool"), "check", "rules", *map(str, RULE_FILES)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.name)
def test_each_alert_fires_when_it_should_and_says_what_it_should(path: Path) -> None:
    if os.environ.get("UPDATE_GOLDEN"):
        accept(path)
    tested = run_promtool(path)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    fires: set[str] = set()
    quiet: set[str] = set()
    for path in TEST_FILES:
        for case in yaml.safe_load(path.read_text())["tests"]:
            for asked in case["alert_rule_test"]:
                (fires if asked["exp_alerts"] else quiet).add(asked["alertname"])
    names = {rule.name for rule in alerts()}
    assert fires == names
    assert quiet == names - {ALWAYS}


def test_the_readme_of_the_cases_lists_all_of_them() -> None:
    text = case_table.README.read_text()
    if os.environ.get("UPDATE_GOLDEN"):
        case_table.README.write_text(case_table.with_table(text))
    assert case_table.README.read_text() == case_table.with_table(text)


def test_each_rule_file_can_be_loaded_alone() -> None:
    for path in RULE_FILES:
        own = [rule for rule in rules() if rule.file == path]
        recorded = {rule.name for rule in own if not rule.is_alert}
        used = {name for rule in own for name in metrics_in(rule.expr) if ":" in name}
        assert used <= recorded, path.name
        assert recorded <= used, f"{path.name} records what it does not use"


def test_every_metric_in_a_rule_is_one_that_deckwatch_has() -> None:
    for rule in rules():
        assert unknown_metrics(rule.expr) == set(), rule.name


def test_names_are_given_once() -> None:
    names = [rule.name for rule in rules()]
    assert sorted(names) == sorted(set(names))


@each_alert
def test_each_alert_has_its_labels_and_annotations(rule: Rule) -> None:
    assert re.fullmatch(
        r"(Host|Process|Redis|Postgres|Pgbouncer|Queue|Celery|Business|Probe|Certificate|Log|Deckwatch|Http|App|Health|Job|Pool|Circuit|Cache|Dependency|Remote)([A-Z][a-z0-9]*)+|Watchdog",
        rule.name,
    )
    assert rule.labels["severity"] in ("critical", "warning", "info")
    assert rule.labels["team"] in ("platform", "database", "application")
    assert set(rule.labels) <= {"severity", "team", "family"}
    assert set(rule.annotations) == {"summary", "description", "runbook_url", "dashboard_url"}
    assert "{{" not in rule.annotations["summary"]
    assert rule.annotations["summary"].endswith(".")
    assert rule.annotations["description"].endswith(".")
    assert rule.annotations["runbook_url"].endswith(f"/alerts/runbooks/{rule.name}.md")
    board = re.fullmatch(
        r"/d/deckwatch-([a-z-]+)(\?var-(?:instance|service)=\{\{ \$labels\.(?:instance|service) \}\}.*)?",
        rule.annotations["dashboard_url"],
    )
    assert board
    assert board[1] in DASHBOARDS
    if rule.name not in (ALWAYS, "DeckwatchAbsent"):
        assert "$labels." in rule.annotations["description"], "it does not say where"
    assert "exported_job" not in rule.expr or "exported_job" in rule.annotations["description"]


def test_each_family_has_a_critical_alert_and_a_milder_one() -> None:
    families: dict[str, set[str]] = {}
    for rule in alerts():
        if family := rule.labels.get("family"):
            families.setdefault(family, set()).add(rule.labels["severity"])
    for family, severities in families.items():
        assert severities == {"critical", "warning"}, family


def test_the_table_in_the_readme_lists_each_alert_as_it_is() -> None:
    rows = re.findall(
        r"^\| \[(\w+)\]\(runbooks/\w+\.md\) \| (\w+) \| (\w+) \| (.+) \|$",
        (ALERTS / "README.md").read_text(),
        re.MULTILINE,
    )
    assert sorted(rows) == sorted(
        (rule.name, rule.labels["severity"], rule.wait or "0", rule.annotations["summary"]) for rule in alerts()
    )
