"""docker-compose.monitoring.yml is valid and has pinned images, limits and no default passwords."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from deckwatch import __version__
from services import ROOT

from .shipped import COMPOSE, DEPLOY, MissingVariableError, compose, compose_text, document

ENVIRON = {"GRAFANA_ADMIN_PASSWORD": "of-the-test"}
FILE = compose(ENVIRON)
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
EVERY_SERVICE = pytest.mark.parametrize("name", sorted(SERVICES))


def _mounts(name: str) -> list[tuple[str, str, bool]]:
    """Return source, target and read-only flag of a service's volumes in either syntax."""
    found = []
    for volume in SERVICES[name].get("volumes", []):
        if isinstance(volume, dict):
            found.append((volume["source"], volume["target"], volume.get("read_only", False)))
        else:
            source, target, *options = volume.split(":")
            found.append((source, target, "ro" in options))
    return found


def test_the_file_conforms_to_the_compose_specification() -> None:
    parser = pytest.importorskip("compose_spec", reason="pip install compose-spec: a parser of the specification")
    # The parser follows YAML 1.2, which has no merge keys, so they are resolved first.
    services = parser.PyCompose.from_yaml(json.dumps({key: it for key, it in FILE.items() if not key.startswith("x-")}))
    assert sorted(services.service_names()) == sorted(SERVICES)


def test_the_parser_rejects_a_wrong_key() -> None:
    parser = pytest.importorskip("compose_spec", reason="pip install compose-spec: a parser of the specification")
    with pytest.raises(ValueError, match="memroy"):
        parser.PyCompose.from_yaml(
            json.dumps({"services": {"a": {"image": "b:1", "deploy": {"resources": {"limits": {"memroy": "1M"}}}}}})
        )


def test_the_stack_has_agent_prometheus_alertmanager_loki_grafana_and_an_optional_demo() -> None:
    always = {name for name, service in SERVICES.items() if "profiles" not in service}
    assert always == {"agent", "prometheus", "alertmanager", "loki", "grafana"}
    on_demand = {name for name, service in SERVICES.items() if service.get("profiles") == ["demo"]}
    assert {"demo-redis", "demo-postgres", "demo-load"} <= on_demand
    assert always | on_demand == set(SERVICES)


def test_a_missing_grafana_password_prevents_the_start_and_is_named() -> None:
    with pytest.raises(MissingVariableError, match="set GRAFANA_ADMIN_PASSWORD"):
        compose_text({})


def test_the_file_contains_no_password() -> None:
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN", key):
                assert key.endswith("_FILE") or value == ENVIRON["GRAFANA_ADMIN_PASSWORD"], f"{name}: {key}"
    assert not re.search(r"PASSWORD\w*:-", COMPOSE.read_text()), "a default is a password that everybody knows"
    given = re.findall(r"--requirepass (\S+)", COMPOSE.read_text())
    assert given == ['"$$(cat'], "read from a file"


@EVERY_SERVICE
def test_the_image_is_pinned_to_a_version(name: str) -> None:
    repository, _, tag = SERVICES[name]["image"].rpartition(":")
    assert repository, "the image has no tag"
    assert re.match(r"v?\d+\.\d+", tag), f"{tag} is not a version"
    assert repository.count("/") <= 1, f"{repository} names a registry"
    if repository == "deckwatch":
        assert tag == __version__
        assert SERVICES[name]["build"]["dockerfile"] == "deploy/Dockerfile"


@EVERY_SERVICE
def test_the_service_has_limits(name: str) -> None:
    limits = SERVICES[name]["deploy"]["resources"]["limits"]
    assert 0 < float(limits["cpus"]) <= 2
    assert re.fullmatch(r"\d+[MG]", limits["memory"])
    assert limits["pids"] > 0


