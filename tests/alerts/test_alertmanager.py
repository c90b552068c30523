"""Alertmanager's config: amtool accepts it, each alert goes where it should, and no secret stands in it."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from services import installed

from .rule_files import ALERTS, alerts

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = ALERTS / "alertmanager.yml"


def amtool(*arguments: str) -> str:
    done = subprocess.run([installed("amtool"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_amtool_accepts_the_config_and_its_templates() -> None:
    assert "1 templates" in amtool("check-config", str(CONFIG))


@pytest.mark.parametrize(
    ("severity", "team", "receivers"),
    [
        ("critical", "platform", "pager,platform"),
        ("critical", "database", "pager,database"),
        ("critical", "application", "pager,application"),
        ("warning", "platform", "platform"),
        ("warning", "database", "database"),
        ("warning", "application", "application"),
        ("info", "platform", "digest"),
        ("info", "database", "digest"),
        ("info", "application", "digest"),
        ("warning", "of-somebody-else", "platform"),
    ],
)
def test_alerts_go_by_severity_and_team(severity: str, team: str, receivers: str) -> None:
    labels = ["alertname=Any", f"severity={severity}", f"team={team}"]
    amtool("config", "routes", "test", f"--config.file={CONFIG}", f"--verify.receivers={receivers}", *labels)


def test_the_watchdog_has_a_way_of_its_own() -> None:
    labels = ["alertname=Watchdog", "severity=info", "team=platform"]
    amtool("config", "routes", "test", f"--config.file={CONFIG}", "--verify.receivers=watchdog", *labels)


def test_an_alert_is_told_of_again_after_whole_group_intervals() -> None:
    """Alertmanager looks at a group each `group_interval`: a `repeat_interval` in between comes late."""
    seconds = {"s": 1, "m": 60, "h": 3600}

    def check(route: dict[str, object], inherited: dict[str, str]) -> None:
        own = inherited | {name: str(value) for name, value in route.items() if name.endswith("_interval")}
        repeat, group = (
            int(own[f"{it}_interval"][:-1]) * seconds[own[f"{it}_interval"][-1]] for it in ("repeat", "group")
        )
        assert repeat % group == 0, own
        children = route.get("routes", [])
        assert isinstance(children, list)
        for child in children:
            check(child, own)

    check(yaml.safe_load(CONFIG.read_text())["route"], {})


def test_each_alert_in_an_inhibition_is_one_that_exists() -> None:
    names = {rule.name for rule in alerts()}
    matchers = [
        matcher
        for rule in yaml.safe_load(CONFIG.read_text())["inhibit_rules"]
        for matcher in (*rule["source_matchers"], *rule["target_matchers"])
    ]
    patterns = re.findall(r'alertname(=~?|!=)"([^"]+)"', "\n".join(matchers))
    assert patterns
    for _, pattern in patterns:
        assert any(re.fullmatch(pattern, name) for name in names), pattern


def test_all_kinds_of_receivers_are_there_and_secrets_come_from_files() -> None:
    content = yaml.safe_load(CONFIG.read_text())
    kinds = {kind for receiver in content["receivers"] for kind in receiver if kind != "name"}
    assert kinds == {"slack_configs", "pagerduty_configs", "email_configs", "webhook_configs"}
    secret = re.compile(
        r"^\s*-?\s*(slack_api_url|api_url|auth_password|smtp_auth_password|routing_key|service_key|credentials|password|bearer_token):",
        re.MULTILINE,
    )
    assert not secret.search(CONFIG.read_text())
    for file in ("slack_api_url_file", "auth_password_file", "routing_key_file", "credentials_file"):
        assert f"{file}: /etc/alertmanager/secrets/" in CONFIG.read_text()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("title", ["1 firing: RedisDown on db1:9797"]),
        ("color", ["#c62828"]),
        (
            "text",
            [
                "[firing] critical: Redis is away.",
                "Runbook: https://r/RedisDown.md",
                "/d/deckwatch-redis?var-instance=a",
            ],
        ),
        ("html", ["<b>RedisDown</b>", 'href="https://r/RedisDown.md"', "/d/deckwatch-redis?var-instance=a"]),
    ],
)
def test_the_templates_say_what_is_wrong_and_where_to_look(name: str, says: list[str], tmp_path: Path) -> None:
    labels = {"alertname": "RedisDown", "severity": "critical", "instance": "db1:9797"}
    annotations = {
        "description": "Redis is away.",
        "runbook_url": "https://r/RedisDown.md",
        "dashboard_url": "/d/deckwatch-redis?var-instance=a",
    }
    data = {
        "status": "firing",
        "alerts": [{"status": "firing", "labels": labels, "annotations": annotations}],
        "groupLabels": {"alertname": "RedisDown"},
        "commonLabels": labels,
        "commonAnnotations": annotations,
    }
    path = tmp_path / "data.json"
    path.write_text(json.dumps(data))
    glob = f"--template.glob={ALERTS / 'templates' / '*.tmpl'}"
    asked = f'--template.text={{{{ template "deckwatch.{name}" . }}}}'
    text = amtool("template", "render", glob, asked, f"--template.data={path}")
    for part in says:
        assert part in text
