"""The alerts that fire in Prometheus, for the status page."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from deckwatch.collection.status import AlertStatus
from deckwatch.pack.gate import SEVERITIES, WATCHDOG
from deckwatch.pack.json_api import ApiError, JsonApi

if TYPE_CHECKING:
    from collections.abc import Iterable

    from deckwatch.metrics.declaration import Sample

_MAX_SHOWN = 200


class FiringAlerts:
    """A collector without samples: it keeps `firing` and `problem` up to date. Raises ValueError for a wrong URL."""

    def __init__(self, url: str) -> None:
        self._prometheus = JsonApi("Prometheus", url, timeout=5.0)
        self.firing: tuple[AlertStatus, ...] = ()
        self.problem = ""

    def collect(self) -> Iterable[Sample]:
        try:
            _, answer = self._prometheus.get("/api/v1/alerts")
            self.firing = _firing(answer)
            self.problem = ""
        except ApiError as failure:
            self.firing, self.problem = (), f"Alerts are unknown: {failure}"
        except (AttributeError, KeyError, TypeError):
            self.firing, self.problem = (), "Alerts are unknown: prometheus_url does not answer like Prometheus."
        return ()


def _firing(answer: Any) -> tuple[AlertStatus, ...]:
    """Return the firing alerts of an answer of /api/v1/alerts, worst first.

    Raises KeyError or TypeError for another answer.
    """
    found = []
    for alert in answer["data"]["alerts"]:
        labels, annotations = alert["labels"], alert.get("annotations", {})
        if alert["state"] == "firing" and labels["alertname"] != WATCHDOG:
            found.append(
                AlertStatus(
                    name=labels["alertname"],
                    severity=labels.get("severity", ""),
                    summary=annotations.get("summary", ""),
                    description=annotations.get("description", ""),
                    runbook_url=annotations.get("runbook_url", ""),
                    since=_time(alert.get("activeAt", "")),
                )
            )
    rank = {severity: number for number, severity in enumerate(SEVERITIES)}
    found.sort(key=lambda alert: (rank.get(alert.severity, len(rank)), alert.name))
    return tuple(found[:_MAX_SHOWN])


def _time(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
