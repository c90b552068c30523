"""The shipped rules as the tests look at them, and promtool's unit tests of them."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import TYPE_CHECKING, Any

import yaml

from services import ROOT, deckwatch_command, installed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ALERTS = ROOT / "alerts"
RULE_FILES = sorted(ALERTS.glob("*.rules.yml"))
TEST_FILES = sorted((ALERTS / "tests").glob("*.test.yml"))


@dataclass(frozen=True)
class Rule:
    """An alerting or recording rule; `name` is that of the alert or of the series."""

    file: Path
    name: str
    expr: str
    is_alert: bool
    wait: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@cache
def rules() -> tuple[Rule, ...]:
    return tuple(
        Rule(
            path,
            rule.get("alert") or rule["record"],
            rule["expr"],
            "alert" in rule,
            rule.get("for", ""),
            rule.get("labels", {}),
            rule.get("annotations", {}),
        )
        for path in RULE_FILES
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    )


def alerts() -> list[Rule]:
    return [rule for rule in rules() if rule.is_alert]


_ASIDE = re.compile(r'"[^"]*"|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)|\[[^\]]*\]|\{[^}]*\}')
_KEYWORDS = {"and", "or", "unless", "offset", "bool", "by", "on", "without", "ignoring", "group_left", "group_right"}
_NAME = re.compile(r"(?<![\w:.])[a-zA-Z_:][\w:]*(?!\s*\()(?![\w:])")


def metrics_in(expr: str) -> set[str]:
    """The names of the metrics and recorded series that an expression reads."""
    bare = _ASIDE.sub(" ", expr)
    bare = re.sub(r"\boffset\s+\w+", " ", bare)
    return {name for name in _NAME.findall(bare) if name not in _KEYWORDS}


@cache
def _catalogue() -> tuple[frozenset[str], tuple[str, ...]]:
    """The names of all metrics, and the patterns of those that depend on the server."""
    command = deckwatch_command("metrics", "--format", "json")
    listed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    parts = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("", "_sum", "_count")}
    names = {metric["name"] + part for metric in listed for part in parts.get(metric["type"], ("",))}
    return frozenset(names), tuple(name for name in names if "*" in name)


def unknown_metrics(expr: str) -> set[str]:
    """The metrics in an expression that Deckwatch, Prometheus and Alertmanager do not have."""
    names, patterns = _catalogue()
    recorded = {rule.name for rule in rules() if not rule.is_alert}
    return {
        name
        for name in metrics_in(expr) - names - recorded - {"up", "ALERTS"}
        if not any(fnmatchcase(name, pattern) for pattern in patterns)
        and not name.startswith(
            ("prometheus_", "alertmanager_", "slo:")
        )  # `slo:` is recorded by the rules of a config's SLOs
    }


def run_promtool(path: Path) -> subprocess.CompletedProcess[str]:
    command = [installed("promtool"), "test", "rules", path.name]
    return subprocess.run(command, cwd=path.parent, capture_output=True, text=True, check=False)


_CASE = re.compile(
    r"^ +name: ([^\n]+),\n +alertname: [^\n]*\n +exp:.*?got:\[(.*?)\n? {8,12}\]$", re.DOTALL | re.MULTILINE
)
_GOT = re.compile(r"Labels:\{(.*)\}\n\s*Annotations:\{(.*)\}")
_PAIR = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def accept(path: Path) -> None:
    """Write what the rules do now into a test file as what is expected. That an alert fires where it should stay
    quiet, or the other way round, is not accepted: AssertionError."""
    text = path.read_text()
    comment = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    content = yaml.safe_load(text)
    for case in content["tests"]:
        case["alert_rule_test"][0]["exp_alerts"] = []
    path.write_text(comment + _dump(content))
    printed = run_promtool(path)
    fired = {name.strip('"'): _GOT.findall(got) for name, got in _CASE.findall(printed.stdout + printed.stderr)}
    wrong = [
        case["name"] for case in content["tests"] if bool(fired.get(case["name"])) != case["name"].endswith(" fires")
    ]
    assert not wrong, wrong
    for case in content["tests"]:
        got = fired.get(case["name"], [])
        case["alert_rule_test"][0]["exp_alerts"] = [
            {"exp_labels": _pairs(labels, but={"alertname"}), "exp_annotations": _pairs(annotations)}
            for labels, annotations in got
        ]
    path.write_text(comment + _dump(content))


def _pairs(text: str, but: frozenset[str] | set[str] = frozenset()) -> dict[str, str]:
    return {
        name: value.replace('\\"', '"').replace("\\\\", "\\") for name, value in _PAIR.findall(text) if name not in but
    }


def _dump(content: Any) -> str:
    return yaml.safe_dump(content, sort_keys=False, width=2000, allow_unicode=True)
