"""Prints the alert rules as PrometheusRule objects and the dashboards as ConfigMaps, for `kubectl apply -f -`.

    python deploy/kubernetes/build.py | kubectl apply --server-side -f -

The rules and dashboards stay where they are; what is printed is committed nowhere. Needs PyYAML, as the agent does.
`--server-side`, as a dashboard may be larger than the 256 KiB that an annotation may hold.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import yaml

_ROOT = Path(__file__).resolve().parents[2]
_LARGEST = 1024 * 1024  # bytes of a ConfigMap's data (https://kubernetes.io/docs/concepts/configuration/configmap/)


def objects(root: Path, namespace: str) -> list[dict[str, Any]]:
    """One object for each file, so that a changed file changes one object. Raises ValueError for one too large."""
    rules = [_rule(file, namespace) for file in sorted((root / "alerts").glob("*.rules.yml"))]
    dashboards = [_dashboard(file, namespace) for file in sorted((root / "dashboards").glob("*.json"))]
    return rules + dashboards


def _rule(file: Path, namespace: str) -> dict[str, Any]:
    name = file.name.removesuffix(".rules.yml")
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": _metadata(name, namespace, {}),
        "spec": yaml.safe_load(file.read_text()),
    }


def _dashboard(file: Path, namespace: str) -> dict[str, Any]:
    text = file.read_text()
    if len(text.encode()) > _LARGEST:
        raise ValueError(f"{file} is larger than a ConfigMap may be ({_LARGEST} bytes)")
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        # The label that the sidecar of Grafana's Helm chart looks for.
        "metadata": _metadata(f"dashboard-{file.stem}", namespace, {"grafana_dashboard": "1"}),
        "data": {file.name: text},
    }


def _metadata(name: str, namespace: str, labels: dict[str, str]) -> dict[str, Any]:
    name = "deckwatch-" + name.removeprefix("deckwatch-").replace("_", "-")
    return {"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/name": "deckwatch", **labels}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--namespace", default="deckwatch", help="where the objects go (deckwatch)")
    parser.add_argument("--root", type=Path, default=_ROOT, help="the folder with alerts/ and dashboards/")
    options = parser.parse_args()
    try:
        found = objects(options.root, options.namespace)
    except (OSError, ValueError, yaml.YAMLError) as wrong:
        sys.stderr.write(f"{wrong}\n")
        return 1
    if not found:
        sys.stderr.write(f"there are no rules and no dashboards in {options.root}\n")
        return 1
    json.dump({"apiVersion": "v1", "kind": "List", "items": found}, sys.stdout, indent=1)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
