"""The dashboard of a config's objectives, over simulated series that promtool evaluates with the exported rules."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from deckwatch.collection.registry import Registry
from deckwatch.config import load_config
from deckwatch.pack.slo_dashboard import SLO_DASHBOARD, slo_dashboard
from deckwatch.pack.slos import SLO_FILE, slo_rules
from services import deckwatch_command, installed

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """
exporters: {}
slos:
  - {name: checkout, service: shop, route: /checkout, objective: 99}
  - {name: jobs, good: 'job_runs_total{outcome="ok"}', total: job_runs_total, objective: 90}
"""
#: 0.5 % of the requests of `checkout` fail, and 20 % of the jobs: half of its budget, and twice its budget.
SERIES = {
    'http_requests_total{service="shop", route="/checkout", status="200"}': "0+1194x720",
    'http_requests_total{service="shop", route="/checkout", status="503"}': "0+6x720",
    'job_runs_total{outcome="ok"}': "0+48x720",
    'job_runs_total{outcome="failed"}': "0+12x720",
}
#: What each panel shows for `checkout` and `jobs`; of the table, each column.
SHOWN: dict[str, list[tuple[float, float]]] = {
    "Error budget remaining": [(0.5, -1)],
    "Objectives": [(0.99, 0.9), (0.005, 0.2), (0.5, -1), (0.5, 2), (20, 1)],
    "Error budget remaining over time": [(0.5, -1)],
    "Burn rate, 1h": [(0.5, 2)],
    "Burn rate, 6h": [(0.5, 2)],
    "Burn rate, 3d": [(0.5, 2)],
    "Failed requests": [(0.005, 0.2)],
    "Requests per second": [(20, 1)],
}


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(slo_dashboard())["panels"]
    return found


def filled(panel: dict[str, Any], chosen: str) -> list[str]:
    return [target["expr"].replace("$slo", chosen) for target in panel["targets"]]


def test_every_panel_shows_the_state_of_each_objective(tmp_path: Path) -> None:
    path = tmp_path / "deckwatch.yml"
    path.write_text(CONFIG)
    (tmp_path / SLO_FILE).write_bytes(slo_rules(load_config(path, {}, Registry.installed()).settings.slos))
    assert [panel["title"] for panel in panels()] == list(SHOWN)
    questions = []
    for panel in panels():
        for query, values in zip(filled(panel, ".+"), SHOWN[panel["title"]], strict=True):
            # Without the name of the metric, and rounded, since promtool compares exactly.
            samples = [
                {"labels": f'{{slo="{slo}"}}', "value": value}
                for slo, value in zip(("checkout", "jobs"), values, strict=True)
            ]
            expression = f"max by (slo, cluster) (round({query}, 0.0001))"
            questions.append({"expr": expression, "eval_time": "11h", "exp_samples": samples})
        questions += [{"expr": it, "eval_time": "11h", "exp_samples": []} for it in filled(panel, "other")]
    test = {
        "rule_files": [SLO_FILE],
        "group_eval_order": ["deckwatch-slos-recording", "deckwatch-slos-budget", "deckwatch-slos"],
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": series, "values": values} for series, values in SERIES.items()],
                "promql_expr_test": questions,
            }
        ],
    }
    (tmp_path / "dashboard.test.yml").write_text(yaml.safe_dump(test))
    command = [installed("promtool"), "test", "rules", "dashboard.test.yml"]
    tested = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_panels_have_descriptions_units_and_places_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["noValue"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + 8)}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in panels()}) == len(panels())


@pytest.mark.parametrize(("config", "is_written"), [(CONFIG, True), ("exporters: {}\n", False)])
def test_the_export_has_the_dashboard_if_objectives_are_configured(
    tmp_path: Path, config: str, is_written: bool
) -> None:
    (tmp_path / "deckwatch.yml").write_text(config)
    folder = tmp_path / "out"
    command = deckwatch_command("dashboards", "export", str(folder), "--config", str(tmp_path / "deckwatch.yml"))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / SLO_DASHBOARD).exists() == is_written
    assert (folder / "overview.json").exists()


def test_the_alerts_of_objectives_link_to_the_dashboard() -> None:
    rules = yaml.safe_load(slo_rules(()))["groups"][-1]["rules"]
    assert {rule["annotations"]["dashboard_url"] for rule in rules} == {f"/d/{json.loads(slo_dashboard())['uid']}"}
