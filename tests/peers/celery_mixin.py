"""The queries of a Prometheus mixin: of its dashboards, of their variables, and of its alerts."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

#: Values of Grafana's variables, beside those that depend on what is monitored. No target has these labels.
_VARIABLES = {"cluster": "", "namespace": "", "__rate_interval": "5m", "__range": "1h"}
_LABEL_VALUES = re.compile(r"label_values\((.+), *(\w+)\)", re.DOTALL)


def queries(mixin: Path, variables: Mapping[str, str]) -> list[str]:
    """The PromQL of a folder with `dashboards_out/*.json` and `prometheus_alerts.yaml`, each query once.

    `variables` are those of the dashboards, as regular expressions.
    """
    found = [
        query
        for file in sorted(mixin.glob("dashboards_out/*.json"))
        for text in _texts(json.loads(file.read_text()))
        if (query := _promql(text, {**_VARIABLES, **variables})) is not None
    ]
    groups = yaml.safe_load((mixin / "prometheus_alerts.yaml").read_text())["groups"]
    found += [" ".join(rule["expr"].split()) for group in groups for rule in group["rules"]]
    return list(dict.fromkeys(found))


def _texts(node: Any) -> Iterator[str]:
    """What Grafana sends to its data source: `expr` of panels, `query` of variables."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("expr", "query") and isinstance(value, str):
                yield value
            else:
                yield from _texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value)


def _promql(text: str, variables: Mapping[str, str]) -> str | None:
    """A query with the values of variables; None for the choice of a data source and of what no target has."""
    if "celery_" not in text:
        return None
    if variable := _LABEL_VALUES.fullmatch(text.strip()):
        series, label = variable.groups()
        if label in _VARIABLES:
            return None
        name, _, matchers = series.removesuffix("}").partition("{")
        text = f'group by ({label}) ({name}{{{label}!="",{matchers}}})'
    text = re.sub(r"\$\{?(\w+)\}?", lambda name: variables[name[1]], text)
    return " ".join(text.split())
