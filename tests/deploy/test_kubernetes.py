"""deploy/kubernetes matches Kubernetes' schema, grants minimal rights, and contains all rules and dashboards."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from deckwatch import __version__
from services import installed

from .shipped import DEPLOY, document, documents

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = DEPLOY / "kubernetes"
KUSTOMIZATION = document(FOLDER / "kustomization.yaml")
MANIFESTS = [it for name in KUSTOMIZATION["resources"] for it in documents(FOLDER / name)]
MONITORS = documents(FOLDER / "prometheus-operator.yml")
VERSION = "1.30"  # the oldest tested version; the manifests use only features available since 1.21

RULES = """groups:
  - name: host
    rules:
      - alert: HostDown
        expr: up{job="deckwatch"} == 0
        for: 2m
        labels: {severity: critical}
        annotations: {summary: "{{ $labels.instance }} is down"}
"""


def _named(kind: str) -> list[dict[str, Any]]:
    return [manifest for manifest in MANIFESTS if manifest["kind"] == kind]


def _pods() -> list[dict[str, Any]]:
    return [manifest["spec"]["template"]["spec"] for manifest in MANIFESTS if manifest["kind"] in WORKLOADS]


WORKLOADS = ("DaemonSet", "Deployment")


def _validate(manifest: dict[str, Any]) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate: the API's schema")
    validator.validate(manifest, VERSION, strict=True)


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda it: f"{it['kind']}-{it['metadata']['name']}")
def test_the_manifest_matches_the_api_schema(manifest: dict[str, Any]) -> None:
    _validate(manifest)


def test_an_agent_runs_on_each_node_and_one_for_the_databases() -> None:
    assert [(kind, it["metadata"]["name"]) for kind in WORKLOADS for it in _named(kind)] == [
        ("DaemonSet", "deckwatch-hosts"),
        ("Deployment", "deckwatch-databases"),
    ]
    (databases,) = _named("Deployment")
    assert databases["spec"]["replicas"] == 1


def test_kustomize_refers_to_existing_files() -> None:
    for generated in KUSTOMIZATION["configMapGenerator"]:
        for file in generated["files"]:
            assert (FOLDER / file.split("=")[1]).is_file()
    mounted = {volume["configMap"]["name"] for pod in _pods() for volume in pod["volumes"] if "configMap" in volume}
    assert mounted == {generated["name"] for generated in KUSTOMIZATION["configMapGenerator"]}
    assert KUSTOMIZATION["images"] == [{"name": "deckwatch", "newTag": __version__}]


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")
def test_the_output_of_kustomize_matches_the_api_schema() -> None:
    made = subprocess.run(
        [installed("kubectl"), "kustomize", str(FOLDER)], capture_output=True, text=True, check=True
    ).stdout
    manifests = list(yaml.safe_load_all(made))
    assert len([it for it in manifests if it["kind"] == "ConfigMap"]) == 2
    for manifest in manifests:
        _validate(manifest)
        assert manifest["kind"] == "Namespace" or manifest["metadata"]["namespace"] == "deckwatch"


def test_the_agents_have_no_rights_in_the_api_and_no_token() -> None:
    (account,) = _named("ServiceAccount")
    assert account["automountServiceAccountToken"] is False
    assert all(pod["automountServiceAccountToken"] is False for pod in _pods())
    (binding,) = _named("RoleBinding")
    assert account["metadata"]["name"] not in {subject["name"] for subject in binding["subjects"]}
    (role,) = _named("Role")
    assert all(set(rule["verbs"]) <= {"get", "list", "watch"} for rule in role["rules"])
    assert not _named("ClusterRole")


@pytest.mark.parametrize("pod", _pods(), ids=lambda pod: pod["containers"][0]["args"][-1])
def test_the_pod_can_write_only_its_state_and_has_limits_and_probes(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"]["drop"] == ["ALL"]
    assert not security.get("privileged")
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert {"cpu", "memory"} <= set(container["resources"]["limits"])
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container)
    writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"/var/lib/deckwatch", "/tmp"}


def test_the_database_agent_is_not_root_and_the_log_reader_can_only_read() -> None:
    hosts, databases = _pods()
    assert databases["securityContext"]["runAsNonRoot"] is True
    assert hosts["containers"][0]["securityContext"]["capabilities"]["add"] == ["DAC_READ_SEARCH"]


def test_services_and_monitors_select_what_the_pods_are_labelled_with() -> None:
    workloads = [it["spec"]["template"]["metadata"]["labels"] for kind in WORKLOADS for it in _named(kind)]
    for service in _named("Service"):
        assert service["spec"]["selector"] in workloads
    for monitor in MONITORS:
        wanted = monitor["spec"]["selector"]["matchLabels"]
        (service,) = [it for it in _named("Service") if wanted.items() <= it["metadata"]["labels"].items()]
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
        assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "deckwatch"


def _build(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(FOLDER / "build.py"), "--root", str(root)], capture_output=True, text=True, check=False
    )


def test_rules_and_dashboards_are_embedded_unchanged(tmp_path: Path) -> None:
    (tmp_path / "alerts").mkdir()
    (tmp_path / "dashboards").mkdir()
    (tmp_path / "alerts/host.rules.yml").write_text(RULES)
    (tmp_path / "alerts/alertmanager.yml").write_text("route: {}\n")
    dashboard = json.dumps({"uid": "host", "title": "Host {{x}}"})
    (tmp_path / "dashboards/host_processes.json").write_text(dashboard)
    built = _build(tmp_path)
    assert built.returncode == 0, built.stderr
    rule, board = json.loads(built.stdout)["items"]
    assert (rule["kind"], rule["metadata"]["name"]) == ("PrometheusRule", "deckwatch-host")
    assert rule["spec"] == yaml.safe_load(RULES)
    assert board["metadata"]["name"] == "deckwatch-dashboard-host-processes"
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert board["data"] == {"host_processes.json": dashboard}
    _validate(board)


def test_missing_input_files_are_reported_as_an_error(tmp_path: Path) -> None:
    built = _build(tmp_path)
    assert (built.returncode, built.stdout) == (1, "")
    assert "no rules and no dashboards" in built.stderr


def test_the_repositorys_own_rules_and_dashboards_are_built() -> None:
    root = DEPLOY.parent
    files = [*root.glob("alerts/*.rules.yml"), *root.glob("dashboards/*.json")]
    assert files
    items = json.loads(_build(root).stdout)["items"]
    assert len(items) == len(files)
    assert len({(it["kind"], it["metadata"]["name"]) for it in items}) == len(files)
    for item in items:
        if item["kind"] == "ConfigMap":
            _validate(item)
