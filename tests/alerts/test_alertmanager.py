"""Alertmanager's config: routes, inhibitions, templates, and no secrets in it."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from services import Program, fetch, installed, until

from .alerting import alertmanager, redirected, shipped_alertmanager_config
from .rule_files import ALERTS, RULE_FILES, alerts

if TYPE_CHECKING:
    from collections.abc import Iterator
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


def test_the_watchdog_has_its_own_route() -> None:
    labels = ["alertname=Watchdog", "severity=info", "team=platform"]
    amtool("config", "routes", "test", f"--config.file={CONFIG}", "--verify.receivers=watchdog", *labels)


def test_alerts_repeat_after_whole_group_intervals() -> None:
    """Alertmanager evaluates a group every `group_interval`: any other `repeat_interval` is late."""
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


def test_an_alert_of_a_cause_outlasts_the_alerts_of_its_effects() -> None:
    """Otherwise Alertmanager reports an effect that is about to resolve, just after its cause has gone."""
    causes = {
        matcher.removeprefix('alertname="').removesuffix('"')
        for rule in yaml.safe_load(CONFIG.read_text())["inhibit_rules"]
        for matcher in rule["source_matchers"]
        if re.fullmatch(r'alertname="\w+(Down|Failing|Stale|WithoutConsumers)"', matcher)
    }
    assert causes
    kept = {
        rule["alert"]
        for path in RULE_FILES
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
        if "keep_firing_for" in rule
    }
    assert causes <= kept


def test_the_severe_alert_of_a_family_outlasts_the_milder_ones() -> None:
    """Otherwise Alertmanager reports the milder one just after the fault has been fixed."""

    def kept(rule: dict[str, Any]) -> int:
        value = rule.get("keep_firing_for", "0m")
        return int(value[:-1]) * {"m": 1, "h": 60}[value[-1]]

    families: dict[str, list[dict[str, Any]]] = {}
    for path in RULE_FILES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                if "alert" in rule and "family" in rule["labels"]:
                    families.setdefault(rule["labels"]["family"], []).append(rule)
    assert families
    for rules in families.values():
        milder = [rule for rule in rules if rule["labels"]["severity"] != "critical"]
        for rule in rules:
            if rule["labels"]["severity"] == "critical":
                assert all(kept(rule) >= kept(it) for it in milder), rule["alert"]


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


def _alert(name: str, **labels: str) -> dict[str, dict[str, str]]:
    severity = next(rule.labels["severity"] for rule in alerts() if rule.name == name)
    return {"labels": {"alertname": name, "severity": severity, "team": "platform", "job": "deckwatch", **labels}}


#: The alert that inhibits, the one that is inhibited, and the same about something else, which is not.
INHIBITIONS = [
    (
        _alert("DeckwatchDown", instance="a", scope="agent"),
        _alert("HostCpuHigh", instance="a"),
        _alert("HostCpuHigh", instance="b"),
    ),
    (
        _alert("DeckwatchDown", instance="a", scope="agent", agent="a"),
        _alert("DeckwatchDown", instance="db", scope="target", agent="a"),
        _alert("DeckwatchDown", instance="db", scope="target", agent="b"),
    ),
    (
        _alert("DeckwatchDown", instance="c", scope="agent", agent="c"),
        _alert("RedisDown", instance="r", agent="c"),
        _alert("RedisDown", instance="r", agent="b"),
    ),
    (
        _alert("PgbouncerDown", instance="b", target="pool"),
        _alert("PgbouncerClientsWaiting", instance="b", target="pool"),
        _alert("PgbouncerClientsWaiting", instance="b", target="other"),
    ),
    (
        _alert("PostgresSlotLost", instance="p", slot_name="s"),
        _alert("PostgresSlotInactive", instance="p", slot_name="s"),
        _alert("PostgresSlotInactive", instance="p", slot_name="t"),
    ),
    (
        _alert("PostgresStandbyDisconnected", instance="s", server="s:5432"),
        _alert("PostgresReplicationLag", instance="s", server="s:5432"),
        _alert("PostgresReplicationLag", instance="t", server="t:5432"),
    ),
    (
        _alert("HostDiskFull", instance="d", mountpoint="/data"),
        _alert("HostDiskWillFillIn4Hours", instance="d", mountpoint="/data"),
        _alert("HostDiskWillFillIn4Hours", instance="d", mountpoint="/"),
    ),
    (
        _alert("HostMemoryExhausted", instance="m", family="host-memory"),
        _alert("HostMemoryLow", instance="m", family="host-memory"),
        _alert("HostMemoryLow", instance="n", family="host-memory"),
    ),
    (
        _alert("PostgresDown", instance="e", cluster="one"),
        _alert("PostgresSlowQueries", instance="e", cluster="one"),
        _alert("PostgresSlowQueries", instance="e", cluster="two"),
    ),
    (
        _alert("QueueDown", instance="q", target="tasks"),
        _alert("QueueGrowing", instance="q", target="tasks", queue="mail"),
        _alert("QueueGrowing", instance="q", target="jobs", queue="mail"),
    ),
    (
        _alert("QueueStuck", instance="s", target="tasks", queue="mail", family="queue-backlog"),
        _alert("QueueGrowing", instance="s", target="tasks", queue="mail", family="queue-backlog"),
        _alert("QueueGrowing", instance="s", target="tasks", queue="other", family="queue-backlog"),
    ),
    (
        _alert("QueueWithoutConsumers", instance="w", target="tasks", queue="mail", family="queue-backlog"),
        _alert("QueueStuck", instance="w", target="tasks", queue="mail", family="queue-backlog"),
        _alert("QueueStuck", instance="w", target="tasks", queue="other", family="queue-backlog"),
    ),
]


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    config = redirected(shipped_alertmanager_config(), "http://127.0.0.1:9/")
    with alertmanager(tmp_path_factory.mktemp("alertmanager"), config) as program:
        yield program


def _post(manager: Program, *sent: dict[str, dict[str, str]]) -> None:
    request = urllib.request.Request(
        manager.url + "/api/v2/alerts", json.dumps(sent).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200


def _inhibited(manager: Program, alert: dict[str, dict[str, str]]) -> bool | None:
    """None while Alertmanager has not processed the alert."""
    found = [it for it in json.loads(fetch(manager.url + "/api/v2/alerts")[1]) if it["labels"] == alert["labels"]]
    return bool(found[0]["status"]["inhibitedBy"]) if found and found[0]["status"]["state"] != "unprocessed" else None


@pytest.mark.parametrize(
    ("source", "inhibited", "sent"), INHIBITIONS, ids=lambda alert: f"{alert['labels']['alertname']}"
)
def test_an_alert_inhibits_what_follows_from_it_and_nothing_else(
    manager: Program,
    source: dict[str, dict[str, str]],
    inhibited: dict[str, dict[str, str]],
    sent: dict[str, dict[str, str]],
) -> None:
    _post(manager, source, inhibited, sent)
    until(lambda: _inhibited(manager, inhibited) is True, what="the inhibition")
    until(lambda: _inhibited(manager, sent) is False, what="the alert about something else")
    until(lambda: _inhibited(manager, source) is False, what="the alert that inhibits")


def test_two_databases_that_are_down_are_two_incidents(manager: Program) -> None:
    _post(manager, *(_alert("PostgresDown", instance="two", target=target) for target in ("main", "reports")))

    def incidents() -> list[dict[str, str]]:
        groups = json.loads(fetch(manager.url + "/api/v2/alerts/groups?filter=instance=%22two%22")[1])
        return [group["labels"] for group in groups if group["receiver"]["name"] == "pager"]

    until(lambda: len(incidents()) == 2, what="two groups for the pager")
    assert {labels["target"] for labels in incidents()} == {"main", "reports"}
