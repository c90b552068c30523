"""Shortens the times of the shipped rules and routes, so that alerts fire within minutes: an hour becomes two minutes.

Only times change: `for`, `keep_firing_for`, look-back windows, and Alertmanager's waits.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable

FACTOR = 30
SCRAPE_INTERVAL = 5  # seconds
#: Six scrapes at five-second intervals. Rates over fewer samples would be unreliable.
SHORTEST_RANGE = 30

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LOOKED_BACK = re.compile(r"(?P<before>\[|offset )(?P<number>\d+)(?P<unit>[smhd])\b")
_WAITS = {"group_wait": (1, 10), "group_interval": (5, 10)}  # minimum and maximum, in seconds


def seconds(duration: str) -> int:
    """Convert a duration with a single unit, as used in the shipped files: `90s`, `5m`, `1h`."""
    return int(duration[:-1]) * _SECONDS[duration[-1]]


def shorten_rules(content: dict[str, Any]) -> dict[str, Any]:
    """Shorten the times in a parsed rule file.

    Host rules other than disk rules keep their times: this host's CPU, memory and clock are not part of the demo, and
    half a minute of load should not trigger an alert.
    """
    for group in content["groups"]:
        for rule in group["rules"]:
            if group["name"].startswith("deckwatch-host") and rule.get("labels", {}).get("family") != "host-disk":
                continue
            rule["expr"] = _LOOKED_BACK.sub(_looked_back, rule["expr"]).replace("* 3600)", f"* {3600 // FACTOR})")
            for name in ("for", "keep_firing_for"):
                if name in rule:
                    rule[name] = f"{max(seconds(rule[name]) // FACTOR, 2)}s"
    return content


def _looked_back(found: re.Match[str]) -> str:
    shorter = int(found["number"]) * _SECONDS[found["unit"]] // FACTOR
    return f"{found['before']}{max(shorter, SHORTEST_RANGE)}s"


def redirect(content: dict[str, Any], url: str, fast: bool) -> dict[str, Any]:
    """Keep Alertmanager's routes and inhibitions, but make every receiver the webhook at `url`."""
    content = {name: value for name, value in content.items() if name not in ("global", "templates")}
    content["receivers"] = [
        {"name": it["name"], "webhook_configs": [{"url": url, "send_resolved": True}]} for it in content["receivers"]
    ]
    if fast:
        _shorten_waits([content["route"]])
    return content


def _shorten_waits(routes: Iterable[dict[str, Any]]) -> None:
    for route in routes:
        for name, (shortest, longest) in _WAITS.items():
            if name in route:
                route[name] = f"{min(max(seconds(route[name]) // FACTOR, shortest), longest)}s"
        _shorten_waits(route.get("routes", []))


def until_message(rule: dict[str, Any], fast: bool, builds_up: float = 0, takes: float = 0) -> int:
    """Return the approximate seconds to an alert's message: build-up, `for`, scrape, evaluation, Alertmanager's wait.

    `builds_up` is the time until the rule's condition is true, at the shipped times; `takes` is never shortened.
    """
    wait = {"info": 300, "critical": 10}.get(rule["labels"]["severity"], 30)
    delivery = 2 * SCRAPE_INTERVAL + (max(wait / FACTOR, 1) if fast else wait)
    return round(takes + builds_up / (FACTOR if fast else 1) + seconds(rule.get("for", "0s")) + delivery)


def dump(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
