"""Prometheus rules for the service level objectives of a config.

Burn rates and windows are those of https://sre.google/workbook/alerting-on-slos/, section 6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deckwatch.config.slo_settings import SloSettings

SLO_FILE = "slos.rules.yml"
_HEADER = "# Service level objectives. Written by `deckwatch alerts export` from `slos` in the config.\n"
#: Longer windows add up the recorded 5-minute rates: reading the counters of 30 days would be expensive.
_WINDOWS = ("30m", "1h", "6h", "3d")
BURNS = (
    # burn rate, long and short window, severity, least number of failures, for, budget that the long window has spent
    (14.4, "1h", "5m", "critical", "1h", "2m", "2 %"),
    (6, "6h", "30m", "critical", "6h", "5m", "5 %"),
    (1, "3d", "6h", "warning", "", "1h", "10 %"),
)
_MIN_FAILURES = 10
_RUNBOOK = "https://github.com/deckwatch/deckwatch/blob/main/alerts/runbooks/SloBudgetBurning.md"


def slo_rules(slos: Iterable[SloSettings]) -> bytes:
    """The rule file for these objectives."""
    counted = [rule for slo in slos for rule in _counted(slo)]
    groups = [
        {"name": "deckwatch-slos-recording", "rules": [*counted, *_ratios()]},
        {"name": "deckwatch-slos-budget", "interval": "2m", "rules": _budget()},
        {"name": "deckwatch-slos", "rules": [_alert(*burn) for burn in BURNS]},
    ]
    text = yaml.safe_dump({"groups": groups}, sort_keys=False, width=1000, allow_unicode=True)
    return (_HEADER + text).encode()


def selectors(slo: SloSettings) -> tuple[str, str]:
    """The counters of good and of all requests."""
    if slo.good is not None and slo.total is not None:
        return slo.good, slo.total
    wanted = {"service": slo.service, "route": slo.route}
    matchers = [f'{label}="{_escaped(value)}"' for label, value in wanted.items() if value is not None]
    total = f"http_requests_total{{{', '.join(matchers)}}}"
    successful = [*matchers, 'status!~"5.."']
    good = f"http_requests_total{{{', '.join(successful)}}}"
    return good, total


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _counted(slo: SloSettings) -> Iterable[dict[str, Any]]:
    good, total = selectors(slo)
    labels = {"slo": slo.name}

    def summed(function: str, window: str) -> tuple[str, str]:
        # Without a single good request, there may be no series of good requests.
        of_all = f"sum by (cluster) ({function}({total}[{window}]))"
        return f"(sum by (cluster) ({function}({good}[{window}])) or 0 * {of_all})", of_all

    good_rate, rate = summed("rate", "5m")
    yield {"record": "slo:objective:ratio", "expr": f"vector({round(slo.objective / 100, 10)})", "labels": labels}
    yield {"record": "slo:good_requests:rate5m", "expr": good_rate, "labels": labels}
    yield {"record": "slo:requests:rate5m", "expr": rate, "labels": labels}
    for window in ("1h", "6h"):
        good_increase, increase = summed("increase", window)
        yield {"record": f"slo:failures:increase{window}", "expr": f"{increase} - {good_increase}", "labels": labels}


def _ratios() -> Iterable[dict[str, Any]]:
    yield {
        "record": "slo:error_ratio:rate5m",
        "expr": "clamp_min(1 - slo:good_requests:rate5m / slo:requests:rate5m, 0)",
    }
    for window in _WINDOWS:
        yield {"record": f"slo:error_ratio:rate{window}", "expr": _ratio(window)}


def _ratio(window: str) -> str:
    good, of_all = (f"sum_over_time(slo:{name}:rate5m[{window}])" for name in ("good_requests", "requests"))
    return f"clamp_min(1 - {good} / {of_all}, 0)"


def _budget() -> list[dict[str, Any]]:
    remaining = "1 - slo:error_ratio:rate30d / on (slo) group_left () (1 - slo:objective:ratio)"
    return [
        {"record": "slo:error_ratio:rate30d", "expr": _ratio("30d")},
        {"record": "slo:error_budget_remaining:ratio", "expr": remaining},
    ]


def _alert(burn: float, long: str, short: str, severity: str, failures: str, wait: str, spent: str) -> dict[str, Any]:
    limit = f"on (slo) group_left () ({burn} * (1 - slo:objective:ratio))"
    expr = f"slo:error_ratio:rate{long} > {limit}\nand\nslo:error_ratio:rate{short} > {limit}"
    if failures:
        expr += f"\nand\nslo:failures:increase{failures} >= {_MIN_FAILURES}"
    return {
        "alert": "SloBudgetBurning",
        "expr": expr,
        "for": wait,
        "labels": {"severity": severity, "team": "application", "family": "slo", "window": long},
        "annotations": {
            "summary": "A service misses its objective.",
            "description": "{{ $value | humanizePercentage }} of the requests of SLO {{ $labels.slo }} failed "
            f"within {long}: {burn:g} times what its objective allows. At this rate, {long} spend "
            f"{spent} of the budget of 30 days.",
            "runbook_url": _RUNBOOK,
            "dashboard_url": "/d/deckwatch-slos",
        },
    }
