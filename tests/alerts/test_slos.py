"""The rules of a config's objectives, evaluated by promtool."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from deckwatch.collection.registry import Registry
from deckwatch.config import ConfigError, load_config
from deckwatch.pack.slos import SLO_FILE, slo_rules
from services import deckwatch_command, installed

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """
exporters: {system: {}}
slos:
  - {name: checkout, service: shop, route: /checkout, objective: 99.9}
  - {name: jobs, good: 'job_runs_total{outcome="ok"}', total: job_runs_total, objective: 99}
"""
FIRING = 'max by (slo, window, severity) (ALERTS{alertname="SloBudgetBurning", alertstate="firing"})'
SEVERITY = {"1h": "critical", "6h": "critical", "3d": "warning"}
OK = 'http_requests_total{service="shop",route="/checkout",method="GET",status="200"}'
FAILED = 'http_requests_total{service="shop",route="/checkout",method="GET",status="500"}'
OTHER = 'http_requests_total{service="shop",route="/other",method="GET",status="500"}'


def _loaded(folder: Path, text: str) -> bytes:
    path = folder / "deckwatch.yml"
    path.write_text(text)
    return slo_rules(load_config(path, {}, Registry.installed()).settings.slos)


#: Series, the time of the question, and the windows of the alerts that fire for `checkout`.
CASES: dict[str, tuple[dict[str, str], str, set[str]]] = {
    "no failure": ({OK: "0+600x600"}, "9h", set()),
    "every request fails, and none ever succeeded": ({FAILED: "0+600x120"}, "2h", {"1h", "6h", "3d"}),
    "10 % fail since an hour": ({OK: "0+540x600", FAILED: "0x480 0+60x120"}, "9h", {"1h", "6h"}),
    "0.8 % fail since 7 hours": ({OK: "0+992x600", FAILED: "0x120 0+8x480"}, "10h", {"6h", "3d"}),
    "0.2 % fail since 3 days": ({OK: "0+1996x2190", FAILED: "0+4x2190"}, "73h", {"3d"}),
    "0.05 % fail since 3 days": ({OK: "0+3998x2190", FAILED: "0+2x2190"}, "73h", set()),
    "failures have stopped, but part of the budget is gone": (
        {OK: "0+600x600", FAILED: "0x420 0+60x59 3540x120"},
        "10h",
        {"3d"},
    ),
    "one failure among few requests": ({OK: "0+1x600", FAILED: "0x590 1x10"}, "10h", set()),
    "no traffic": ({OK: "1000x600", FAILED: "10x600"}, "10h", set()),
    "a restart of the counters": ({OK: "0+600x300 0+600x300", FAILED: "90x300 0x300"}, "10h", set()),
    "failures of another route": ({OK: "0+600x600", OTHER: "0+600x600"}, "10h", set()),
    "a gap in the data": ({OK: "0+600x300 _x60 200000+600x240", FAILED: "0x300 _x60 0x240"}, "10h", set()),
}


@pytest.mark.parametrize("name", CASES)
def test_an_alert_fires_when_the_budget_burns_and_only_then(tmp_path: Path, name: str) -> None:
    series, at, fires = CASES[name]
    (tmp_path / SLO_FILE).write_bytes(_loaded(tmp_path, CONFIG))
    wanted = [
        {
            "labels": f'{{severity="{SEVERITY[window]}", slo="checkout", window="{window}"}}',
            "value": 1,
        }
        for window in sorted(fires)
    ]
    step = "2m" if at == "73h" else "1m"  # promtool takes half a minute for three days of minutes
    test = {
        "rule_files": [SLO_FILE],
        "group_eval_order": ["deckwatch-slos-recording", "deckwatch-slos-budget", "deckwatch-slos"],
        "evaluation_interval": step,
        "tests": [
            {
                "interval": step,
                "input_series": [{"series": key, "values": values} for key, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": FIRING,
                        "eval_time": at,
                        "exp_samples": wanted,
                    }
                ],
            }
        ],
    }
    (tmp_path / "slos.test.yml").write_text(yaml.safe_dump(test))
    tested = subprocess.run(
        [installed("promtool"), "test", "rules", "slos.test.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_export_writes_the_rules_and_prometheus_accepts_them(tmp_path: Path) -> None:
    (tmp_path / "deckwatch.yml").write_text(CONFIG)
    command = deckwatch_command("alerts", "export", str(tmp_path / "out"), "--config", str(tmp_path / "deckwatch.yml"))
    exported = subprocess.run(command, capture_output=True, text=True, check=False)
    assert exported.returncode == 0, exported.stdout + exported.stderr
    rules = tmp_path / "out" / SLO_FILE
    assert str(rules) in exported.stdout
    checked = subprocess.run(
        [installed("promtool"), "check", "rules", rules], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "duplicate" not in checked.stdout


def test_export_without_objectives_writes_no_rules_for_them(tmp_path: Path) -> None:
    (tmp_path / "deckwatch.yml").write_text("exporters: {system: {}}\n")
    command = deckwatch_command("alerts", "export", str(tmp_path / "out"), "--config", str(tmp_path / "deckwatch.yml"))
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert not (tmp_path / "out" / SLO_FILE).exists()


def test_a_value_of_the_config_cannot_leave_its_matcher(tmp_path: Path) -> None:
    text = "slos:\n  - {name: a, route: '/x\"} or vector(1) #', objective: 99}\n"
    (tmp_path / SLO_FILE).write_bytes(_loaded(tmp_path, text))
    checked = subprocess.run(
        [installed("promtool"), "check", "rules", tmp_path / SLO_FILE], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert r'route="/x\"} or vector(1) #"' in (tmp_path / SLO_FILE).read_text().replace(r"\\", "\\")


@pytest.mark.parametrize(
    ("slo", "where", "why"),
    [
        ("{name: a, service: s, objective: 0.999}", "objective", "a percentage from 50 to below 100, such as 99.9"),
        ("{name: a, service: s, objective: 100}", "objective", "a percentage from 50 to below 100"),
        ("{name: a, service: s}", "objective", "is missing"),
        ("{service: s, objective: 99}", "name", "is missing"),
        ("{name: a, objective: 99}", "", "`good` and `total`, or `service` and `route` of HTTP requests"),
        ("{name: a, good: b_total, objective: 99}", "", "`good` and `total`"),
        ("{name: a, good: b_total, total: c_total, route: /, objective: 99}", "", "not both"),
        ("{name: a, good: 'rate(b_total[5m])', total: c_total, objective: 99}", "good", "without rate() and [5m]"),
        ("{name: a, good: 'b_total{c=d}', total: c_total, objective: 99}", "good", "a counter with optional matchers"),
        ("{name: 'a b', service: s, objective: 99}", "name", "a name of 1 to 63 letters"),
        ("{name: a, service: s, objective: 99, windows: 1d}", "windows", "unknown key"),
    ],
)
def test_a_wrong_objective_is_an_error_that_says_what_is_right(tmp_path: Path, slo: str, where: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _loaded(tmp_path, f"slos:\n  - {slo}\n")
    (problem,) = caught.value.problems
    assert "slos" in str(problem)
    assert where in str(problem)
    assert why in str(problem)


def test_two_objectives_of_one_name_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'a' is there twice"):
        _loaded(tmp_path, "slos:\n  - {name: a, service: s, objective: 99}\n  - {name: a, service: t, objective: 99}\n")
