"""`deckwatch check --production`, with a real Prometheus and a real Alertmanager."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from alerts.alerting import alerting_prometheus, alertmanager, shipped_alertmanager_config
from services import deckwatch_command, free_port, until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SET = {
    "route": {"receiver": "team"},
    "receivers": [{"name": "team", "webhook_configs": [{"url": "http://127.0.0.1:9/"}]}, {"name": "unused"}],
}


def points(folder: Path, config: str, **environ: str) -> tuple[int, dict[str, Mapping[str, Any]]]:
    """The exit code, and what was found by subject."""
    (folder / "deckwatch.yml").write_text(config)
    command = deckwatch_command(
        "check", "--production", "--format", "json",
        "--config", str(folder / "deckwatch.yml"), "--state-dir", str(folder / "state"),
    )  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environ})
    assert done.stdout, done.stderr
    results = json.loads(done.stdout)["results"]
    found = {it["collector"]: it for it in results if it["collector"].startswith("production.")}
    assert "S3CRET" not in done.stdout + done.stderr
    return done.returncode, found


def test_without_prometheus_url_what_cannot_be_found_out_is_unknown_and_no_failure(tmp_path: Path) -> None:
    code, found = points(tmp_path, "exporters: {}\n")
    assert code == 0
    states = {subject: it["state"] for subject, it in found.items()}
    assert states == {
        "production.tls": "ok",
        "production.authentication": "ok",
        "production.secrets": "ok",
        "production.spool": "ok",
        "production.retention": "unknown",
        "production.rules": "unknown",
        "production.receivers": "unknown",
        "production.backups": "unknown",
    }
    assert found["production.rules"]["remedy"] == "set prometheus_url"


@pytest.mark.parametrize(
    ("web", "failed"),
    [
        (None, {"production.tls", "production.authentication"}),
        ("basic_auth_users: {a: $2b$04$0C4jXvCXaTDSzxJmhUB1fOmQZpGOO.jjZNAYyAuR6F8PhSMZGSOo2}\n", {"production.tls"}),
    ],
)
def test_a_listener_for_other_machines_needs_tls_and_users(tmp_path: Path, web: str | None, failed: set[str]) -> None:
    config = f"listen: ':{free_port()}'\nexporters: {{}}\n"
    if web is not None:
        (tmp_path / "web.yml").write_text(web)
        config += "web_config: web.yml\n"
    code, found = points(tmp_path, config)
    assert code == 2
    assert {subject for subject, it in found.items() if it["state"] == "failed"} == failed
    for subject in failed:
        assert "web_config" in found[subject]["remedy"]


def test_secrets_in_the_config_are_named_by_place_and_never_shown(tmp_path: Path) -> None:
    port = free_port()
    _, found = points(
        tmp_path,
        f"""exporters:
  redis:
    - {{name: a, url: "redis://:S3CRET@127.0.0.1:{port}"}}
    - {{name: b, url: "redis://127.0.0.1:{port}", password: S3CRET}}
    - {{name: c, url: "redis://127.0.0.1:{port}", password: "${{PASSWORD}}"}}
    - {{name: d, url: "redis://127.0.0.1:{port}"}}
""",
        PASSWORD="S3CRET",
    )
    detail = found["production.secrets"]["detail"]
    assert (
        detail == "the config contains secrets: exporters.redis[0].url (line 3), exporters.redis[1].password (line 4)"
    )


def test_a_secret_file_that_everybody_can_read_is_named_with_the_command_that_protects_it(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("S3CRET\n")
    secret.chmod(0o644)
    config = f"exporters:\n  redis: [{{name: a, url: 'redis://127.0.0.1:{free_port()}', password_file: password}}]\n"
    _, found = points(tmp_path, config)
    assert found["production.secrets"]["state"] == "failed"
    assert found["production.secrets"]["remedy"] == f"chmod o= {secret}"
    secret.chmod(0o600)
    assert points(tmp_path, config)[1]["production.secrets"]["state"] == "ok"


def test_a_spool_that_does_not_fit_on_its_disk_and_logs_in_plain_text_are_reported(tmp_path: Path) -> None:
    config = """exporters: {}
logs:
  loki: {url: "http://192.0.2.1:3100", timeout: 100ms}
  spool: {max_bytes: 900TB}
  files: [{path: "/nowhere/*.log", labels: {job: app}}]
"""
    _, found = points(tmp_path, config)
    assert found["production.spool"]["state"] == "failed"
    assert "the spool may take 858306884 MiB" in found["production.spool"]["detail"]
    assert found["production.loki 192.0.2.1"]["state"] == "failed"
    assert found["production.retention 192.0.2.1"]["state"] == "unknown"


def test_prometheus_says_its_retention_its_rules_and_whether_receivers_are_set(tmp_path: Path) -> None:
    with (
        alertmanager(tmp_path, yaml.safe_dump(SET)) as manager,
        alerting_prometheus(tmp_path, manager, manager) as prometheus,
    ):
        config = f"prometheus_url: {prometheus.url}\nexporters: {{}}\n"
        until(lambda: points(tmp_path, config)[1]["production.receivers"]["state"] == "ok", what="the Alertmanager")
        found = points(tmp_path, config)[1]
        assert found["production.retention"]["state"] == "ok"
        assert "Prometheus keeps data for " in found["production.retention"]["detail"]
        assert found["production.rules"]["state"] == "ok"
        assert found["production.backups"]["state"] == "unknown"
        assert "deckwatch job run" in found["production.backups"]["remedy"]


def test_receivers_of_the_shipped_example_that_nobody_has_set_are_named(tmp_path: Path) -> None:
    with (
        alertmanager(tmp_path, without_templates(shipped_alertmanager_config())) as manager,
        alerting_prometheus(tmp_path, manager, manager) as prometheus,
    ):
        config = f"prometheus_url: {prometheus.url}\nexporters: {{}}\n"
        unset = "receiver digest still has an address of the example"

        def receivers() -> Mapping[str, Any]:
            return points(tmp_path, config)[1]["production.receivers"]

        until(lambda: unset in receivers()["detail"], what="the Alertmanager")
        assert receivers()["state"] == "failed"
        assert receivers()["remedy"] == "set their addresses and secrets in alertmanager.yml"


def test_a_prometheus_that_is_down_or_is_something_else_is_unknown_with_the_reason(tmp_path: Path) -> None:
    _, found = points(tmp_path, f"prometheus_url: http://127.0.0.1:{free_port()}\nexporters: {{}}\n")
    assert found["production.rules"]["state"] == "unknown"
    assert "is unreachable" in found["production.rules"]["detail"]


def without_templates(config: str) -> str:
    content = yaml.safe_load(config)
    del content["templates"]
    return yaml.safe_dump(content)