@EVERY_SERVICE
def test_the_service_has_no_unnecessary_privileges(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "no-new-privileges:true" in service["security_opt"]
    assert not service.get("privileged")
    assert "docker.sock" not in str(service.get("volumes"))


@EVERY_SERVICE
def test_every_long_running_service_is_restarted_and_has_a_health_check(name: str) -> None:
    service = SERVICES[name]
    if service["restart"] == "no":
        waiting = [other["depends_on"].get(name) for other in SERVICES.values() if name in other.get("depends_on", {})]
        assert waiting
        assert all(one["condition"] == "service_completed_successfully" for one in waiting)
        return
    assert service["restart"] == "unless-stopped"
    check = service["healthcheck"]
    assert check["test"][0] in ("CMD", "CMD-SHELL")
    assert {"interval", "timeout", "retries"} <= set(check)


@EVERY_SERVICE
def test_published_ports_are_on_loopback_by_default(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


def test_loki_and_the_databases_publish_no_external_ports() -> None:
    others = compose({**ENVIRON, "BIND_ADDRESS": "0.0.0.0"})["services"]
    for name in ("loki", "demo-redis", "demo-postgres"):
        assert all(port.startswith("127.0.0.1:") for port in others[name]["ports"])


@EVERY_SERVICE
def test_mounts_exist_and_are_read_only_unless_they_are_named_volumes(name: str) -> None:
    for source, target, read_only in _mounts(name):
        if not source.startswith((".", "/")):
            assert source in FILE["volumes"], f"{source} is not a named volume in the file"
            continue
        assert read_only, f"{target} can be written to"
        assert source.startswith("/") or (ROOT / source).exists(), f"{source} is not there"


def test_alertmanager_finds_its_templates_and_secrets_and_the_readme_names_the_secrets() -> None:
    config = (ROOT / "alerts/alertmanager.yml").read_text()
    targets = {target for _source, target, _read_only in _mounts("alertmanager")}
    secrets = re.findall(r"_file: [\"']?(/\S+?)[\"']?$", config, re.MULTILINE)
    assert secrets
    readme = (DEPLOY / "README.md").read_text()
    for secret in map(Path, secrets):
        assert str(secret.parent) in targets
        assert f"`{secret.name}`" in readme
    for pattern in document(ROOT / "alerts/alertmanager.yml").get("templates", []):
        assert Path("/etc/alertmanager", pattern).parent.as_posix() in targets


def test_prometheus_finds_the_rules_where_they_are_mounted() -> None:
    (pattern,) = document(DEPLOY / "prometheus/prometheus.yml")["rule_files"]
    folder = Path("/etc/prometheus", pattern).parent.as_posix()
    assert ("./alerts", folder, True) in _mounts("prometheus")
    assert list((ROOT / "alerts").glob(Path(pattern).name))


def test_every_named_volume_is_used() -> None:
    used = {source for name in SERVICES for source, _target, _read_only in _mounts(name)}
    assert set(FILE["volumes"]) <= used


def test_dependencies_exist_and_have_a_health_check_if_a_service_waits_for_it() -> None:
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            assert other in SERVICES, f"{name} waits for {other}"
            if how["condition"] == "service_healthy":
                assert "test" in SERVICES[other]["healthcheck"]
            if "profiles" in SERVICES[other] and "profiles" not in service:
                assert how["required"] is False, f"{name} would not start without the profile of {other}"


def test_prometheus_can_reach_the_agent_and_external_clients_cannot() -> None:
    (network,) = FILE["networks"]["monitoring"]["ipam"]["config"]
    command = SERVICES["agent"]["command"]
    assert command[command.index("--listen") + 1] == f"{network['gateway']}:9797"
    assert SERVICES["prometheus"]["extra_hosts"] == [f"deckwatch:{network['gateway']}"]
    assert SERVICES["agent"]["environment"]["DECKWATCH_ADDRESS"] == f"{network['gateway']}:9797"


def test_the_configs_refer_to_the_stacks_mount_points() -> None:
    demo = document(DEPLOY / "compose/demo.yml")
    system = demo["exporters"]["system"]
    mounts = {target for _source, target, _read_only in _mounts("agent")}
    assert {system["procfs"], system["sysfs"], system["rootfs"]} <= mounts
    assert {"/var/log/demo", "/run/demo", "/var/lib/deckwatch"} <= mounts
    ports = {port.rsplit(":", 1)[0] for name in ("demo-redis", "demo-postgres") for port in SERVICES[name]["ports"]}
    (cache,), (shop,) = demo["exporters"]["redis"], demo["exporters"]["postgres"]
    assert {re.findall(r"127\.0\.0\.1:\d+", url)[0] for url in (cache["url"], shop["dsn"])} == ports


def test_one_env_file_enables_the_demo() -> None:
    lines = (DEPLOY / "compose/demo.env").read_text().splitlines()
    variables = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert variables["COMPOSE_PROFILES"] == "demo"
    agent = compose({**ENVIRON, **variables})["services"]["agent"]
    (config,) = [
        volume for volume in agent["volumes"] if isinstance(volume, str) and ":/etc/deckwatch/deckwatch.yml" in volume
    ]
    assert (ROOT / Path(config.split(":")[0])).samefile(DEPLOY / "compose/demo.yml")


def test_every_variable_is_documented() -> None:
    named = set(re.findall(r"\$\{(\w+)", COMPOSE.read_text()))
    readme = (DEPLOY / "README.md").read_text()
    assert {name for name in named if f"`{name}`" not in readme} == set()
