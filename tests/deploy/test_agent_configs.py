"""The agent accepts every config in deploy/."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import yaml

from deckwatch.collection.registry import Registry
from deckwatch.config import load_config

from .shipped import DEPLOY, document

if TYPE_CHECKING:
    from pathlib import Path

CONFIGS = sorted(
    {*DEPLOY.rglob("deckwatch*.yml"), DEPLOY / "compose/demo.yml"} - {*(DEPLOY / "grafana").rglob("*.yml")}
)
# The variables that the unit, the manifests and the compose file set.
ENVIRON = {"NODE_NAME": "node-1", "HOSTNAME": "web-1"}


def test_there_are_configs_for_each_deployment() -> None:
    assert {file.parent.name for file in CONFIGS} == {"deploy", "compose", "kubernetes", "scale"}


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: str(file.relative_to(DEPLOY)))
def test_the_agent_accepts_the_config(file: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of-the-test\n")
    text = re.sub(r"(_file:) (/run/[\w./-]+)", rf"\1 {secret}", file.read_text())
    copy = tmp_path / "deckwatch.yml"
    copy.write_text(text)
    config = load_config(copy, ENVIRON, Registry.installed())
    assert config.targets
    assert config.logs is not None


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: str(file.relative_to(DEPLOY)))
def test_no_config_contains_a_password(file: Path) -> None:
    assert not re.search(r"\bpassword:", file.read_text())
    assert not re.search(r"://\w*:\w+@", file.read_text())


def test_each_shared_database_is_in_one_config_only() -> None:
    def targets(name: str) -> set[str]:
        exporters = document(DEPLOY / "scale" / name)["exporters"]
        return {target.get("url") or target["dsn"] for of_one in exporters.values() for target in of_one}

    assert not targets("deckwatch-a.yml") & targets("deckwatch-b.yml")


def test_the_configs_of_kubernetes_read_what_the_manifests_mount() -> None:
    (daemon_set,) = [one for one in yaml.safe_load_all((DEPLOY / "kubernetes/hosts.yml").read_text()) if one]
    (container,) = daemon_set["spec"]["template"]["spec"]["containers"]
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    system = document(DEPLOY / "kubernetes/deckwatch-hosts.yml")["exporters"]["system"]
    assert {system["procfs"], system["sysfs"], system["rootfs"]} <= mounts
    assert "NODE_NAME" in {variable["name"] for variable in container["env"]}
